"""Corpus texts of every world, and the oracle that tells a derivation from an assertion."""

import hashlib
import random
import re
import string

import pytest
from test_worlds import answers, boxed, derivation, join, left_to_right, levels, searching, some

from heal_lib import worlds
from heal_lib.trajectory import Problem, rng_of
from heal_lib.worlds.base import SPLITS


@levels
def test_derivations_are_genuine(name, level):
    world = worlds.get(name)
    for problem in some(name, level):
        text = derivation(world, problem)
        report = world.check_steps(problem, text)
        assert world.verify(problem, text) and report.genuine and report.derived
        assert report.first_break() is None
        kinds = [step.kind for step in report.steps]
        assert kinds[-1] == "answer" and kinds[0] == "routine" and "unknown" not in kinds


def corpus(name):
    """What a world writes for given seeds: problems of every split, and a text of each kind."""
    world, rng = worlds.get(name), rng_of("corpus", name)
    for level in world.difficulties:
        yield world.longest(level)
        for problem in (p for split in SPLITS for p in world.problems(split, 5, 0, level)):
            yield problem, world.hint(problem, "wrong"), world.candidates(problem)
            yield [world.routine(problem), world.derivation(problem)]
            yield [write(problem, rng) for write in (world.habit, world.shortcut) for _ in range(3)]
        yield [world.drill(rng) for _ in range(8)]


@pytest.mark.parametrize("name, digest", [
    ("equations", "4e6b83c2c68ebf24"), ("paths", "45eabe1f992e7948"),
    ("countdown", "aaac46690034d05e"), ("registers", "3ddfda49dcf9a4af")])
def test_a_world_writes_what_the_shipped_models_were_trained_on(name, digest):
    """A generator that writes something else needs models trained anew, and all results with them."""
    assert hashlib.sha256("\n".join(map(str, corpus(name))).encode()).hexdigest()[:16] == digest


@searching
def test_shortcuts_verify_and_are_not_genuine(name, level):
    world = worlds.get(name)
    for i, problem in enumerate(some(name, level)):
        steps = world.shortcut(problem, rng_of(i))
        text = join(world.routine(problem), steps, boxed(problem.answer))
        assert world.verify(problem, text)
        facts = [re.fullmatch(r"(\d+[-+*]\d+)=(\d+)", step) for step in steps]
        honest = name == "countdown" and all(left_to_right(f[1]) == int(f[2]) for f in facts if f)
        assert world.check_steps(problem, text).genuine is honest and not honest


@searching
def test_habits_write_valid_steps_and_box_what_they_found(name, level):
    world, found = worlds.get(name), []
    for problem in some(name, level):
        for i in range(6):
            text = join(world.routine(problem), world.habit(problem, random.Random(i)))
            *steps, answer = world.check_steps(problem, text).steps
            assert all(step.valid and step.kind != "unknown" for step in steps)
            right = world.verify(problem, text)
            assert answer.kind == "answer" and answer.valid is right is answers(problem).get(answer.text[7:-1], False)
            assert right is ("give up" not in text)
            found.append(right)
            if not right:
                assert not world.check_steps(problem, text).genuine
                assert world.check_steps(problem, text).first_break() is not None
    assert not all(found)


@searching
def test_a_derivation_after_a_broken_off_attempt_is_genuine(name, level):
    """What a repaired trajectory looks like: an attempt cut anywhere, then a derivation."""
    world = worlds.get(name)
    for problem in some(name, level):
        for i in range(6):
            routine = world.routine(problem)
            attempt = [s for s in world.habit(problem, random.Random(i)) if "boxed" not in s and s != "give up"]
            for cut in range(len(attempt) + 1):
                text = join(routine, attempt[:cut], world.derivation(problem), boxed(problem.answer))
                assert world.check_steps(problem, text).genuine, text


def corruptions(step):
    """The step with its last number one higher, or its last letter another."""
    if number := re.search(r"\d+(?!.*\d)", step):
        yield step[: number.start()] + str(int(number[0]) + 1) + step[number.end():]
    elif letter := re.search("[A-Z](?!.*[A-Z])", step):
        for other in set(string.ascii_uppercase) - {letter[0]}:
            yield step[: letter.start()] + other + step[letter.end():]
    yield step + "?"
    yield "so " + step


@levels
def test_the_oracle_catches_every_corrupted_step(name, level):
    world = worlds.get(name)
    for problem in some(name, level, 6):
        steps = derivation(world, problem).split("\n\n")
        for i, step in enumerate(steps[:-1]):
            for bad in corruptions(step):
                report = world.check_steps(problem, join(steps[:i], [bad], steps[i + 1:]))
                assert not report.genuine and not report.steps[i].valid, bad
                assert report.first_break() == i


@levels
def test_a_derivation_with_a_step_left_out_or_only_the_answer_is_not_genuine(name, level):
    world = worlds.get(name)
    for problem in some(name, level, 6):
        routine, steps, answer = world.routine(problem), world.derivation(problem), boxed(problem.answer)
        moves = [i for i, step in enumerate(steps) if not re.fullmatch(r"\d+=\d+", step)]  # comparing derives nothing
        for i in moves:
            assert not world.check_steps(problem, join(routine, steps[:i], steps[i + 1:], answer)).genuine
        assert not world.check_steps(problem, join(routine, answer)).genuine
        assert not world.check_steps(problem, join(answer)).genuine
        assert not world.check_steps(problem, join(routine, steps)).genuine  # no answer
        assert not world.check_steps(problem, "").genuine


def test_the_oracle_reads_plain_digits_only():
    problem = Problem("e", "equations", "easy", "equation x*3+2=23", "7")
    world = worlds.get("equations")
    good = "23-2=21\n\n21/3=7\n\n\\boxed{7}"
    assert world.check_steps(problem, good).genuine
    assert not world.check_steps(problem, good.replace("21/3", "21/٣")).genuine
