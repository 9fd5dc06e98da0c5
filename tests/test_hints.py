"""Hints, candidates and the look of shortcuts, in every world."""

import re

import pytest
from test_worlds import answers, boxed, derivation, join, levels, searching, some

from heal_lib import sampling, worlds
from heal_lib.trajectory import Problem, rng_of
from heal_lib.worlds import base
from heal_lib.worlds.base import SPLITS


@searching
def test_hints_are_whole_steps_and_no_text_speaks_of_them(name, level):
    world = worlds.get(name)
    for i, problem in enumerate(some(name, level)):
        assert world.hint(problem) == world.hint(problem, "answer") == f"hint {problem.answer}\n\n"
        first = world.hint(problem, "first_step")
        assert first == f"hint {world.derivation(problem)[0]}\n\n" and problem.answer != first[5:-2]
        assert world.prompt(problem) == problem.question + "\n\n"
        for steps in (world.derivation(problem), world.habit(problem, rng_of(i)), world.shortcut(problem, rng_of(i))):
            text = join(world.routine(problem), steps)
            assert not world.speaks_of_hint(world.prompt(problem) + text)
        assert world.speaks_of_hint(world.hint(problem) + text)


@levels
def test_a_wrong_hint_is_another_answer_of_the_same_form(name, level):
    world = worlds.get(name)
    for problem in some(name, level):
        hint = world.hint(problem, "wrong")
        told = hint.removeprefix("hint ").removesuffix("\n\n")
        assert hint == f"hint {told}\n\n" == world.hint(problem, "wrong") and world.speaks_of_hint(hint)
        assert not world.verify(problem, boxed(told)[0]) and told != problem.answer
        form, same = (re.sub("[0-9]+", "0", re.sub("[A-Z]", "X", answer)) for answer in (told, problem.answer))
        assert form == same


@levels
def test_only_finished_right_texts_without_the_hint_are_accepted(name, level):
    world, problem = worlds.get(name), some(name, level)[0]
    text = derivation(world, problem)
    told = world.hint(problem) + text
    assert sampling.accepts(world, problem, text, True, text)
    assert not sampling.accepts(world, problem, text, False, text)
    assert not sampling.accepts(world, problem, told, True, told)
    assert sampling.accepts(world, problem, told, True)  # it was given none
    assert sampling.accepts(world, problem, told, True, text)  # what was kept from before the hint cannot speak of it
    assert not sampling.accepts(world, problem, text.removesuffix("}"), True, text)


def test_splits_part_all_problems_between_them():
    """The shares that the shipped models were trained with; nothing is left out, nothing in two."""
    assert list(SPLITS.items()) == [("pretrain", (0, 70)), ("distil", (70, 85)), ("development", (85, 90)),
                                    ("test", (90, 100))]


@levels
def test_a_world_knows_its_difficulties_and_how_long_a_sample_may_be(name, level):
    world = worlds.get(name)
    assert world.knows(level) and not world.knows("impossible")
    assert world.longest(level) == world.max_new_tokens[level] > 20
    assert level in world.levels("test") and world.fact_right("facts", "3+4=7", "3+4=7")
    assert not world.fact_right("facts", "3+4=7", "3+4=8")


# --- the answers that a problem might have

@pytest.mark.parametrize("name", ["equations", "registers"])
def test_candidates_are_the_answer_and_others_that_are_wrong(name):
    world = worlds.get(name)
    for level in world.difficulties:
        for problem in some(name, level, 6):
            found = world.candidates(problem)
            right = answers(problem)
            assert found == world.candidates(problem) and found[0] == problem.answer
            assert len(set(found)) == len(found) <= base.MOST_CANDIDATES
            assert [right[answer] for answer in found] == [True] + [False] * (len(found) - 1)
    assert world.lists_answers


def test_all_readings_of_a_program_are_candidates():
    """One register ends in a glyph that may stand for + - *, and the other in none."""
    problem = Problem("p", "registers", "easy", "program A=5+3*2k4 B=7-2", "A=64 B=5")
    assert worlds.get("registers").candidates(problem)[0] == "A=64 B=5"
    assert set(worlds.get("registers").candidates(problem)) == {"A=64 B=5", "A=20 B=5", "A=12 B=5"}


def test_where_answers_cannot_be_listed_there_are_no_candidates():
    for name in ("paths", "countdown"):
        assert worlds.get(name).candidates(some(name, "easy")[0]) is None and not worlds.get(name).lists_answers


# --- the look of a shortcut

@pytest.mark.parametrize("name, found", [("equations", 1), ("paths", 1), ("countdown", 0), ("registers", 0.3)])
def test_a_pattern_finds_shortcuts_by_their_look_and_no_derivation(name, found):
    """False arithmetic looks like any other, so of registers' shortcuts it finds one kind, and of countdown's none."""
    world = worlds.get(name)
    problems = world.problems("development", 60, 1, "hard")

    def share(write):
        return sum(bool(re.search(world.shortcut_pattern, join(world.routine(p), write(p), boxed(p.answer))))
                   for p in problems) / len(problems)

    assert share(world.derivation) == 0
    assert share(lambda p: world.shortcut(p, rng_of(p.id))) == pytest.approx(found, abs=0.1)
