"""README as it is committed, and the parameters of the notebooks that it tells of."""

import dataclasses
import re

import pytest

from heal_lib import report, scales, tables
from heal_lib.notebooks import FOLDER, declared, parse_value


@pytest.mark.parametrize("path", sorted(FOLDER.glob("0[0-8]_*.ipynb")), ids=lambda path: path.stem)
def test_parameters_are_fields_of_the_scale_and_stand_at_their_defaults(path):
    fields = {field.name: field.default for field in dataclasses.fields(scales.Scale)}
    for name, default in declared(path).items():
        if name.startswith("price_"):  # what a token costs is no setting of a run
            continue
        assert name in {*fields, *scales.SERVER, "scale"}, f"{name} is no field of Scale"
        if name in fields and (value := parse_value(default.replace(" / ", "/"))) is not None:
            assert value == fields[name], f"{name}: the notebook says {value!r}, the scale {fields[name]!r}"


def test_every_switch_can_be_set_in_the_ablations_notebook():
    assert set(tables.SWITCHES) <= set(declared(FOLDER / "06_ablations.ipynb"))


def test_readme_links_every_notebook_and_findings():
    text = report.README.read_text()
    for path in FOLDER.glob("*.ipynb"):
        assert f"/notebooks/{path.name}" in text or path.name.startswith("08_"), f"README does not link {path.name}"
    assert "](FINDINGS.md)" in text


@pytest.mark.parametrize("name", ["smoke", "demo", "full", "parts", "orders", "sweep", "sweep-registers"])
def test_readme_has_the_seeds_of_each_scale(name):
    assert re.search(rf"\| `{name}` .*\| {len(scales.get(name).seeds)} \|", report.README.read_text())


def test_readme_is_current():
    assert report.readme_is_current(), "README.md does not show what is committed: run heal reproduce --write-readme"
