"""The teachers of several families, behind one server."""

import importlib.util

import pytest

from heal_lib import embedded, scales, serve
from heal_lib.engines import openai
from heal_lib.engines.hf import HFEngine
from heal_lib.errors import HealError
from heal_lib.experiment import Experiment
from heal_lib.store import Store

pytestmark = pytest.mark.skipif(importlib.util.find_spec("openai") is None, reason="needs openai")


@pytest.fixture(autouse=True)
def nowhere(monkeypatch, tmp_path):
    for name, value in (("OPENAI_BASE_URL", "http://localhost:1/v1"), ("HEAL_SERVED_MODEL", ""),
                        ("HEAL_CACHE", str(tmp_path))):
        monkeypatch.setenv(name, value)


def test_one_name_for_the_teachers_of_two_families_is_refused_before_anything_is_asked(monkeypatch):
    said = "^teacher_name is 'big', and smoke has 2 teachers .teacher, registers-teacher.; leave it .* out"
    with pytest.raises(HealError, match=said):
        scales.get("smoke", engine="openai", teacher_name="big")
    two = scales.get("smoke", engine="openai")  # what was refused has set nothing
    assert openai.served("teacher") == "teacher"
    monkeypatch.setenv("HEAL_SERVED_MODEL", "big")
    with pytest.raises(HealError, match=said):
        scales.get("smoke", engine="openai")
    assert scales.get("smoke", engine="hf") and scales.get("smoke", engine="openai", worlds=["registers"])
    assert scales.get("smoke", engine="openai", teacher="student").worlds == two.worlds  # one model for both


def test_each_is_asked_for_by_its_own_name_and_all_is_counted(monkeypatch, tmp_path):
    monkeypatch.setattr(Experiment, "_n_workers", lambda run: 1)
    names = ["teacher", "registers-teacher"]
    models = {name: HFEngine(*embedded.load(name)) for name in names}
    small = {"worlds": ["registers", "equations"], "difficulties": ["easy"], "n_distil": 1, "n_samples": 2}
    with serve.Server(models["teacher"], models=models) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        there = Experiment(scales.get("smoke", engine="openai", **small), Store(tmp_path / "a")).pool()
    here = Experiment(scales.get("smoke", **small), Store(tmp_path / "b")).pool()
    assert there["token_ids"] == here["token_ids"] and len(here) == 4
    assert sorted(request["model"] for request in server.asked) == sorted(2 * names)
    assert openai.used(*names, "teacher") == {  # a journal that two share counts once
        "answers": 4, "prompt_tokens": sum(len(request["prompt"]) for request in server.asked),
        "drawn_tokens": sum(map(len, here["token_ids"]))}
