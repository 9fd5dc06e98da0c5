"""The oracles of the searching worlds, step by step, by hand: kind, valid, and whether it leads nowhere."""

import pytest

from heal_lib import worlds
from heal_lib.trajectory import STEP_DELIMITER, Problem

EQUATION = Problem("e", "equations", "easy", "equation x*3+4-2=23", "7")
PATH = Problem("p", "paths", "easy", "path F>Z A>C A>E C>F C>G: A to Z", "ACFZ")
COUNTDOWN = Problem("c", "countdown", "easy", "countdown 3 4 6 to 27", "6*4+3")


def verdicts(problem, *steps):
    report = worlds.get(problem.world).check_steps(problem, STEP_DELIMITER.join(steps))
    assert [step.text for step in report.steps] == list(steps)
    return report


def words(step):
    """A verdict in words: its kind, then what is wrong with it."""
    return step.kind + " invalid" * (not step.valid) + " fruitless" * step.fruitless


@pytest.mark.parametrize("problem, before, step, verdict", [
    (EQUATION, [], "+4-2:+2", "routine"),
    (EQUATION, [], "+4-2:+6", "routine invalid"),
    (EQUATION, [], "+2-4:-2", "routine invalid"),  # true, and of another equation
    (EQUATION, [], "x*3+2=23", "routine"),
    (EQUATION, [], "x*3+4-2=23", "routine invalid"),  # it is to be collected
    (EQUATION, [], "23-2=21", "derive"),
    (EQUATION, [], "23-2=22", "derive invalid"),
    (EQUATION, [], "21/3=7", "work fruitless"),  # before it is due it leads nowhere
    (EQUATION, ["23-2=21"], "21/3=7", "derive"),
    (EQUATION, ["23-2=21"], "21/0=7", "work invalid fruitless"),
    (EQUATION, ["23-2=21"], "23-2=21", "work fruitless"),
    (EQUATION, ["23-2=21", "21/3=7"], "7-2=5", "work fruitless"),
    (EQUATION, [], "try 7", "try"),
    (EQUATION, [], "try 6", "try fruitless"),
    (EQUATION, [], "try 1", "try fruitless"),
    (EQUATION, [], "try 99", "try fruitless"),
    (EQUATION, [], "try 0", "try invalid fruitless"),
    (EQUATION, [], "try 100", "try invalid fruitless"),
    (EQUATION, ["try 7"], "7*3=21", "work"),
    (EQUATION, ["try 7"], "7*3=22", "work invalid"),
    (EQUATION, ["try 6"], "6*3=18", "work fruitless"),
    (EQUATION, [], "23=23", "work"),
    (EQUATION, [], "20<23", "work fruitless"),
    (EQUATION, [], "20>23", "work invalid fruitless"),
    (EQUATION, [], "20=23", "work invalid fruitless"),
    (EQUATION, [], "26>23", "work fruitless"),
    (EQUATION, [], "22=22", "work invalid"),
    (EQUATION, [], "75*2>149", "work fruitless"),
    (EQUATION, [], "74*2>149", "work invalid fruitless"),
    (EQUATION, [], "5-5<0", "work invalid fruitless"),
    (EQUATION, [], "5-6<0", "work fruitless"),
    (EQUATION, [], "149+0>149", "work invalid fruitless"),
    (EQUATION, [], "give up", "stop fruitless"),
    (EQUATION, [], "\\boxed{7}", "answer"),
    (EQUATION, [], "\\boxed{6}", "answer invalid"),
    (EQUATION, [], "well", "unknown invalid"),
    (PATH, [], "goal Z", "routine"),
    (PATH, [], "goal F", "unknown invalid"),
    (PATH, [], "into Z: F>Z", "derive"),
    (PATH, [], "into Z: C>Z", "derive invalid"),
    (PATH, [], "into F: F>Z", "derive invalid"),  # what it says is of Z
    (PATH, [], "into F: C>F", "derive fruitless"),  # true, but nothing needs it yet
    (PATH, ["into Z: F>Z"], "into F: C>F", "derive"),
    (PATH, ["into Z: F>Z"], "into Z: F>Z", "derive fruitless"),
    (PATH, [], "from A: A>C", "try"),
    (PATH, [], "from A: A>E", "try fruitless"),
    (PATH, [], "from C: C>F", "try invalid"),  # the walk is at A
    (PATH, ["from A: A>C"], "from C: C>F", "try"),
    (PATH, [], "from A: A>Z", "try invalid"),
    (PATH, [], "from A: none", "try invalid fruitless"),
    (PATH, ["from A: A>E"], "from E: none", "try fruitless"),
    (PATH, [], "back to A", "try fruitless"),
    (PATH, [], "back to C", "try invalid fruitless"),
    (PATH, ["from A: A>C", "back to A"], "from A: A>E", "try fruitless"),
    (PATH, [], "guess ACFZ", "assert"),
    (PATH, [], "guess ACGZ", "assert invalid"),
    (PATH, [], "check A>C C>F", "work"),
    (PATH, [], "check A>C C>Z", "work invalid"),
    (PATH, [], "give up", "stop fruitless"),
    (PATH, [], "\\boxed{ACFZ}", "answer"),
    (PATH, [], "\\boxed{AEFZ}", "answer invalid"),
    (PATH, [], "into Z:F>Z", "unknown invalid"),
    (COUNTDOWN, [], "sorted 6 4 3", "routine"),
    (COUNTDOWN, [], "sorted 3 4 6", "unknown invalid"),
    (COUNTDOWN, [], "goal 27", "routine"),
    (COUNTDOWN, [], "goal 28", "unknown invalid"),
    (COUNTDOWN, [], "6*4=24", "work"),
    (COUNTDOWN, [], "6*4=25", "work invalid"),
    (COUNTDOWN, [], "27=27", "work"),
    (COUNTDOWN, [], "26<27", "work fruitless"),
    (COUNTDOWN, [], "28>27", "work fruitless"),
    (COUNTDOWN, [], "28<27", "work invalid fruitless"),
    (COUNTDOWN, [], "28=27", "work invalid fruitless"),
    (COUNTDOWN, [], "26=26", "work invalid"),
    (COUNTDOWN, [], "give up", "stop fruitless"),
    (COUNTDOWN, [], "\\boxed{3+4*6}", "answer invalid"),
    (COUNTDOWN, [], "\\boxed{4*6+3}", "answer"),
    (COUNTDOWN, [], "6/3=2", "unknown invalid"),
])
def test_every_kind_of_step_right_and_wrong(problem, before, step, verdict):
    assert words(verdicts(problem, *before, step).steps[-1]) == verdict


@pytest.mark.parametrize("problem, steps, derived", [
    (EQUATION, ["23-2=21", "21/3=7", "\\boxed{7}"], True),
    (EQUATION, ["23-2=20", "20/3=7", "\\boxed{7}"], True),  # it follows, from a false step
    (EQUATION, ["23-2=21", "\\boxed{21}"], False),
    (EQUATION, ["23-2=21", "21/3=7", "\\boxed{6}"], False),
    (EQUATION, ["try 7", "7*3=21", "21+2=23", "23=23", "\\boxed{7}"], False),
    (PATH, ["into Z: F>Z", "into F: C>F", "into C: A>C", "\\boxed{ACFZ}"], True),
    (PATH, ["into Z: F>Z", "into F: C>F", "\\boxed{CFZ}"], False),
    (PATH, ["into Z: F>Z", "into C: A>C", "into F: C>F", "\\boxed{ACFZ}"], False),
    (PATH, ["guess ACFZ", "into Z: F>Z", "into F: C>F", "into C: A>C", "\\boxed{ACFZ}"], False),  # said before
    (COUNTDOWN, ["6*4=24", "24+3=27", "27=27", "\\boxed{6*4+3}"], True),
    (COUNTDOWN, ["3+4=7", "6*4=24", "24+3=27", "\\boxed{6*4+3}"], True),  # after another attempt
    (COUNTDOWN, ["6*4=24", "3+4=7", "24+3=27", "\\boxed{6*4+3}"], False),
    (COUNTDOWN, ["6*4=25", "25+3=27", "\\boxed{6*4+3}"], False),
    (COUNTDOWN, ["24+3=27", "\\boxed{6*4+3}"], False),
    (COUNTDOWN, ["6*4=24", "24+3=27", "\\boxed{4*6+3}"], False),  # works out another expression
    (COUNTDOWN, ["6*4=24", "24+3=27"], False),
])
def test_what_counts_as_derived(problem, steps, derived):
    assert verdicts(problem, *steps).derived is derived


def test_a_text_is_cut_by_the_world_s_delimiter_or_a_given_one():
    world, pieces = worlds.get("paths"), ["a", "\n\n", "b", ";", "c"]
    assert world.spans(pieces) == world.spans(pieces, STEP_DELIMITER) == [(0, 2), (2, 5)]
    assert world.spans(pieces, ";") == [(0, 4), (4, 5)]
