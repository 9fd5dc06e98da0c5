"""The gates of a teacher that is to judge GEAR, and the teacher without a model that they can be tried on."""

import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from heal_lib import embedded, gear, worlds
from heal_lib.embedded import gates
from heal_lib.embedded.writer import Writer
from heal_lib.engines import SamplingParams
from heal_lib.trajectory import problem_of, step_spans
from heal_lib.worlds.registers import Habit

WORLD = worlds.get("registers")
PARAMS = SamplingParams(224)


# --- gates

def test_a_gate_s_verdict_follows_from_its_number():
    values = {name: low for name, (low, _) in gates.GATES.items()}
    assert all(met for *_, met in gates.verdict(values).values())
    found = gates.verdict({**values, "oracle_over_start": 1.29, "surface_auroc": 0.91, "kept_values": 40})
    assert [name for name, (*_, met) in found.items() if not met] == ["oracle_over_start", "surface_auroc"]


CARDS = sorted(embedded.WEIGHTS.glob("*-teacher/card.json"))


@pytest.mark.parametrize("path", CARDS, ids=lambda path: path.parent.name)
def test_a_shipped_card_says_which_gates_are_met(path):
    card = json.loads(path.read_text())
    assert card["gates"] == gates.verdict({name: value for name, (value, *_) in card["gates"].items()})
    assert set(card["judges_gear"]["repairs"]) >= set(gates.RULES)


def test_gates_are_measured_by_hand(scripted):
    rows = [{"problem_id": "p", "text": text, "correct": True, "genuine": genuine, "n_generated": 50, "n_kept": 0,
             "token_ids": [1]} for text, genuine in (("a", 1), ("a", 1), ("b", 1), ("c", 0))]
    found = gates.summary(scripted(), rows, [{"problem_id": "p", "text": "b"}, {"problem_id": "q", "text": "a"}])
    assert found == {"kept": 0, "verified": 1, "genuine": 0.75, "unique": pytest.approx(2 / 3),
                     "as_hinted": pytest.approx(1 / 3), "genuine_per_1000": 15}
    told = [{"text": "5*3=15" if spurious else "5+3=8", "token_ids": [1], "genuine": int(not spurious)}
            for spurious in (0, 1, 1, 0)]
    surface = gates.surface_aurocs(told)
    assert surface[r"\*"] == surface["characters"] == 1.0 and surface["tokens"] == 0.5


def test_failed_texts_to_repair_are_those_of_unsolved_problems():
    pool = [{"problem_id": p, "correct": c, "sample": i} for p, n in (("a", 0), ("b", 1), ("c", 2))
            for i, c in enumerate([True] * n + [False] * 9)]
    found = gates.chosen(pool, Counter(r["problem_id"] for r in pool if r["correct"]))
    assert Counter(r["problem_id"] for r in found) == {"a": gates.N_FAILED, "b": gates.N_FAILED}
    assert not any(r["correct"] for r in found) and found == gates.chosen(pool, Counter({"b": 1, "c": 2}))


# --- the teacher without a model

def draws(how=None, n=1, told="", problems=20):
    writer = Writer(how or Habit())
    return writer, gates.draw(writer, WORLD, WORLD.problems("development", problems, 1, "hard"), PARAMS, n, told)


def test_it_writes_as_the_habit_says():
    writer, rows = draws(n=2)
    assert [row["text"] for row in rows] == [row["text"] for row in draws(n=2)[1]] and all(r["finished"] for r in rows)
    assert all("".join(writer.pieces(row["token_ids"])) == row["text"] for row in rows)
    assert {row["genuine"] for row in draws(Habit(chances=(1.0,) * 8))[1]} == {1}
    assert not any(row["correct"] for row in draws(Habit(chances=(0.0,) * 8))[1])
    assert all(row["correct"] for row in draws(told="answer")[1])
    assert not any(row["correct"] for row in draws(told="wrong")[1])


def test_its_entropies_are_those_of_its_choices():
    """Sure of everything but the forks, it is undecided at their operations alone: ln 3 in each."""
    third = Habit(chances=(1 / 3,) * 8, confident=0.5, stay=1.0, free=0.0)
    for writer, row in ((writer, row) for writer, rows in [draws(third, problems=5)] for row in rows):
        pieces, h = writer.pieces(row["token_ids"]), np.array(row["entropy"])
        at = [i for i, piece in enumerate(pieces) if piece in "+-*" and pieces[i - 1] in (" even ", " odd ")]
        assert h[at] == pytest.approx(np.log(3)) and len(at) >= 2 and h.sum() == pytest.approx(len(at) * np.log(3))
    free = replace(third, free=1.0)
    assert draws(free, problems=1)[1][0]["entropy"][0] == pytest.approx(np.log(3))  # three registers, any may be first


def test_where_forks_are_undecided_and_order_is_fixed_the_surge_is_a_fork():
    writer, rows = draws(Habit(chances=(0.1,) * 8, confident=0.5, stay=1.0, free=0.0))
    for row in rows:
        spans = step_spans(writer.pieces(row["token_ids"]))
        found = gear.find_breakpoint([np.mean(row["entropy"][a:b]) for a, b in spans], window=1)
        assert WORLD.check_steps(problem_of(row), row["text"]).steps[found].kind == "derive"


def test_a_teacher_that_writes_as_the_corpus_does_meets_every_gate():
    """Only then can a trained one meet them."""
    found = gates.verdict(gates.measure(Writer(Habit()), WORLD, n_problems=30, rules=gates.RULES[:4])["gates"])
    assert not [name for name, (*_, met) in found.items() if not met], found
