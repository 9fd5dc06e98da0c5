"""The stages at a micro scale, with a teacher that is told what to say and a tiny student that is really trained."""

import contextlib
import functools
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import pytest

from heal_lib import baselines, embedded, evaluation, gear, progress, report, scales, stages, store, tables, worlds
from heal_lib.errors import HealError
from heal_lib.pipeline import Pipeline
from heal_lib.store import Store, key_of, read_json
from heal_lib.trajectory import COLUMNS, rng_of

MICRO = {"worlds": ["equations"], "n_distil": 3, "n_samples": 5, "n_hinted": 6, "n_failed": 2, "n_candidates": 6,
         "n_test": 2, "k_eval": 2, "n_development": 2, "seeds": [0], "train_tokens": 2000, "batch_size": 8}


def micro(**overrides):
    return scales.get("smoke", **{**MICRO, **overrides})


def teacher(scripted, words, solved=0.6):
    """Derives the answer of easy problems in a share `solved` of draws, never that of others; with the hint it derives
    three times in four and otherwise asserts."""
    book = {p.question: p for split in ("distil", "development", "test") for w in map(worlds.get, worlds.names())
            for level in w.difficulties for p in w.problems(split, 3, 0, level)}

    def script(prompt, key, j):
        question, *done = [step for step in prompt.split("\n\n") if step]
        problem, rng = book[question], rng_of(key, j)
        world = worlds.get(problem.world)
        routine = world.routine(problem)
        if done and done[-1].startswith("hint "):
            way = world.derivation(problem) if rng.random() < 0.75 else world.shortcut(problem, rng)
            steps = [*routine[len(done) - 1 :], *way]
        elif problem.difficulty == "easy" and rng.random() < solved or solved == 1:
            steps = [*routine, *world.derivation(problem)]
        else:
            return "\n\n".join([*routine, "try 1", "try 2", "give up", "\\boxed{0}"])
        return "\n\n".join([*steps, f"\\boxed{{{problem.answer}}}"])

    return scripted(script, words, nll=lambda ids: np.array([i % 7 / 3 for i in ids]),
                    tail=lambda ends, tail: np.array([[1 / (k + 1)] * len(tail) for k in range(len(ends))]))


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """One cache for the tests that look at the same run."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def says(monkeypatch, cache, models_folder, scripted, words):
    """Puts a scripted teacher (and evaluated student) in place; returns a function that puts another."""
    monkeypatch.setenv("HEAL_MODELS", str(models_folder))
    monkeypatch.setenv("HEAL_CACHE", str(cache))
    monkeypatch.delenv("HEAL_EVENTS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0}, raising=False)  # all in this process
    embedded.weights_hash.cache_clear()
    monkeypatch.setattr(store, "code_hash", functools.cache(store.code_hash))  # the code stays as it is in here

    def install(**knobs):
        engine = teacher(scripted, words, **knobs)
        monkeypatch.setattr(stages, "engine", lambda name, kind="hf": engine)
        return engine

    install()
    yield install
    embedded.weights_hash.cache_clear()


@pytest.fixture
def run(says):
    return Pipeline(micro())


def used(cache, cfg, method="heal"):
    """Stage name -> made or reused, for everything up to a method's training data."""
    run = Pipeline(cfg, cache)
    run.store.events.clear()
    run.training_sources(method)
    return {event.name: event.what for event in run.store.events}


# --- what is made again

def test_only_what_depends_on_a_change_is_made_again(says, tmp_path):
    cache = Store(tmp_path)
    pool, hinted, read_hinted = "pool distil", "hinted distil", "readings hinted distil"
    repairs, read_repairs = "repairs entropy distil", "readings repairs entropy distil"
    everything = {pool, hinted, read_hinted, repairs, read_repairs}

    def made(**overrides):
        events = used(cache, micro(**overrides))
        assert set(events) == everything
        return {name for name, what in events.items() if what == "made"}

    assert made() == everything
    assert made() == set()
    assert made(window=0.5) == made(n_failed=1) == {repairs, read_repairs}
    assert made(pure_lambda=0.5) == made(n_test=1) == set()
    assert made(n_hinted=2) == {hinted, read_hinted}
    assert made(hint="first_step") == everything - {pool}
    assert made(n_samples=4) == everything


def test_a_control_is_not_made_again_for_a_switch_that_it_does_not_read(says, tmp_path):
    def what(rule, **overrides):
        run = Pipeline(micro(**overrides), Store(tmp_path))
        rows = run.repairs(rule)
        return run.store.events[-1].what, rows["token_ids"]

    for rule, unread in gear.UNREAD.items():
        _, rows = what(rule)
        for switch, value in (("surge", "value"), ("window", 1.0), ("window_unit", "tokens"), ("backoff", 0)):
            assert what(rule, **{switch: value})[0] == ("reused" if switch in unread else "made")
        changed = {"surge": "value", "window": 1.0, "window_unit": "tokens", "backoff": 0}
        other = Pipeline(micro(**{switch: changed[switch] for switch in unread}), Store(tmp_path / rule))
        assert other.repairs(rule)["token_ids"] == rows  # and it does not read them indeed


def test_other_models_make_everything_again(says, tmp_path, words, monkeypatch):
    from heal_lib.embedded import models

    cache = Store(tmp_path / "cache")
    used(cache, micro())
    models.new_model("student", words, 7).save_pretrained(tmp_path / "teacher")
    monkeypatch.setenv("HEAL_MODELS", str(tmp_path))
    embedded.weights_hash.cache_clear()
    assert set(used(cache, micro()).values()) == {"made"}


class Keys(Store):
    """Notes every stage's key; students and evaluations are not made, for their keys are all that is asked."""

    def stage(self, name, key_parts, make, code=()):
        self.__dict__.setdefault("keys", {})[name] = key_of(name, key_parts, code)[1]
        if name.startswith("evaluation"):
            raise StopIteration
        return super().stage(name, key_parts, make, code)


def keys(cfg, root):
    """Kind of stage -> key, of all that the table's row of `heal` goes through."""
    run = Pipeline(cfg, Keys(root))
    run.training_sources("heal")
    with pytest.raises(StopIteration):
        run.evaluation("student", 0)
    of = {"student": key_of(*run._of_student("heal", 0, None))[1]}
    for name, key in run.store.keys.items():
        of[name.split(" ")[0] + (" " + name.split(" ")[1]) * name.startswith("readings")] = key
    return of


TEACHER = {"pool", "hinted", "repairs", "readings hinted", "readings repairs"}
ON_HINTS, ON_REPAIRS = {"hinted", "readings hinted"}, {"repairs", "readings repairs"}
# Every field of a scale: another value, and the stages whose keys it must change (those after them may change too).
MATTERS = {
    "worlds": (("paths",), {*TEACHER, "evaluation"}), "difficulties": (("hard",), TEACHER),
    "n_distil": (2, TEACHER), "n_samples": (4, TEACHER), "temperature": (0.9, {*TEACHER, "evaluation"}),
    "top_p": (0.9, {*TEACHER, "evaluation"}), "max_new_tokens": (99, {*TEACHER, "evaluation"}),
    "teacher_seed": (1, {*TEACHER, "student"}), "n_hinted": (5, ON_HINTS),
    "stage_hint_below": (0.9, ON_HINTS), "hint": ("first_step", ON_HINTS | ON_REPAIRS),
    "n_failed": (1, ON_REPAIRS), "n_candidates": (5, ON_REPAIRS), "eligible_max_correct": (0, ON_REPAIRS),
    "surge": ("value", ON_REPAIRS), "window": (0.5, ON_REPAIRS), "window_unit": ("tokens", ON_REPAIRS),
    "backoff": (0, ON_REPAIRS), "step_delimiter": (" ", {"readings hinted", *ON_REPAIRS}),
    "n_test": (3, {"evaluation"}), "k_eval": (3, {"evaluation"}), "benchmarks": (("easy",), {"evaluation"}),
    "train_tokens": (999, {"student"}), "batch_size": (4, {"student"}), "learning_rates": ((1e-3,), {"student"}),
    "finetune": ("lora", {"student"}), "stages_cumulative": (False, {"student"}),
    "per_problem_cap": (2, {"student"}),
    "pure_lambda": (0.6, {"student"}), "pure_rule": ("threshold", {"student"}), "pure_pool": (("hint",), {"student"}),
    "pure_aggregate": ("max", set()), "pure_uncertainty": ("after", set()), "pure_eps": (9.0, set()),  # by the data
}
ELSEWHERE = {"name", "teacher", "student", "entropy", "seeds", "n_ablation_seeds", "n_boot", "all_methods", "engine",
             "n_development", "backend", "lora_rank", "processes"}  # models by their weights' hash; counts of stages


def test_every_field_of_a_scale_reaches_the_keys_that_it_must_and_no_stage_before(says, tmp_path):
    import dataclasses

    fields = {field.name for field in dataclasses.fields(scales.Scale) if not field.name.startswith("sweep_")}
    assert fields == MATTERS.keys() | ELSEWHERE
    usual, first = micro(difficulties=["easy", "hard"]), keys(micro(), tmp_path)
    for field, (value, must) in MATTERS.items():
        changed = keys(dataclasses.replace(usual, **{field: value}), tmp_path)
        differ = {kind for kind, key in changed.items() if key != first[kind]}
        may = must if must == {"evaluation"} else {*must, "student"}
        assert must <= differ <= may, field


@pytest.mark.parametrize("library", store.LIBRARIES)
def test_another_version_of_a_library_makes_all_keys_new(says, tmp_path, monkeypatch, library):
    first = keys(micro(), tmp_path)
    found = store.versions()
    monkeypatch.setattr(store, "versions", lambda *_: {**found, library: "0.0"})
    assert not set(keys(micro(), tmp_path).items()) & set(first.items())


def test_problems_of_a_file_are_known_by_what_it_holds(says, tmp_path, monkeypatch):
    """A file that changes under the same name must not find the results of the old one; nor another checker."""
    from heal_lib.worlds import mathematics

    monkeypatch.setattr(Store, "stage", lambda self, name, parts, make, code=(): self.events.append(
        store.Event("made", name, key_of(name, parts, code)[1], 0)) or tmp_path)
    file = tmp_path / "mine.jsonl"

    def key():
        run = Pipeline(micro(worlds=["math"], difficulties=[str(file)], benchmarks=["own"]), Store(tmp_path / "c"))
        run._stage("pool", {}, None)
        return run._key("pool")

    file.write_text('{"problem": "1+1?", "answer": "2"}\n')
    first = key()
    assert key() == first
    file.write_text('{"problem": "1+1?", "answer": "3"}\n')
    other = key()
    monkeypatch.setattr(mathematics, "versions", lambda names: {"math-verify": "0.0"})
    assert len({first, other, key()}) == 3


# --- the teacher's data

def test_the_pool_holds_n_samples_of_each_problem_and_no_hint(run):
    pool = run.pool()
    assert pool.column_names == list(COLUMNS) and len(pool) == 6 * 5
    assert set(pool["source"]) == {"sampled"} and not any("hint" in text for text in pool["text"])
    assert [row["sample"] for row in pool][:5] == list(range(5))
    counts = run.correct_counts()
    assert set(counts) == {p.id for p in run.distil()} and 0 < sum(counts.values()) < 30


def test_hinted_samples_are_for_problems_below_the_share(run):
    counts, hinted = run.correct_counts(), run.hinted()
    assert set(hinted["problem_id"]) == {key for key, c in counts.items() if c < 0.5 * 5}
    assert len(hinted) == 6 * len(set(hinted["problem_id"])) and any(hinted["correct"])
    assert not any("hint" in text for text in hinted["text"])


def test_repairs_are_for_eligible_problems_and_failed_trajectories(run):
    """Known wrong turn: gates that are the same. Here some problem is hinted, but not repaired."""
    counts, failed, repairs = run.correct_counts(), run.failed(), run.repairs()
    assert set(failed) == {key for key, c in counts.items() if c <= 1} < {r["problem_id"] for r in run.hinted()}
    assert all(len(rows) == 2 and not any(r["correct"] for r in rows) for rows in failed.values())
    assert len(repairs) == 2 * 6 * len(failed) and any(repairs["correct"]) and set(repairs["source"]) == {"repaired"}
    chosen = {(key, row["sample"]) for key, rows in failed.items() for row in rows}
    assert {(r["problem_id"], r["parent"]) for r in repairs} == chosen
    again = Pipeline(micro()).failed()
    assert chosen == {(key, row["sample"]) for key, rows in again.items() for row in rows}


def test_cut_rules_are_stages_of_their_own(run):
    start, middle = run.repairs("start"), run.repairs("middle")
    assert set(start["n_kept"]) == {0} and min(middle["n_kept"]) > 0


def test_development_looks_at_other_hard_problems(run):
    pool = run.pool("development")
    assert set(pool["difficulty"]) == {"hard"} and len(set(pool["problem_id"])) == 2
    assert not set(pool["problem_id"]) & set(run.pool()["problem_id"])
    assert len(run.anomalies("hinted", "development")) == len(run.accepted("hinted", "development")) > 0


# --- training data

VERIFIED = [m for m, spec in baselines.METHODS.items() if spec.trained and spec.base in ("correct", "limo")]


@pytest.mark.parametrize("method", VERIFIED)
def test_training_data_is_right_capped_and_without_hint(run, words, method):
    """Known wrong turn: incorrect samples left in the Base stage."""
    spec, sources = baselines.get(method), run.training_sources(method)
    assert list(sources) == ["base"] + ["hint"] * bool(spec.hint) + ["repair"] * bool(spec.cut)
    for name, rows in sources.items():
        assert rows and all(row["correct"] and row["finished"] for row in rows)
        assert {row["source"] for row in rows} == {{"base": "sampled", "hint": "hinted", "repair": "repaired"}[name]}
        per_problem = np.unique([row["problem_id"] for row in rows], return_counts=True)[1]
        assert per_problem.max() <= run.cfg.per_problem_cap
        for row in rows:
            trained = run._training_row(row)
            text = words.decode(trained["input_ids"], skip_special_tokens=True)
            assert text == row["question"] + "\n\n" + row["text"] and "hint" not in text
            learned = [i for i, m in zip(trained["input_ids"], trained["completion_mask"], strict=True) if m]
            assert learned == list(row["token_ids"]) and learned[-1] == words.eos_token_id


def test_the_matched_budget_is_heal_s(run):
    """Rejection sampling gets as many more tokens as HEAL spends on hints and repairs, within one sample a problem."""
    extra = sum(run.hinted()["n_generated"]) + sum(run.repairs()["n_generated"])
    per_round = sum(run.pool()["n_generated"]) / run.cfg.n_samples
    drawn = len(run.matched()) / len(run.distil())
    assert abs(drawn - extra / per_round) <= 0.5 and {r["source"] for r in run.matched()} == {"matched"}
    rows = run.training_sources("sft-rs-matched")["base"]
    assert all(row["correct"] for row in rows) and {r["source"] for r in rows} <= {"sampled", "matched"}


def test_limo_is_one_sample_of_each_of_the_hardest_solved_problems(says):
    run = Pipeline(micro())
    rows, counts = run.training_sources("limo")["base"], run.correct_counts()
    solved = sorted(c for c in counts.values() if c)
    chosen = [row["problem_id"] for row in rows]
    assert len(set(chosen)) == len(chosen) == max(1, round(len(solved) / 4))
    assert sorted(counts[key] for key in chosen) == solved[: len(chosen)]
    for row in rows:
        others = [r for r in run.pool() if r["problem_id"] == row["problem_id"] and r["correct"]]
        assert np.mean(row["entropy"]) == min(np.mean(r["entropy"]) for r in others)


def test_paced_prefers_problems_that_the_student_half_solves(run, monkeypatch):
    ids = sorted({row["problem_id"] for row in run.training_sources("sft-rs")["base"]})
    rates = {key: 0.5 if key == ids[0] else 0.02 for key in ids}
    monkeypatch.setattr(run, "student_pass_rates", lambda: rates)
    chosen = [row["problem_id"] for row in run.training_sources("paced")["base"]]
    before = [row["problem_id"] for row in run.training_sources("sft-rs")["base"]]
    assert chosen.count(ids[0]) / len(chosen) > before.count(ids[0]) / len(before)


def test_answers_are_stated_for_every_problem_without_reasoning(run, words):
    rows = run.training_sources("answers")["base"]
    assert {row["problem_id"] for row in rows} == {p.id for p in run.distil()}
    text = words.decode(run._training_row(rows[0])["input_ids"])
    assert rows[0]["question"] in text and f"\\boxed{{{rows[0]['answer']}}}" in text and "try" not in text


def test_a_switch_of_a_method_changes_its_data_alone(run):
    usual, changed = run.training_sources("heal"), run.training_sources("heal-backoff-0")
    assert [r["text"] for r in usual["base"]] == [r["text"] for r in changed["base"]]
    kept = [sum(each.repairs()["n_kept"]) for each in (run, run.variant({"backoff": 0}))]
    assert kept[0] < kept[1] and {r["n_kept"] for r in changed["repair"]} > {r["n_kept"] for r in usual["repair"]} - {0}
    assert run.cfg.backoff == 1 and run.variant({}) is run


def test_the_rate_that_does_best_on_development_problems_is_used(run, monkeypatch):
    run = Pipeline(micro(learning_rates=[1e-4, 1e-3, 1e-2]))
    monkeypatch.setattr(run, "tuning", lambda method, rate: {1e-4: 0.1, 1e-3: 0.4, 1e-2: 0.4}[rate])
    assert run.learning_rate("heal") == 1e-3
    assert Pipeline(micro(learning_rates=[3e-3])).learning_rate("heal") == 3e-3  # nothing is trained to choose it


def test_star_hints_failed_problems_only(run):
    counts = run.correct_counts()
    assert {r["problem_id"] for r in run.training_sources("star")["hint"]} <= {k for k, c in counts.items() if c <= 1}
    assert max(counts[r["problem_id"]] for r in run.training_sources("heal")["hint"]) == 2


def test_filters_drop_what_they_say(says):
    run = Pipeline(micro(per_problem_cap=99))
    rows = {m: run.training_sources(m)["repair"]
            for m in ("heal", "heal-no-pure", "heal-random-drop", "heal-nll", "heal-pure-plus", "heal-oracle")}
    everything = rows["heal-no-pure"]
    sizes = np.unique([r["problem_id"] for r in everything], return_counts=True)[1]
    for method in ("heal", "heal-random-drop", "heal-nll", "heal-pure-plus"):  # a fifth of each problem's pool
        assert len(rows[method]) == len(everything) - sum(int(0.2 * n) for n in sizes) < len(everything)
        assert {r["sample"] for r in rows[method]} <= {r["sample"] for r in everything}
    assert rows["heal"] != rows["heal-random-drop"]
    assert [r["genuine"] for r in rows["heal-oracle"]] == [1] * sum(r["genuine"] for r in everything)
    assert 0 < len(rows["heal-oracle"]) < len(everything)


def test_the_most_anomalous_are_dropped(says):
    run = Pipeline(micro(per_problem_cap=99))
    accepted, scores = run.accepted("repairs entropy"), run.anomalies("repairs entropy")
    kept = {(r["problem_id"], r["sample"]) for r in run.training_sources("heal")["repair"]}
    for problem in {r["problem_id"] for r in accepted}:
        mine = [(s, (problem, r["sample"]) in kept)
                for s, r in zip(scores, accepted, strict=True) if r["problem_id"] == problem]
        assert max(s for s, stays in mine if stays) <= min([s for s, stays in mine if not stays], default=np.inf)


def test_pure_filters_the_pools_it_is_told_to(says):
    unfiltered = Pipeline(micro(per_problem_cap=99)).training_sources("heal-no-pure")
    run = Pipeline(micro(pure_pool=["repair"], pure_lambda=0.5, per_problem_cap=99)).training_sources("heal")
    assert run["hint"] == unfiltered["hint"] and len(run["repair"]) < len(unfiltered["repair"])


# --- nothing to do

def test_a_filter_that_keeps_nothing_leaves_an_empty_source(says):
    run = Pipeline(micro(pure_lambda=1.0))
    sources = run.training_sources("heal")
    assert sources["hint"] == sources["repair"] == [] and sources["base"]
    folder = run.student("heal", 0)
    assert [path.name for path in folder.glob("stage-*")] == ["stage-1"]  # the base stage alone


def test_a_teacher_that_solves_everything_needs_no_hint_and_no_repair(says, tmp_path):
    says(solved=1)
    run = Pipeline(micro(), Store(tmp_path))
    assert run.failed() == {} and set(run.correct_counts().values()) == {5}
    for which in ("hinted", "repairs entropy"):
        assert run.accepted(which) == [] and len(run.readings(which)) == 0 and run.anomalies(which).shape == (0,)
    assert len(run.hinted()) == 0 and run.hinted().column_names == run.repairs().column_names == list(COLUMNS)
    sources = run.training_sources("heal")
    assert sources["hint"] == sources["repair"] == [] and len(sources["base"]) == 6 * 4


def test_no_verified_sample_is_a_one_line_error_and_leaves_nothing(says, tmp_path):
    says(solved=0)
    run = Pipeline(micro(), Store(tmp_path))
    assert run.training_sources("sft-rs") == {"base": []}
    with pytest.raises(HealError, match="no verified sample") as caught:
        run.student("sft-rs", 0)
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir() if "student" in path.name] == []
    assert run.training_sources("heal")["repair"]  # what sampling never solves, repair does


def test_a_method_with_nothing_to_train_on_is_named_and_missing(says, tmp_path, capsys):
    says(solved=0)
    cfg = micro()
    samples = Pipeline(cfg, Store(tmp_path)).evaluations(["student", "sft-rs", "heal"])
    assert set(samples["method"]) == {"student", "heal"}
    assert "sft-rs: no verified sample in any source, nothing to train on" in capsys.readouterr().out
    results = evaluation.results_table(samples, temperature=1.0, n_boot=50)
    assert results["diff_vs_sft_rs"].isna().all()
    table = report.accuracy_table(results, ["student", "sft-rs", "heal"])
    assert set(table["sft-rs"]) == {"n/a"} and set(table["heal − sft-rs"]) == {"n/a"}
    gain = tables.differences(samples, [("heal", "sft-rs"), ("heal", "student")], n_boot=50)
    assert set(gain["against"]) == {"student"}
    assert len(tables.differences(samples, [("heal", "sft-rs")], n_boot=50)) == 0


def test_one_sample_that_is_right_makes_an_eligible_problem_without_failure(says, tmp_path):
    says(solved=1)
    run = Pipeline(micro(n_samples=1), Store(tmp_path))
    assert set(run.correct_counts().values()) == {1} and run.failed() == {} and len(run.repairs()) == 0


def test_random_models_go_all_the_way(says, tmp_path, monkeypatch):
    """Nothing scripted: models that know nothing solve nothing, and every stage says so."""
    from heal_lib.engines.hf import HFEngine

    monkeypatch.setattr(stages, "engine", lambda name, kind="hf": HFEngine(*embedded.load(name)))
    run = Pipeline(micro(difficulties=["easy"], n_distil=2, n_samples=2, n_hinted=1, n_failed=1, n_candidates=1,
                         n_test=1, k_eval=1), Store(tmp_path))
    assert len(run.pool()) == 4 and not any(run.pool()["correct"])
    assert all(len(row["entropy"]) == len(row["token_ids"]) for row in run.pool())
    assert len(run.repairs()) == len(run.hinted()) == 2
    assert run.accepted("repairs entropy") == [] and len(run.readings("repairs entropy")) == 0
    with pytest.raises(HealError, match="no verified sample"):
        run.student("heal", 0)
    assert len(run.evaluation("student", 0)) == len(run.evaluation("teacher", 0)) == 3


# --- students and evaluation

def test_heal_trains_in_three_stages_within_the_budget(run):
    folder, sources = run.student("heal", 0), run.training_sources("heal")
    record = read_json(folder / "training.json")
    sizes = np.cumsum([len(sources[name]) for name in ("base", "hint", "repair")]).tolist()
    assert [stage["rows"] for stage in record["stages"]] == sizes  # cumulative
    assert sorted(path.name for path in folder.glob("stage-*")) == ["stage-1", "stage-2", "stage-3"]
    longest = max(len(run._training_row(r)["input_ids"]) for rows in sources.values() for r in rows)
    assert 2000 <= sum(stage["tokens"] for stage in record["stages"]) < 2000 + 3 * longest
    assert len({embedded.weights_hash(str(folder / f"stage-{i}")) for i in (1, 2, 3)}) == 3
    with pytest.raises(HealError, match="stage-4"):
        run.evaluation("heal", 0, stage=4)
    with pytest.raises(HealError, match="is not trained"):
        run.student("teacher", 0)


def test_an_evaluated_student_is_known_without_its_weights(says, tmp_path):
    run = Pipeline(micro(train_tokens=300), Store(tmp_path))
    before, log = run.evaluation("sft-rs", 0).to_pandas(), run.training_log("sft-rs", 0)
    assert log["method"] == "sft-rs" and log["seconds"] > 0 and log["stages"][0]["tokens"] >= 300
    for folder in tmp_path.glob("student-*"):
        shutil.rmtree(folder)
    again = Pipeline(micro(train_tokens=300), Store(tmp_path))
    assert again.evaluation("sft-rs", 0).to_pandas().equals(before) and again.training_log("sft-rs", 0) == log
    assert not list(tmp_path.glob("student-*")) and not any(e.what == "made" for e in again.store.events)


def test_a_student_of_adapters_is_another_one_and_is_evaluated_like_any(says, tmp_path):
    keys = set()
    for switches in ({}, {"finetune": "lora"}, {"finetune": "lora", "lora_rank": 2}):
        run = Pipeline(micro(train_tokens=300, **switches), Store(tmp_path))
        assert len(run.evaluation("sft-rs", 0)) > 0
        keys.add(run.student("sft-rs", 0).name)
    assert len(keys) == 3


def test_students_are_reproducible_and_differ_by_seed(says, tmp_path):
    hashes = []
    for root, seed in (("a", 0), ("b", 0), ("b", 1)):
        folder = Pipeline(micro(train_tokens=600), Store(tmp_path / root)).student("sft-rs", seed)
        hashes.append(embedded.weights_hash(str(folder / "stage-1")))
    assert hashes[0] == hashes[1] != hashes[2]


def test_the_order_of_stages_changes_nothing(says, tmp_path):
    """Each stage draws from streams of its own: one that runs late, or alone, gives what it always gives."""
    found = []
    stages_in_order = [("pool",), ("hinted",), ("repairs", "entropy"), ("matched",)]
    for root, order in (("a", stages_in_order), ("b", stages_in_order[::-1])):
        run = Pipeline(micro(), Store(tmp_path / root))
        made = {stage: getattr(run, stage)(*arguments) for stage, *arguments in order}
        found.append({stage: made[stage].to_pandas().to_json() for stage in sorted(made)})
    assert found[0] == found[1]


def test_evaluations_hold_every_method_seed_and_benchmark(says):
    run = Pipeline(micro(train_tokens=300))
    table = run.evaluations(("teacher", "student", "sft-rs"))
    assert len(table) == 3 * 3 * 2 * 2  # methods, benchmarks, problems, samples
    assert set(table["benchmark"]) == {"equations-easy", "equations-hard", "equations-long"}
    assert {"method", "seed", "problem_id", "sample", "correct", "finished", "genuine"} <= set(table.columns)
    assert not set(table["problem_id"]) & set(run.pool()["problem_id"])
    assert table.groupby(["method", "problem_id"]).size().eq(2).all()


def test_work_done_ahead_goes_to_the_pipeline_s_own_store(says, tmp_path, monkeypatch):
    monkeypatch.setenv("HEAL_CACHE", str(tmp_path / "elsewhere"))
    run = Pipeline(micro(), Store(tmp_path / "mine"))
    run.prepare(["heal"])
    assert not (tmp_path / "elsewhere").exists()
    run.training_sources("heal")
    assert {event.what for event in run.store.events} == {"made", "reused"}
    assert [e.name for e in run.store.events if e.what == "made"] == ["pool distil"]  # the rest was there


def test_workers_end_with_the_process_that_started_them():
    """A killed run must not leave workers that wait for work for ever."""
    script = """
import multiprocessing, os, time
from concurrent.futures import ProcessPoolExecutor
from heal_lib import stages
if __name__ == "__main__":
    pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), stages._quiet_worker)
    print(pool.submit(os.getpid).result(), flush=True)
    time.sleep(60)
"""
    with tempfile.NamedTemporaryFile("w", suffix=".py") as file:
        file.write(script)
        file.flush()
        parent = subprocess.Popen([sys.executable, file.name], stdout=subprocess.PIPE, text=True,
                                  env={**os.environ, "PYTHONPATH": str(store.ROOT)})
        worker = int(parent.stdout.readline())
        parent.kill()
        parent.wait()
    with contextlib.suppress(ProcessLookupError):
        for _ in range(300):
            os.kill(worker, 0)
            if Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return
            time.sleep(0.1)
        pytest.fail("the worker is still there")


def test_unknown_names_are_refused(run):
    for call, words in [(lambda: run.training_sources("magic"), "unknown method 'magic'"),
                        (lambda: run.accepted("guesses"), "unknown source 'guesses'"),
                        (lambda: run.repairs("best"), "cut rule 'best'")]:
        with pytest.raises(HealError, match=words):
            call()


def test_workers_stay_for_the_next_call_and_are_replaced_when_killed():
    code = (
        "import os, signal, time\n"
        "from concurrent.futures import BrokenExecutor\n"
        "from heal_lib import scales, stages\n"
        "from heal_lib.pipeline import Pipeline\n"
        "def job(self, name):\n"
        "    if name == 'kill':\n"
        "        os.kill(os.getpid(), signal.SIGINT)  # as a kernel does at its end: no word of it\n"
        "        time.sleep(60)\n"
        "    print(os.getpid(), flush=True)\n"
        "class Told(Pipeline):\n"
        "    said = job\n"
        "    def _absent(self, job): return True\n"
        "if __name__ == '__main__':\n"
        "    os.sched_getaffinity = lambda pid: {0, 1}\n"
        "    run = Told(scales.get('smoke'))\n"
        "    run.prefetch([('said', i) for i in range(4)])\n"
        "    run.prefetch([('said', i) for i in range(4)])\n"
        "    try: run.prefetch([('said', 'kill'), ('said', 1)])\n"
        "    except BrokenExecutor: print('broken')\n"
        "    run.prefetch([('said', i) for i in range(2)])\n")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "run.py").write_text(code)
        done = subprocess.run([sys.executable, "run.py"], cwd=folder, capture_output=True, text=True,
                              env={**os.environ, "PYTHONPATH": str(store.ROOT)})
    said = done.stdout.split()
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    end = said.index("broken")
    assert 8 <= end <= 9 and len(set(said[:end])) <= 2 and len(said) == end + 3  # two processes for both calls
    assert not {*said[:end]} & {*said[end + 1 :]}


@pytest.mark.parametrize("small, expected", [(2**30, 8), (1, 1)])
def test_only_small_models_share_a_gpu(says, tmp_path, monkeypatch, small, expected):
    asked = []

    class Pool:
        def __init__(self, workers, *_):
            asked.append(workers)

        def submit(self, run, job):
            done = Future()
            done.set_result(None)
            return done

    stages._workers.cache_clear()
    run = Pipeline(micro(), Store(tmp_path))
    monkeypatch.setattr(stages, "device", lambda: "cuda")
    monkeypatch.setattr(stages, "SMALL", small)
    monkeypatch.setattr(stages, "ProcessPoolExecutor", Pool)
    monkeypatch.setattr(stages, "_run", lambda *_: asked.append(1))
    monkeypatch.setattr(stages.os, "sched_getaffinity", lambda _: range(16))
    monkeypatch.delenv(progress.IN_WORKER, raising=False)
    run.prefetch([("pool",), ("pool", "development")])
    assert asked == [expected] * len(asked) and asked
    stages._workers.cache_clear()
