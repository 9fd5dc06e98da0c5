"""`heal distil` around its stages, which are given here; `test_llm.py` runs them."""

import json
from types import SimpleNamespace

import pandas as pd
import pytest

from heal_lib import distil, evaluation, llm, scales

COMMAND = ["--data", "problems.csv", "--teacher", "a", "--student", "b", "--out", "out"]


def trained(monkeypatch, methods):
    samples = pd.DataFrame({"method": methods, "benchmark": llm.POOLED})
    monkeypatch.setattr(llm, "students", lambda run, methods: (samples, samples))


@pytest.fixture
def given(tmp_path, monkeypatch):
    """What the command line hands to the stages. OUT holds what an earlier command made; HEAL's student is given."""
    monkeypatch.chdir(tmp_path)
    for file, text in (("out/student/model.safetensors", "old"), ("out/per_sample/heal.parquet", "old"),
                       ("trained/stage-1/model.safetensors", "new")):
        (tmp_path / file).parent.mkdir(parents=True)
        (tmp_path / file).write_text(text)
    run, seen = SimpleNamespace(cfg=scales.get("smoke"), student=lambda method, seed: tmp_path / "trained"), {}
    monkeypatch.setattr(distil, "experiment", lambda *paths, **more: seen.update(more) or run)
    trained(monkeypatch, ["student"])
    monkeypatch.setattr(llm, "ceiling", lambda run: pd.DataFrame({"n_problems": [2]}))
    monkeypatch.setattr(evaluation, "save_samples", lambda samples, out: None)
    monkeypatch.setattr(evaluation, "results_table", lambda samples, **more: samples)
    monkeypatch.setattr(distil, "page", lambda *tables: "# Distillation")
    monkeypatch.setattr(distil, "data", lambda run: pd.DataFrame())
    monkeypatch.setattr(distil, "environment", dict)
    return seen


@pytest.mark.parametrize(("methods", "kept"), [(["student", "heal"], "new"), (["student"], None)])
def test_the_student_that_is_named_is_the_one_that_this_command_trained(
        given, tmp_path, monkeypatch, capsys, methods, kept):
    trained(monkeypatch, methods)
    assert distil.main([*COMMAND, "--json"]) == 0
    said, weights = capsys.readouterr(), tmp_path / "out" / "student" / "model.safetensors"
    assert (weights.read_text() if weights.exists() else None) == kept
    assert (tmp_path / "out" / "per_sample" / "heal.parquet").exists() == bool(kept)
    assert json.loads(said.out)["student"] == ("out/student" if kept else None)
    assert ("the student in out/student" in said.err) == bool(kept) and "the report is out/report.md" in said.err


def test_a_hint_of_none_is_a_setting_and_not_its_absence(given):
    assert distil.main([*COMMAND, "-p", "hint", "none", "-p", "n_samples", "3"]) == 0
    assert given == {"backend": None, "hint": "none", "n_samples": 3}


def test_a_backend_may_be_given_like_any_other_setting(given):
    assert distil.main([*COMMAND, "-p", "backend", "hf"]) == 0 and given == {"backend": "hf"}


@pytest.mark.parametrize("name", ["teacher", "student"])
def test_a_model_is_not_overwritten_by_what_is_trained_from_it(tmp_path, monkeypatch, capsys, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out" / "student").mkdir(parents=True)
    assert distil.main([*COMMAND, f"--{name}", "out/student"]) == 2
    said = f"heal: --{name} is out/student, where what is trained is written; give another --out\n"
    assert capsys.readouterr().err == said and (tmp_path / "out" / "student").is_dir()
