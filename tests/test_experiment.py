"""The stages at a micro scale: the teacher's data, training rows, students, evaluations."""

import numpy as np
import pytest
from micro import micro

from heal_lib import embedded, evaluation, report, tables
from heal_lib.engines import choose
from heal_lib.errors import HealError
from heal_lib.experiment import Experiment
from heal_lib.files import read_json
from heal_lib.store import Store
from heal_lib.trajectory import COLUMNS

# --- the teacher's data

def test_the_pool_holds_n_samples_of_each_problem_and_no_hint(run):
    pool = run.pool()
    assert pool.column_names == list(COLUMNS) and len(pool) == 6 * 5
    assert set(pool["source"]) == {"sampled"} and not any("hint" in text for text in pool["text"])
    assert [row["sample"] for row in pool][:5] == list(range(5))
    counts = run.correct_counts()
    assert set(counts) == {p.id for p in run.problems()} and 0 < sum(counts.values()) < 30


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
    again = Experiment(micro()).failed()
    assert chosen == {(key, row["sample"]) for key, rows in again.items() for row in rows}


def test_cut_rules_are_stages_of_their_own(run):
    start, middle = run.repairs("start"), run.repairs("middle")
    assert set(start["n_kept"]) == {0} and min(middle["n_kept"]) > 0


def test_development_looks_at_other_hard_problems(run):
    pool = run.pool("development")
    assert set(pool["difficulty"]) == {"hard"} and len(set(pool["problem_id"])) == 2
    assert not set(pool["problem_id"]) & set(run.pool()["problem_id"])
    assert len(run.anomalies("hinted", "development")) == len(run.accepted("hinted", "development")) > 0


# --- nothing to do

def test_a_filter_that_keeps_nothing_leaves_an_empty_source(says):
    run = Experiment(micro(pure_lambda=1.0))
    sources = run.training_sources("heal")
    assert sources["hint"] == sources["repair"] == [] and sources["base"]
    folder = run.student("heal", 0)
    assert [path.name for path in folder.glob("stage-*")] == ["stage-1"]  # the base stage alone


def test_a_teacher_that_solves_everything_needs_no_hint_and_no_repair(says, tmp_path):
    says(solved=1)
    run = Experiment(micro(), Store(tmp_path))
    assert run.failed() == {} and set(run.correct_counts().values()) == {5}
    for which in ("hinted", "repairs entropy"):
        assert run.accepted(which) == [] and len(run.readings(which)) == 0 and run.anomalies(which).shape == (0,)
    assert len(run.hinted()) == 0 and run.hinted().column_names == run.repairs().column_names == list(COLUMNS)
    sources = run.training_sources("heal")
    assert sources["hint"] == sources["repair"] == [] and sources["base"]


def test_no_verified_sample_is_a_one_line_error_and_leaves_nothing(says, tmp_path):
    says(solved=0)
    run = Experiment(micro(), Store(tmp_path))
    assert run.training_sources("sft-rs") == {"base": []}
    with pytest.raises(HealError, match="no verified sample") as caught:
        run.student("sft-rs", 0)
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir() if "student" in path.name] == []
    assert run.training_sources("heal")["repair"]  # what sampling never solves, repair does


def test_a_method_with_nothing_to_train_on_is_named_and_missing(says, tmp_path, capsys):
    says(solved=0)
    cfg = micro()
    samples = Experiment(cfg, Store(tmp_path)).evaluations(["student", "sft-rs", "heal"])
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
    run = Experiment(micro(n_samples=1), Store(tmp_path))
    assert set(run.correct_counts().values()) == {1} and run.failed() == {} and len(run.repairs()) == 0


def test_random_models_go_all_the_way(says, tmp_path, monkeypatch):
    """Nothing scripted: models that know nothing solve nothing, and every stage says so."""
    from heal_lib.engines.hf import HFEngine

    monkeypatch.setattr(choose, "engine", lambda name, kind="hf": HFEngine(*embedded.load(name)))
    run = Experiment(micro(difficulties=["easy"], n_distil=2, n_samples=2, n_hinted=1, n_failed=1, n_candidates=1,
                         n_test=1, k_eval=2), Store(tmp_path))
    assert len(run.pool()) == 4 and not any(run.pool()["correct"])
    assert all(len(row["entropy"]) == len(row["token_ids"]) for row in run.pool())
    assert len(run.repairs()) == len(run.hinted()) == 2
    assert run.accepted("repairs entropy") == [] and len(run.readings("repairs entropy")) == 0
    with pytest.raises(HealError, match="no verified sample"):
        run.student("heal", 0)
    assert len(run.evaluation("student", 0)) == len(run.evaluation("teacher", 0)) == 4


# --- students and evaluation

def test_heal_trains_in_three_stages_within_the_budget(run):
    folder, sources = run.student("heal", 0), run.training_sources("heal")
    record = read_json(folder / "training.json")
    sizes = np.cumsum([len(sources[name]) for name in ("base", "hint", "repair")]).tolist()
    assert [stage["rows"] for stage in record["stages"]] == sizes  # cumulative
    assert sorted(path.name for path in folder.glob("stage-*")) == ["stage-1", "stage-2", "stage-3"]
    longest = max(len(r["input_ids"]) for rows in sources.values() for r in rows)
    assert 2000 <= sum(stage["tokens"] for stage in record["stages"]) < 2000 + 3 * longest
    assert len({embedded.model_hash(str(folder / f"stage-{i}")) for i in (1, 2, 3)}) == 3
    with pytest.raises(HealError, match="stage-4"):
        run.evaluation("heal", 0, stage=4)
    with pytest.raises(HealError, match="is not trained"):
        run.student("teacher", 0)


def test_a_student_of_adapters_is_another_one_and_is_evaluated_like_any(says, tmp_path):
    keys = set()
    for switches in ({}, {"finetune": "lora"}, {"finetune": "lora", "lora_rank": 2}):
        run = Experiment(micro(train_tokens=300, **switches), Store(tmp_path))
        assert len(run.evaluation("sft-rs", 0)) > 0
        keys.add(run.student("sft-rs", 0).name)
    assert len(keys) == 3


def test_students_are_reproducible_and_differ_by_seed(says, tmp_path):
    hashes = []
    for root, seed in (("a", 0), ("b", 0), ("b", 1)):
        folder = Experiment(micro(train_tokens=600), Store(tmp_path / root)).student("sft-rs", seed)
        hashes.append(embedded.model_hash(str(folder / "stage-1")))
    assert hashes[0] == hashes[1] != hashes[2]


def test_the_order_of_stages_changes_nothing(says, tmp_path):
    """Each stage draws from streams of its own: one that runs late, or alone, gives what it always gives."""
    found = []
    stages_in_order = [("pool",), ("hinted",), ("repairs", "entropy"), ("matched",)]
    for root, order in (("a", stages_in_order), ("b", stages_in_order[::-1])):
        run = Experiment(micro(), Store(tmp_path / root))
        made = {stage: getattr(run, stage)(*arguments) for stage, *arguments in order}
        found.append({stage: made[stage].to_pandas().to_json() for stage in sorted(made)})
    assert found[0] == found[1]


def test_evaluations_hold_every_method_seed_and_benchmark(says):
    run = Experiment(micro(train_tokens=300))
    table = run.evaluations(("teacher", "student", "sft-rs"))
    assert len(table) == 3 * 2 * 2 * 2  # methods, benchmarks, problems, samples
    assert set(table["benchmark"]) == {"equations-easy", "equations-hard"}
    assert {"method", "seed", "problem_id", "sample", "correct", "finished", "genuine"} <= set(table.columns)
    assert not set(table["problem_id"]) & set(run.pool()["problem_id"])
    assert table.groupby(["method", "problem_id"]).size().eq(2).all()


def test_unknown_names_are_refused(run):
    for call, words in [(lambda: run.training_sources("magic"), "unknown method 'magic'"),
                        (lambda: run.accepted("guesses"), "unknown source 'guesses'"),
                        (lambda: run.repairs("best"), "cut rule 'best'")]:
        with pytest.raises(HealError, match=words):
            call()
