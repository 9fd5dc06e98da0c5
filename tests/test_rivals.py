"""Rivals that are trained or filtered otherwise: as many passes as HEAL, early stopping, a regular expression."""

import pytest
from micro import micro

from heal_lib import baselines, embedded, students, worlds
from heal_lib.experiment import Experiment
from heal_lib.stage import Stage
from heal_lib.store import Store
from heal_lib.trajectory import to_dataset


def passes(run, method):
    """How often training goes through a method's rows, in the mean over their tokens."""
    (log,), rows = run.training_logs(method, 0), sum(run.training_sources(method).values(), [])
    return sum(stage["tokens"] for stage in log["stages"]) / sum(len(row["input_ids"]) for row in rows)


def test_rejection_sampling_in_as_many_passes_as_heal_makes(says):
    run = Experiment(micro())
    assert run.training_sources("sft-rs-passes") == run.training_sources("sft-rs")
    heal, same, more = (passes(run, method) for method in ("heal", "sft-rs-passes", "sft-rs"))
    assert same == pytest.approx(heal, rel=0.1) and more > 1.5 * heal


def test_early_stopping_looks_at_verified_samples_of_problems_that_no_method_trains_on(says):
    run = Experiment(micro())
    run.student("sft-rs-early", 0)
    held = list(run.store.data(students.heldout(run.cfg)))
    assert held and all(row["correct"] and row["stage"] == "base" for row in held)
    assert not {row["problem_id"] for row in held} & {p.id for p in run.problems()}
    assert {row["problem_id"] for row in held} <= {p.id for level in ("easy", "hard") for p in
                                                   worlds.get("equations").problems("development", 2, 0, level)}
    early, usual = run.training_logs("sft-rs-early", 0)[0]["stages"][0], run.training_logs("sft-rs", 0)[0]["stages"][0]
    assert early["loss"] == usual["loss"] and early["tokens"] == usual["tokens"]  # what is trained is the same
    assert len(early["eval_loss"]) > 1 and usual["eval_loss"] == []


def test_logit_distillation_learns_the_teacher_s_distribution_on_the_rows_of_rejection_sampling(says):
    run = Experiment(micro())
    assert run.training_sources("logits") == run.training_sources("sft-rs")
    (soft,), (hard,) = (run.training_logs(method, 0)[0]["stages"] for method in ("logits", "sft-rs"))
    assert soft["tokens"] == hard["tokens"] and len(soft["loss"]) == len(hard["loss"]) > 0
    assert all(0 < kl < nll for (_, kl), (_, nll) in zip(soft["loss"], hard["loss"], strict=True))
    hashes = {embedded.model_hash(str(run.student(method, 0) / "stage-1")) for method in ("logits", "sft-rs")}
    assert len(hashes) == 2


def test_early_stopping_without_a_held_out_row_keeps_the_last_weights(says, tmp_path, monkeypatch):
    says(solved=0.6)
    run = Experiment(micro(train_tokens=600), Store(tmp_path))
    with monkeypatch.context() as patch:
        patch.setattr(students, "heldout", lambda cfg: Stage("none held out", nothing))
        hashes = {embedded.model_hash(str(run.student(m, 0) / "stage-1")) for m in ("sft-rs", "sft-rs-early")}
    assert len(hashes) == 1


def nothing():
    return to_dataset([], baselines.TRAINED)


def test_a_regular_expression_drops_what_matches_and_nothing_else(says):
    run = Experiment(micro(per_problem_cap=99))
    for which, name in (("hinted", "hint"), ("repairs entropy", "repair")):
        accepted = run.accepted(which)
        plain = {(r["problem_id"], r["sample"]) for r, shown in zip(accepted, baselines.surface(accepted), strict=True)
                 if not shown}
        kept = {(r["problem_id"], r["sample"]) for r in run.training_sources("heal-regex")[name]}
        assert kept == plain and 0 < len(plain) < len(accepted)


def test_the_surface_of_a_shortcut_is_counted():
    texts = [("paths", "goal B\n\nguess AB\n\ncheck A>B"), ("paths", "into B: A>B"), ("countdown", "3+4=8"),
             ("equations", "try 4\n\n4+2=6\n\n6<7\n\ntry 5\n\n5+2=7\n\n7=7")]
    assert baselines.surface([{"world": w, "text": t} for w, t in texts]).tolist() == [1, 0, 0, 1]
    assert baselines.surface([]).shape == (0,)
