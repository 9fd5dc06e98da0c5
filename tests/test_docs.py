"""The pages of docs/ keep up with the code: what docstrings refer to is there, and what can be chosen is named."""

import re

import pytest

from heal_lib import baselines, gear, scales, tables, worlds
from heal_lib.files import ROOT

METHOD = (ROOT / "docs" / "method.md").read_text(encoding="utf-8")
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
CODE = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
        for folder, kind in (("heal_lib", "*.py"), ("notebooks", "*.ipynb")) for path in (ROOT / folder).rglob(kind)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_and_picture_is_there_where_the_page_is_read_in_the_repository(page):
    links = re.findall(r"\]\(([^)\s]+)[^)]*\)", page.read_text(encoding="utf-8"))
    files = [link.partition("#")[0] for link in links if not re.match(r"https?:|mailto:|#", link)]
    assert [file for file in files if not (page.parent / file).exists()] == []


def _section(number):
    return re.split(r"^## ", METHOD, flags=re.M)[number + 1]


def test_every_section_and_mark_that_the_code_refers_to_is_there():
    sections = set(re.findall(r"^## (\d)\. ", METHOD, re.M))
    named = {(file, number) for file, text in CODE.items()
             for number in re.findall(r"docs/method.md, section (\d+)", text)}
    assert named and {number for _, number in named} <= sections, named
    marks = {mark for text in CODE.values() for mark in re.findall(r"\[([A-Z](?:/[A-Z])?)\]", text)}
    told = {part for mark in marks for part in mark.split("/")} & set("PSR")
    assert told <= set(re.findall(r"\*\*\[(\w)\]\*\*", METHOD))


@pytest.mark.parametrize("number, names", [
    (5, [*baselines.MAIN, *baselines.MODULES, *gear.CUT_RULES]),
    (6, [*worlds.names(), *worlds.names("registers"), "stories", "math"]), (7, list(tables.SWITCHES))])
def test_what_can_be_chosen_is_named(number, names):
    assert [name for name in names if f"`{name}`" not in _section(number)] == []


def test_defaults_of_switches_are_those_of_the_code():
    usual = {name: default for name, (_, _, default) in scales.kinds().items()}
    told = dict(re.findall(r"`(\w+)` ([^·`]+?)\s*(?=·|\n\n)", _section(7)))
    assert told.keys() == set(tables.SWITCHES)
    for name, text in told.items():
        value = scales.parse(name, re.sub(r" \(.*\)", "", text).strip('"'))
        assert value == usual[name], name
