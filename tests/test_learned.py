import numpy as np
import pandas as pd
import pytest
from micro import micro

from heal_lib import learned, stats, students, teacher, worlds
from heal_lib.engines import SamplingParams
from heal_lib.experiment import Experiment
from heal_lib.store import Store
from heal_lib.trajectory import rng_of
from heal_lib.worlds.base import box

WORLD = worlds.get("equations")


def frame(rows):
    return pd.DataFrame(rows, columns=["method", "seed", "benchmark", "problem_id", "world", "sample", "text",
                                       "correct"])


def texts(problem):
    """(derived, guessed right, guessed wrong)"""
    derived = "\n\n".join([*WORLD.routine(problem), *WORLD.derivation(problem), box(problem.answer)])
    return derived, f"try {problem.answer}\n\n" + box(problem.answer), "give up\n\n" + box("0")


def test_strategy_counts_who_derives_and_how_often_that_is_right():
    problems = WORLD.problems("test", 4, 0, "hard")
    rows = []
    for p in problems:
        derived, guessed, wrong = texts(p)
        slipped = derived.rpartition("\n\n")[0] + "\n\n" + box("0")
        rows += [("heal", 0, "equations-hard", p.id, "equations", 0, derived, True),
                 ("heal", 0, "equations-hard", p.id, "equations", 1, slipped, False),
                 ("heal", 0, "equations-hard", p.id, "equations", 2, guessed, True),
                 ("heal", 0, "equations-hard", p.id, "equations", 3, wrong, False),
                 ("sft", 0, "equations-hard", p.id, "equations", 0, wrong, False)]
    found = learned.strategy(frame(rows), problems, n_boot=50).set_index("method")
    assert found.loc["heal", ["uses", "right_using", "right_else", "genuine"]].tolist() == [0.5, 0.5, 0.5, 0.25]
    assert found.loc["heal", ["right", "sound"]].tolist() == [0.5, 1]  # who slips does so in the box
    assert found.loc["sft", "uses"] == 0 and found.loc["sft", ["right_using", "sound"]].isna().all()
    assert set(found["decoding"]) == {"sampled"}
    assert found.loc["heal", "n_problems"] == 4 and found.loc["heal", "n_samples"] == 16


def test_in_registers_what_varies_is_whether_forks_are_taken_rightly_and_where_a_text_breaks():
    world = worlds.get("registers")
    rows, problems = [], world.problems("test", 6, 0, "hard")
    for p in problems:
        steps = world.derivation(p)
        at = next(i for i, step in enumerate(steps) if step[-1] in "+-*")  # the first fork
        wrong = [*steps[:at], steps[at][:-1] + "+-*"["+-*".index(steps[at][-1]) - 1], *steps[at + 1 :]]
        texts = ["\n\n".join([*each, box(p.answer)]) for each in (steps, wrong)]
        rows += [("heal", 0, "registers-hard", p.id, "registers", j, text, True) for j, text in enumerate(texts)]
        if p is problems[0]:
            first = at / (len(steps) + 1)
    (row,) = learned.strategy(frame(rows), problems, n_boot=50).to_dict("records")
    assert (row["uses"], row["sound"], row["genuine"]) == (1, 0.5, 0.5)
    (one,) = learned.strategy(frame(rows[:2]), problems, n_boot=50).to_dict("records")
    assert one["before_break"] == pytest.approx((1 + first) / 2)


def test_greedy_samples_are_rows_of_their_own():
    rows = [("heal", 0, "equations-hard", p.id, "equations", 0, texts(p)[k], k < 2)
            for p in WORLD.problems("test", 3, 0, "hard") for k in (0, 2)]
    both = frame(rows).assign(decoding=["greedy", "sampled"] * 3)
    found = learned.strategy(both, WORLD.problems("test", 3, 0, "hard"), n_boot=50).set_index("decoding")
    assert found["right"].to_dict() == {"greedy": 1, "sampled": 0}
    wide = learned.beside(found.reset_index())
    assert list(wide.index) == [("equations-hard", "heal")] and list(wide["right"].columns) == ["greedy", "sampled"]
    assert list(dict.fromkeys(wide.columns.get_level_values(0))) == [
        name for name in learned.SHARES if found[name].notna().any()]


def test_a_greedy_evaluation_asks_each_hard_problem_once_and_leaves_the_usual_one_alone(says, tmp_path):
    engine = says()
    run = Experiment(micro(), Store(tmp_path))
    found = run.greedy(["student"], [0, 1])
    assert found.groupby(["problem_id", "seed"]).size().eq(1).all() and len(found) == 2 * 2
    assert set(found["benchmark"]) == {"equations-hard"} and set(found["method"]) == {"student"}
    asked = [call for call in engine.calls if call["key"].startswith("sampled/")]
    assert {(call["n"], call["params"].top_p) for call in asked} == {(1, students.GREEDY)}
    assert len(asked) == 2  # under the other seed it says the same
    (one,) = teacher.families(run.cfg)
    usual = students.evaluation(one, "student", 0)
    assert usual.inputs["n"] == 2 and usual.inputs["settings"]["top_p"] == 1 and len(usual.inputs["benchmarks"]) == 2
    assert students.greedy(usual).name == "greedy student equations seed 0"


def test_so_small_a_top_p_is_greedy(real):
    params = SamplingParams(max_new_tokens=12, top_p=students.GREEDY)
    prompts = [real.encode("equation x*3+2=23\n\n"), real.encode("facts\n\n")]
    one, other = (real.sample(prompts, 2, params, seed=seed) for seed in (1, 2))
    (first,), _ = real.sample(prompts, 1, SamplingParams(max_new_tokens=12, top_k=1), seed=3)
    assert [d.token_ids for draws in one for d in draws] == [d.token_ids for draws in other for d in draws]
    assert one[0][0].token_ids == one[0][1].token_ids == first.token_ids


def test_a_world_without_an_oracle_has_no_row():
    problem = worlds.get("math").problems("test", 1, 0, "own")[0]
    assert learned.strategy(frame([("heal", 0, "math-own", problem.id, "math", 0, box("1"), False)]), [problem],
                            n_boot=10).empty


def test_the_strategy_s_intervals_know_of_seeds():
    """Every problem alike, one seed of two uses the strategy: nothing varies but seeds."""
    rows = []
    for p in WORLD.problems("test", 4, 0, "hard"):
        derived, guessed, wrong = texts(p)
        rows += [("heal", seed, "equations-hard", p.id, "equations", k, text, text is not wrong)
                 for seed, both in ((0, (derived, wrong)), (1, (guessed, guessed))) for k, text in enumerate(both)]
    (row,) = learned.strategy(frame(rows), WORLD.problems("test", 4, 0, "hard"), n_boot=400).to_dict("records")
    assert (row["uses"], row["genuine"], row["right_using"]) == (0.25, 0.25, 1)
    for name in ("uses", "genuine", "right_else"):
        assert row[f"{name}_low"] < row[name] < row[f"{name}_high"]
    assert row["right_using_low"] == pytest.approx(0.025 ** (1 / 4)) and row["right_using_high"] == 1


def test_corners_sort_problems_by_what_the_teacher_solves():
    rng, rows = rng_of("corners"), []
    solves = {"a": 0, "b": 1, "c": 3, "d": 8, "e": 0}  # of four samples, under each of three seeds
    for key, c in solves.items():
        rows += [("teacher", seed, "w-hard", key, "w", j, "", 4 * seed + j < c) for seed in (0, 1, 2) for j in range(4)]
        rows += [("heal", seed, "w-hard", key, "w", j, "", key == "a") for seed in (0, 1, 2) for j in range(2)]
    rng.shuffle(rows)
    found = learned.corners(frame(rows), n_boot=50).query("method == 'heal'").set_index("solved")
    # b and c are solved under seed 0 alone: for that seed's students they count as never solved.
    assert found["n_problems"].to_dict() == {"0": 4, "1": 1, "2-5": 2, "6+": 1}
    assert found["mean"].to_dict() == pytest.approx({"0": 3 / 8, "1": 0, "2-5": 0, "6+": 0})
    assert set(found["of"]) == {8} and found["n_seeds"].to_dict() == {"0": 3, "1": 2, "2-5": 3, "6+": 1}


def test_a_class_shares_no_luck_with_those_who_are_counted_in_it():
    """The student gives the teacher's own samples: it is right as often in every class."""
    rng, rows = np.random.default_rng(0), []
    for p in range(200):
        for seed in range(3):
            for j, right in enumerate(rng.random(2) < 0.3):
                rows += [(method, seed, "w-hard", f"{p}", "w", j, "", right) for method in ("teacher", "copy")]
    found = learned.corners(frame(rows), n_boot=200)
    assert found.groupby("solved")["mean"].nunique().eq(1).all()  # the teacher's own row needs no pardon either
    assert ((found["ci_low"] < 0.3) & (found["ci_high"] > 0.3)).all() and set(found["of"]) == {4}


def test_one_seed_of_the_teacher_makes_no_classes():
    assert learned.corners(frame([(m, 0, "w-hard", "a", "w", 0, "", True) for m in ("teacher", "heal")]),
                           n_boot=10).empty


def test_without_the_teacher_there_are_no_corners():
    assert learned.corners(frame([("heal", 0, "w-hard", "a", "w", 0, "", True)]), n_boot=10).empty


def solved(c, heal, other, n=3):
    """One problem per entry, under each of three seeds: c right samples of the teacher's n, one each of the others."""
    rows = []
    for i, (many, a, b) in enumerate(zip(c, heal, other, strict=True)):
        for seed in range(3):
            rows += [("teacher", seed, "w-hard", f"{i}", "w", j, "", 3 * seed + j < many) for j in range(n)]
            rows += [(m, seed, "w-hard", f"{i}", "w", 0, "", bool(right)) for m, right in (("heal", a), ("sft-rs", b))]
    return frame(rows)


def test_in_each_class_heal_is_set_against_the_others_pair_by_pair():
    rows = solved([0] * 8, [1] * 6 + [0, 0], [1, 1] + [0] * 6)
    found = learned.corners(rows, n_boot=400).set_index("method")
    line = found.loc["sft-rs"]
    assert line["gain"] == pytest.approx(0.5) and 0 < line["gain_low"] < 0.5 < line["gain_high"] < 1
    gains = np.repeat([[0], [0], *[[1]] * 4, [0], [0]], 3, axis=1)  # each problem in this class under every seed
    assert line["gain_p"] == pytest.approx(stats.paired_p(gains, np.zeros_like(gains)))
    assert found.loc["teacher", "gain"] == 0.75 and found.loc[["heal"], "gain":"gain_high"].isna().all(axis=None)
    alone = learned.corners(rows[rows["method"] != "heal"], n_boot=50)
    assert len(alone) == 2 and alone["gain"].isna().all() and learned.said_corners(alone) == []


def test_where_no_pair_differs_the_interval_is_the_exact_one():
    line = learned.corners(solved([0] * 8, [1, 0] * 4, [1, 0] * 4), n_boot=50).set_index("method").loc["sft-rs"]
    q = 1 - 0.025 ** (1 / 8)
    assert [line["gain"], line["gain_low"], line["gain_high"]] == pytest.approx([0, -q, q])


def test_what_heal_adds_in_the_corners_is_said_whichever_way_it_falls():
    def said(heal, other):
        return learned.said_corners(learned.corners(solved([0] * 8, heal, other), n_boot=400))

    (more,), (fewer,), (nothing,) = said([1] * 8, [0] * 8), said([0] * 8, [1] * 8), said([1, 0] * 4, [0, 1] * 4)
    assert more.startswith("**w-hard**, solved 0 of 6 (8 problems): heal minus sft-rs is +100.0 [")
    assert more.endswith("lies above zero: heal solves more of these.")
    assert fewer.endswith("lies below zero: heal solves fewer of these.")
    assert nothing.endswith("points; the interval includes zero: it shows nothing.")


def test_worlds_that_share_a_student_are_pooled():
    rows = frame([("heal", 0, f"{w}-{d}", "a", w, 0, "", True) for w, d in (
        ("equations", "easy"), ("equations", "hard"), ("registers", "hard"), ("paths", "hard"))])
    rows["difficulty"] = rows["benchmark"].str.rpartition("-")[2]
    assert learned.by_family(rows)["benchmark"].tolist() == [
        "equations+paths-hard", "registers-hard", "equations+paths-hard"]
