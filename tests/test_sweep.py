"""The sweep over teachers, with models that know nothing."""

import functools
import json
import os
import types

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from heal_lib import embedded, knobs, scales, sweep, when
from heal_lib.embedded import card, corpus
from heal_lib.errors import HealError
from heal_lib.files import ROOT
from heal_lib.plots import maps
from heal_lib.store import Store
from heal_lib.worlds.registers import Habit

GRID = {"sweep_hinted": [0.25, 0.95], "sweep_unprompted": [0.003], "sweep_texts": 30,
        "sweep_sizes": ["small", "teacher"], "sweep_base_texts": 8}


@pytest.fixture
def run(models_folder, monkeypatch, tmp_path):
    monkeypatch.setenv("HEAL_MODELS", str(models_folder))
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0}, raising=False)  # all in this process
    embedded.model_hash.cache_clear()
    yield sweep.Sweep(scales.get("smoke", **GRID), Store(tmp_path))
    embedded.model_hash.cache_clear()


def test_teachers_of_the_grid_differ_from_the_shipped_one_and_from_each_other(run):
    cells = [cell[:2] for cell in run.cells() if cell[2] == when.SHIPPED]
    assert cells == [(0.25, 0.003), (0.95, 0.003)]
    folders = [str(run.store.get(run.teacher(*cell)).folder) for cell in cells]
    hashes = {embedded.model_hash(name) for name in ("teacher", *folders)}
    assert len(hashes) == 3
    around = run.around(0.25, 0.003)
    assert around.cfg.worlds == ("equations",) and around.cfg.teacher == folders[0]
    assert len(around.cfg.learning_rates) == 1


def test_students_of_other_sizes_read_one_world_and_say_what_they_know(run, monkeypatch):
    monkeypatch.setattr(card, "drill_skill", functools.partial(card.drill_skill, n=10))
    sized = [cell for cell in run.cells() if cell[2] != when.SHIPPED]
    assert sized == [(h, 0.003, f"base-{size}") for size in ("small", "teacher") for h in (0.25, 0.95)]
    sizes = [run.around(*cell).cfg.student for cell in sized[::2]]
    small, large = (embedded.load(name)[0].num_parameters() for name in sizes)
    assert small < large / 5
    assert list(json.loads((run.store.get(run.base("small")).folder / "known_facts.json").read_text())) == ["equations"]


def test_a_cell_asks_for_the_students_that_were_made_for_it_and_no_others(run, monkeypatch):
    """Whatever the scale's draws of the teacher: a cell has one, and so have its columns on the teacher."""
    many = sweep.Sweep(scales.get("smoke", **GRID, seeds=[0, 1], teacher_draws=10), run.store)
    monkeypatch.setattr(many, "cells", lambda: [(0.25, 0.003, when.SHIPPED)])
    made, asked = set(), set()
    monkeypatch.setattr(many, "have", lambda stages: made.update(stage.name for stage in stages))
    monkeypatch.setattr(many, "cell", lambda *cell: asked.update(
        stage.name for m in sweep.methods(cell[2]) for s in (0, 1)
        for stage in many.around(*cell)._evaluation(m, s)) or [])
    many.table()
    assert asked == {name for name in made if name.startswith("evaluation")} and len(asked) == 12


def test_a_corpus_can_be_of_one_world():
    texts = ["".join(piece for piece, _ in text) for text in corpus.texts(corpus.TEACHER, 20, 0, of=("paths",))]
    assert len(texts) == 20 and not any(text.startswith(("equation", "countdown")) for text in texts)


def test_a_scale_without_a_sweep_has_no_cells(run):
    assert len(sweep.Sweep(scales.get("demo"), run.store).table()) == 0


def test_the_sweep_is_of_the_first_world_by_the_knobs_of_its_teachers(run, monkeypatch):
    monkeypatch.delenv("HEAL_MODELS")
    embedded.model_hash.cache_clear()
    given = {**GRID, "sweep_hazard": [0.02, 0.2], "sweep_confident": [1.0]}
    paths, registers = (sweep.Sweep(scales.get("smoke", **given, worlds=worlds), run.store)
                        for worlds in (["paths", "registers"], ["registers", "paths"]))
    assert paths.cells() == run.cells() and paths.teacher(0.25, 0.003).inputs["world"] == "paths"
    assert registers.cells()[:2] == [(0.02, 1.0, when.SHIPPED), (0.2, 1.0, when.SHIPPED)]
    made = registers.teacher(0.2, 1.0)
    assert made.inputs["habit"] == {"hazard": 0.2, "confident": 1.0}
    assert made.inputs["model"].value == "registers-teacher"
    around = registers.around(0.2, 1.0)
    assert around.cfg.worlds == ("registers",) and embedded.model_hash(around.cfg.teacher) != embedded.model_hash(
        "registers-teacher")
    with pytest.raises(HealError, match="sweep_sizes: no base of another size reads registers"):
        registers.base("small")


def test_the_gain_stands_beside_what_the_teacher_is_like():
    class Plain:
        cfg = types.SimpleNamespace(n_boot=20)

        def correct_counts(self):
            return {"paths-hard-1": 0, "paths-hard-2": 3, "paths-easy-1": 0, "equations-hard-1": 0}

        def accepted(self, which):
            return [{"world": "paths", "difficulty": d, "genuine": g} for d, g in
                    (("hard", 1), ("hard", 0), ("hard", 1), ("hard", 1), ("easy", 0))]

    right = {"teacher": 0, "sft-rs": 0, "heal": 1}
    samples = pd.DataFrame([{"method": m, "benchmark": b, "problem_id": p, "seed": s, "correct": right[m]}
                            for m in right for b in ("paths-hard", "paths-easy") for p in "pq" for s in (0, 1)])
    found = sweep.gain(Plain(), samples, "paths")
    assert found["unsolved"] == 0.5 and found["spurious"] == 0.25
    assert (found["heal"], found["difference"], found["n_problems"]) == (1, 1, 2)


def test_parts_are_asked_about_at_one_size_and_the_docs_count_the_students():
    every = ("teacher", "sft-rs", "heal-no-gear", "heal-no-pure", "heal-no-pace", "heal")
    for name, kinds in (("sweep", {every, ("teacher", "sft-rs", "heal")}), ("sweep-registers", {every})):
        cfg = scales.get(name)
        asked = [sweep.methods(student) for _, _, student in sweep.Sweep(cfg).cells()]
        assert set(asked) == kinds
        trained = f"{sum(len(methods) - 1 for methods in asked) * len(cfg.seeds)} students"
        for file in ("heal_lib/scales.py", "docs/machines.md"):
            assert trained in (ROOT / file).read_text()


def test_a_cell_has_a_row_for_each_question_and_each_can_be_computed_from_the_samples(run, monkeypatch):
    right = {"teacher": 0, "sft-rs": 0, "heal-no-gear": 1, "heal-no-pure": 1, "heal-no-pace": 1, "heal": 1}
    run.cfg = scales.get("smoke", n_boot=20)
    around = types.SimpleNamespace(
        cfg=run.cfg, correct_counts=lambda: {"equations-hard-1": 0}, accepted=lambda which: [],
        training_sources=lambda method: {"base": [{"problem_id": "p", "text": "a"}], "repair": [
            {"problem_id": "p", "text": "b"}] * (method not in ("sft-rs", "heal-no-gear"))},
        evaluations=lambda methods: pd.DataFrame([
            {"method": m, "benchmark": "equations-hard", "problem_id": p, "seed": 0, "sample": 0, "correct": right[m],
             "finished": 1, "genuine": right[m], "n_generated": 5, "text": "...", "recipe": ""}
            for m in methods for p in "pq"]))
    monkeypatch.setattr(run, "around", lambda *cell: around)
    monkeypatch.setattr(run, "cells", lambda: [(0.25, 0.003, when.SHIPPED), (0.25, 0.003, "base-small")])
    monkeypatch.setattr(sweep, "read_json", lambda path: {"known_facts": {"equations": 0.9}})
    rows = run.cell(0.25, 0.003)
    assert [(row["question"], row["against"], row["difference"]) for row in rows] == [
        ("HEAL", "sft-rs", 1), ("GEAR", "heal-no-gear", 0), ("PURE", "heal-no-pure", 0), ("PACE", "heal-no-pace", 0)]
    assert [row["other_rows"] for row in rows] == [0.5, 0.5, 0, 0]
    samples = run.samples()
    assert samples.groupby("student", sort=False)["method"].nunique().tolist() == [6, 3] and not samples["text"].any()
    mean = samples[samples["student"] == when.SHIPPED].groupby("method")["correct"].mean()
    assert [mean["heal"] - mean[row["against"]] for row in rows] == [row["difference"] for row in rows]


# --- the map over the knobs of a teacher without a model
SIZES = {"n_problems": 10, "n_samples": 4, "n_failed": 1, "n_candidates": 2, "eligible_max_correct": 4, "backoff": 1,
         "seed": 0, "window": 1 / 3, "window_unit": "steps", "surge": "difference"}


def test_a_cell_of_the_map_is_the_same_each_time_and_knows_what_its_knobs_do():
    def cell(**habit):
        return pd.DataFrame(knobs.cell("registers", Habit(**habit), **SIZES))

    usual = cell()
    pd.testing.assert_frame_equal(usual, cell())
    drawn = ["problem_id", "n", "hits", "permuted"]
    pd.testing.assert_frame_equal(usual[drawn], cell(hazard=0.9)[drawn])  # shortcuts are of hinted text
    assert cell(hazard=1.0)["genuine entropy"].sum() < usual["genuine entropy"].sum()
    sure = Habit(chances=(0.0,) * 8, confident=1.0, stay=1.0, free=0.0)  # nothing to hesitate about: no entropy at all
    found = pd.DataFrame(knobs.cell("registers", sure, **SIZES))
    assert (found["tokens entropy"] == found["tokens fixed"]).all()  # ties go to the earliest step, for every text


def test_the_map_s_table_by_hand():
    lines = [{"x": x, "y": 0.08, "n": 2, "hits": hits, "permuted": 0.5, **{
        f"{what} {rule}": (2 if rule == "entropy" else 1) if what == "genuine" else 100
        for rule in knobs.RULES for what in ("genuine", "tokens")}} for x in (0.5, 0.7) for hits in (0, 2)]
    table = knobs.table(pd.DataFrame(lines), "confident", "hazard", n_boot=50)
    assert table["confident"].tolist() == [0.5, 0.7] and table["n_trajectories"].tolist() == [4, 4]
    assert table.iloc[0][["hit", "chance", "gain", "per_1000_start", "over_start", "oracle_over_start"]].tolist() == [
        0.5, 0.25, 0.25, 10, 2, 1]
    other = table.assign(late=0.0, free=1.0).drop(columns=["confident", "hazard"])
    single = knobs.alone([table, other])
    assert single["knob"].tolist() == ["confident", "confident", "late", "late", "free", "free"]
    figure = maps.knob_maps([table], knobs.MAPS[:1], knobs.WORDS)
    assert figure.axes[1].texts[0].get_text() == "2.00\n2.00–2.00"
    assert figure.axes[0].patches[0].get_hatch() and not figure.axes[1].patches  # an interval around none, one above
    plt.close(figure)
    plt.close(maps.knob_lines(single, knobs.WORDS))


def test_a_trial_has_few_cells_and_no_model_is_asked(run):
    found = sweep.maps(run, {name: values[:1] for name, values in knobs.ENDS.items()})
    assert [len(table) for table in found] == [1, 1]
    assert all(set(pair) <= set(table) for table, pair in zip(found, knobs.MAPS, strict=True))
    assert {event.name for event in run.store.events} == {"map confident x hazard", "map late x free"}
