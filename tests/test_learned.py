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


def test_corners_sort_problems_by_what_the_teacher_solves():
    rng, rows = rng_of("corners"), []
    solves = {"a": 0, "b": 1, "c": 3, "d": 8, "e": 0}
    for key, c in solves.items():
        rows += [("teacher", seed, "w-hard", key, "w", j, "", 4 * seed + j < c) for seed in (0, 1) for j in range(4)]
        rows += [("heal", seed, "w-hard", key, "w", j, "", key == "a") for seed in (0, 1) for j in range(2)]
    rng.shuffle(rows)
    found = learned.corners(frame(rows), n_boot=50).query("method == 'heal'").set_index("solved")
    assert found["n_problems"].to_dict() == {"0": 2, "1": 1, "2-5": 1, "6+": 1}
    assert found["mean"].to_dict() == pytest.approx({"0": 0.5, "1": 0, "2-5": 0, "6+": 0})
    assert set(found["of"]) == {8} and set(found["n_seeds"]) == {2}


def test_without_the_teacher_there_are_no_corners():
    assert learned.corners(frame([("heal", 0, "w-hard", "a", "w", 0, "", True)]), n_boot=10).empty
