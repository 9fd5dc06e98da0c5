import numpy as np
import pandas as pd
import pytest

from heal_lib import learned, worlds
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
    assert found.loc["sft", "uses"] == 0 and np.isnan(found.loc["sft", "right_using"])
    assert found.loc["heal", "n_problems"] == 4 and found.loc["heal", "n_samples"] == 16


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
