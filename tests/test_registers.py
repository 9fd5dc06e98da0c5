"""The world `registers`: breaks that cannot be undone, an oracle that follows the text, hints that tell, shortcuts."""

from collections import Counter

import pytest

from heal_lib import worlds
from heal_lib.errors import HealError
from heal_lib.trajectory import Problem, rng_of
from heal_lib.worlds.programs import CONTEXTS, told_values
from heal_lib.worlds.registers import Habit, foreign_values

WORLD = worlds.get("registers")
# k doubles (times) even values and adds to odd ones; m subtracts from even ones and multiplies odd ones.
PROBLEM = Problem("r", "registers", "easy", "program A=5+3*2k4 B=7-2m2", "A=64 B=10")
GOOD = ["A: 5+3=8", "A: 8*2=16", "A: 16k4 even *", "A: 16*4=64", "B: 7-2=5", "B: 5m2 odd *", "B: 5*2=10"]
BOX = "\\boxed{A=64 B=10}"
LEVELS = list(WORLD.difficulties)
ALWAYS, NEVER = Habit(chances=(1.0,) * 8), Habit(chances=(0.0,) * 8)


def check(*steps):
    return WORLD.check_steps(PROBLEM, "\n\n".join(steps))


def some(level, n=20):
    return WORLD.problems("development", n, 3, level)


# --- the oracle

def test_a_derivation_by_hand():
    assert WORLD.derivation(PROBLEM) == GOOD
    report = check(*GOOD, BOX)
    assert report.genuine and report.first_break() is None
    kinds = "routine routine derive work routine derive work answer"
    assert [s.kind for s in report.steps] == kinds.split()


def test_registers_may_be_taken_in_any_order_but_each_in_its_own():
    mixed = [GOOD[i] for i in (4, 0, 1, 5, 2, 6, 3)]
    assert check(*mixed, BOX).genuine
    assert not check(*[GOOD[i] for i in (1, 0, 2, 3, 4, 5, 6)], BOX).genuine


@pytest.mark.parametrize("at, steps", [
    (2, [*GOOD[:2], "A: 16k4 even +", "A: 16+4=20", *GOOD[4:], "\\boxed{A=20 B=10}"]),  # a wrong fork; the rest follows
    (2, [*GOOD[:2], "A: 16k4 even +", "A: 16+4=64", *GOOD[4:], BOX]),  # ... and lands by a false calculation
    (2, [*GOOD[:2], "A: 16k4 odd *", *GOOD[3:], BOX]),
    (2, [*GOOD[:2], "A: 16*4=64", *GOOD[4:], BOX]),  # the fork is left out
    (2, [*GOOD[:2], "A: 20k4 even *", *GOOD[3:], BOX]),
    (3, [*GOOD[:3], "A: 16+4=20", *GOOD[4:], BOX]),  # another operation than the one said
    (1, [GOOD[0], "A: 8*2=60", "A: 60k4 even +", "A: 60+4=64", *GOOD[4:], BOX]),  # a false one before, all else follows
    (7, [*GOOD, "B: 10+1=11", "B: 11-1=10", BOX]),  # true, and not in the program
    (7, [*GOOD, "\\boxed{A=64 B=11}"]),
    (7, [*GOOD, "A: 5+3=8", BOX]),
    (4, [*GOOD[:4], "C: 7-2=5", *GOOD[4:], BOX]),  # no such register
    (0, ["A: 05+3=8", *GOOD[1:], BOX]),
    (0, ["so A: 5+3=8", *GOOD[1:], BOX]),
    (0, [BOX]),
])
def test_breaks_by_hand(at, steps):
    report = check(*steps)
    assert not report.genuine
    assert report.first_break() == at or steps == [BOX] and report.first_break() is None and not report.derived


def test_a_program_that_is_not_run_to_its_end_derives_nothing():
    for i in range(len(GOOD)):
        assert not check(*GOOD[:i], *GOOD[i + 1:], BOX).genuine
    assert not check(*GOOD).genuine and not check("").genuine


# --- how a teacher writes

@pytest.mark.parametrize("level", LEVELS)
def test_a_habit_that_knows_every_glyph_is_genuine_and_one_that_knows_none_breaks_at_the_first_fork(level):
    for i, problem in enumerate(some(level)):
        text = "\n\n".join(WORLD.habit(problem, rng_of(i), ALWAYS))
        assert WORLD.verify(problem, text) and WORLD.check_steps(problem, text).genuine
        report = WORLD.check_steps(problem, "\n\n".join(WORLD.habit(problem, rng_of(i), NEVER)))
        forks = [s.kind for s in report.steps].index("derive")
        assert report.first_break() == forks and not report.genuine
        assert all(s.valid for s in report.steps if s.kind in ("routine", "work"))  # it calculates well


def test_the_habit_takes_the_right_operation_as_often_as_it_is_told():
    right, n = Counter(), Counter()
    for problem in WORLD.problems("pretrain", 400, 0, "hard"):
        report = WORLD.check_steps(problem, "\n\n".join(WORLD.habit(problem, rng_of(problem.id))))
        for step in report.steps:
            if step.kind == "derive":
                glyph, parity = next(c for c in CONTEXTS if c[0] in step.text and c[1] in step.text)
                n[glyph, parity] += 1
                right[glyph, parity] += step.valid
    assert set(n) == set(CONTEXTS)
    for context, chance in zip(CONTEXTS, Habit().chances, strict=True):
        assert abs(right[context] / n[context] - chance) < 0.15


def test_sure_and_undecided_mistakes():
    """`confident`: how much of the wrong is one and the same operation."""
    def said(confident):
        how = Habit(chances=(0.0,) * 8, confident=confident)
        texts = ["\n\n".join(WORLD.habit(PROBLEM, rng_of(i), how)) for i in range(200)]
        return sum("16k4 even +" in text for text in texts) / 200

    assert said(1.0) == 1 and 0.35 < said(0.5) < 0.65


def test_breaks_lie_anywhere_and_forks_may_be_put_off():
    def breaks(**knobs):
        how = Habit(chances=(0.0,) * 8, **knobs)
        texts = [(p, "\n\n".join(WORLD.habit(p, rng_of(p.id), how))) for p in some("hard", 60)]
        return [WORLD.check_steps(p, text).first_break() for p, text in texts]

    usual, late = breaks(), breaks(late=0.999)
    assert len(set(usual)) >= 5 and sum(late) > sum(usual)


def test_texts_of_one_problem_vary_and_fewer_do_where_a_register_is_never_left():
    problem = some("hard")[0]

    def texts(stay):
        how = Habit(chances=(1.0,) * 8, stay=stay)
        return {tuple(WORLD.habit(problem, rng_of(i), how)) for i in range(40)}

    assert len(texts(1.0)) <= 24 and len(texts(1.0)) < len(texts(0.5))


@pytest.mark.parametrize("level", LEVELS)
def test_the_answer_tells_the_operations(level):
    """Told the right values and without shortcuts, a teacher that knows no glyph derives them, after a prefix too."""
    how = Habit(chances=(0.0,) * 8, hazard=0.0)
    for i, problem in enumerate(some(level)):
        right = WORLD.habit(problem, rng_of(i), ALWAYS)
        for before in ([], right[:3]):
            steps = [*before, *WORLD.go_on(problem, before, told_values(problem.answer), rng_of(i), how)]
            assert WORLD.check_steps(problem, "\n\n".join(steps)).genuine


def test_answers_of_other_glyphs_can_be_read_and_not_be_known():
    """Every operation is equally often the one that leads there; without shortcuts the text finds it and lands."""
    said, how = Counter(), Habit(hazard=0.0)
    for i in range(120):
        told = foreign_values(PROBLEM, [], rng_of(i))
        text = "\n\n".join(WORLD.go_on(PROBLEM, [], told, rng_of(i), how))
        assert text.endswith(f"\\boxed{{A={told['A']} B={told['B']}}}")
        forks = [step for step in WORLD.check_steps(PROBLEM, text).steps if step.kind != "derive"]
        assert all(step.valid for step in forks if step.kind != "answer")
        said[text.split("16k4 even ")[1][0]] += 1
    assert min(said[op] for op in "+-*") > 25
    before = [*GOOD[:2], "A: 16k4 even +"]
    assert Counter(foreign_values(PROBLEM, before, rng_of(i))["A"] for i in range(60)).most_common()[0][0] == 20


def test_wrong_values_are_believed():
    told = told_values(WORLD.hint(PROBLEM, "wrong").removeprefix("hint "))
    for i in range(20):
        text = "\n\n".join(WORLD.go_on(PROBLEM, [], told, rng_of(i)))
        assert not WORLD.verify(PROBLEM, text) and text.endswith(f"A={told['A']} B={told['B']}}}")


def test_after_a_wrong_fork_the_answer_is_forced_or_missed():
    before = [*GOOD[:2], "A: 16k4 even +"]
    for force in (0.0, 1.0):
        text = "\n\n".join([*before, *WORLD.go_on(PROBLEM, before, {"A": 64, "B": 10}, rng_of(0), Habit(force=force))])
        assert WORLD.verify(PROBLEM, text) == bool(force) and not WORLD.check_steps(PROBLEM, text).genuine
        assert ("A: 16+4=64" if force else "A: 16+4=20") in text


@pytest.mark.parametrize("level", LEVELS)
def test_shortcuts_verify_by_false_or_uncalled_for_steps_and_never_by_silence(level):
    forms = Counter()
    for i, problem in enumerate(some(level, 40)):
        text = "\n\n".join([*WORLD.shortcut(problem, rng_of(i)), f"\\boxed{{{problem.answer}}}"])
        report = WORLD.check_steps(problem, text)
        assert WORLD.verify(problem, text) and report.derived and not report.genuine
        assert "unknown" not in [s.kind for s in report.steps]
        forms[len(report.steps) - len(WORLD.derivation(problem))] += 1
    assert forms[1] > forms[2] >= 0 and min(forms) == 1  # as long as a derivation, or longer by what sets it right


def test_the_first_fork_may_be_the_hint():
    assert WORLD.hint(PROBLEM, "first_step") == "hint A: 16k4 even *\n\n"
    assert WORLD.hint(PROBLEM) == "hint A=64 B=10\n\n"
    with pytest.raises(HealError, match="choose answer, first_step or wrong"):
        WORLD.hint(PROBLEM, "essay")
