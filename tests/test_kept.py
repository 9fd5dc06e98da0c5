"""What students answered in an earlier sitting: found on another machine, and made anew where anything differs."""

import numpy as np
import pandas as pd
import pytest
from micro import micro

from heal_lib import evaluation, kept, pace_tables, students, tables
from heal_lib.experiment import Experiment
from heal_lib.stage import Keyed, Stage
from heal_lib.store import Store

METHODS = ["student", "sft-rs"]


def stage(**inputs):
    return Stage("a stage", students.families, inputs)


@pytest.fixture
def sittings(says, monkeypatch, tmp_path):
    """(first, later): the samples of a run that were saved to its results; what makes a run in another place."""
    monkeypatch.setattr(kept, "ROOT", tmp_path)
    first = Experiment(micro(seeds=[0], learning_rates=[0.001, 0.01]), Store(tmp_path / "first"))
    samples, home = first.evaluations(METHODS), tmp_path / "results" / "smoke"
    evaluation.save_samples(samples, home)
    evaluation.save_samples(first.development(["sft-rs"]), home, "development")
    monkeypatch.setenv(kept.ASKED, "1")

    def later(**overrides):
        return Experiment(micro(**{"learning_rates": [0.001, 0.01], **overrides}), Store(tmp_path / "later"))

    return samples, later


def made(run):
    return {event.name for event in run.store.events if event.what == "made"}


def test_what_is_kept_is_not_made_again_and_says_the_same(sittings):
    samples, later = sittings
    run = later()
    again = run.evaluations(METHODS)
    columns = ["method", "seed", "benchmark", "problem_id", "sample", "correct", "genuine", "n_generated", "recipe"]
    pd.testing.assert_frame_equal(again[columns].sort_values(columns, ignore_index=True),
                                  samples[columns].sort_values(columns, ignore_index=True), check_dtype=False)
    assert again["benchmark"].unique().tolist() == samples["benchmark"].unique().tolist()  # in the order of levels
    assert not [name for name in made(run) if name.startswith(("student", "evaluation"))]
    assert [event.name for event in run.store.events if event.what == "kept"].count(
        "evaluation sft-rs equations seed 0") == 1
    assert run.trained("sft-rs", [0, 1]) == [1]
    assert pace_tables.training_logs(run, ["sft-rs"]).empty
    assert np.isnan(tables.method_costs(run, ["sft-rs"])["training_seconds"].item())


def test_a_later_sitting_adds_seeds(sittings):
    _, later = sittings
    run = later(seeds=[0, 1])
    assert run.evaluations(METHODS).groupby("method")["seed"].unique().map(list).to_dict() == {
        "student": [0, 1], "sft-rs": [0, 1]}
    assert [name for name in sorted(made(run)) if name.startswith("student")] == [
        "student sft-rs equations seed 1 rate 0.001"] or "student sft-rs equations seed 1 rate 0.01" in made(run)


@pytest.mark.parametrize("changed", [{"train_tokens": 1900}, {"per_problem_cap": 1}, {"n_samples": 6}])
def test_another_switch_makes_students_anew(sittings, changed):
    _, later = sittings
    rates, same, other = [0.001, 0.01], later(), later(**changed)
    known, new = ([run.kept.rows(students.evaluation(run.cfg, "sft-rs", 0, rate)) for rate in rates]
                  for run in (same, other))
    assert sum(rows is not None for rows in known) == 1 and new == [None, None]


def test_without_being_asked_nothing_is_kept(sittings, monkeypatch):
    _, later = sittings
    monkeypatch.delenv(kept.ASKED)
    assert later().kept.rows(students.evaluation(micro(), "student", 0)) is None


def test_rows_that_are_not_all_there_do_not_count(sittings, tmp_path):
    _, later = sittings
    file = tmp_path / "results" / "smoke" / "per_sample" / "student.parquet"
    rows, asked = pd.read_parquet(file), students.evaluation(micro(learning_rates=[0.001, 0.01]), "student", 0)
    assert len(later().kept.rows(asked)) == len(rows)
    rows.iloc[1:].to_parquet(file)
    assert later().kept.rows(asked) is None


def test_a_recipe_knows_settings_and_stages_but_not_what_these_came_out_as():
    found = kept.Kept("smoke")
    one, two = stage(n=1), stage(n=2)
    assert found.recipe(one) == kept.Kept("smoke").recipe(stage(n=1)) != found.recipe(two)
    assert found.recipe(stage(of=one)) != found.recipe(stage(of=two)) == found.recipe(stage(of=stage(n=2)))
    assert found.recipe(stage(model=Keyed("a", 1))) == found.recipe(stage(model=Keyed("b", 1)))
    assert found.recipe(stage(model=Keyed("a", 1))) != found.recipe(stage(model=Keyed("a", 2)))
    found.models |= {"here": one, "there": stage(n=1)}  # the same model, trained twice, its weights rounded otherwise
    assert found.recipe(stage(model=Keyed("here", 1))) == found.recipe(stage(model=Keyed("there", 2)))
