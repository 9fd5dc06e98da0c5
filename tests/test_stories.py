"""Word problems: the same promises as every world (test_protocols), and what prose adds."""

import re

import pytest

from heal_lib import worlds
from heal_lib.errors import HealError
from heal_lib.trajectory import SENTENCE, split_steps
from heal_lib.worlds.prose import stated

WORLD = worlds.get("stories")
levels = pytest.mark.parametrize("level", WORLD.difficulties)


@levels
def test_a_story_has_so_many_operations_on_small_numbers(level):
    n = WORLD.difficulties[level]["n"]
    for problem in WORLD.problems("distil", 40, 0, level):
        steps = WORLD.derivation(problem)
        assert len(steps) == n and len(re.findall(r"\d+", problem.question)) == n + 1
        assert steps[-1].endswith(f"= {problem.answer}.") and problem.question.endswith("?")
        assert all(0 < int(number) <= 100 for number in re.findall(r"\d+", problem.question + problem.answer))
        assert not re.search("[{}]", problem.question)


def test_stories_are_varied():
    problems = WORLD.problems("distil", 60, 0, "two")
    skeletons = {re.sub(r"\d+", "0", p.question) for p in problems}
    assert len(skeletons) > 50
    used = "".join("".join(WORLD.derivation(p)) for p in problems)
    assert all(sign in used for sign in "+-*/")


@levels
def test_splits_share_no_numbers_and_operations(level):
    chains = [{tuple(WORLD.derivation(p)) for p in WORLD.problems(split, 15, seed, level)}
              for split, seed in (("distil", 0), ("distil", 1), ("development", 0), ("test", 0))]
    assert all(len(found) == 15 for found in chains)
    assert not (chains[0] | chains[1]) & chains[2] and not (chains[0] | chains[1] | chains[2]) & chains[3]


@pytest.fixture
def problem():
    return next(p for p in WORLD.problems("distil", 40, 0, "two") if len(set(re.findall(r"\d+", p.question))) == 3)


@levels
def test_the_oracle_tells_a_derivation_from_an_assertion(level):
    for problem in WORLD.problems("test", 20, 0, level):
        steps, end = WORLD.derivation(problem), f"The answer is {problem.answer}."
        good = " ".join(["Let us see.", *steps, end])
        assert WORLD.check_steps(problem, good).genuine and WORLD.verify(problem, good)
        asserted = f"It is {problem.answer} in all. {end}"
        assert WORLD.verify(problem, asserted) and not WORLD.check_steps(problem, asserted).genuine
        other = f"1 + {int(problem.answer) - 1} = {problem.answer}. {end}"  # right, and of other numbers
        assert not WORLD.check_steps(problem, other).genuine
        for i, step in enumerate(steps):
            wrong = [*steps[:i], re.sub(r"(\d+)\.$", lambda m: f"{int(m[1]) + 1}.", step), *steps[i + 1 :]]
            report = WORLD.check_steps(problem, " ".join([*wrong, end]))
            assert not report.genuine and report.first_break() == i
            if len(steps) > 1:
                assert not WORLD.check_steps(problem, " ".join([*steps[:i], *steps[i + 1 :], end])).genuine


@pytest.mark.parametrize("text, right", [
    ("The answer is 19.", True), ("the answer is: $19$", True), ("**Answer:** 19 pens", True), ("So \\boxed{19}.",
    True),
    ("<answer>19</answer>", True), ("20 - 1 = 19 pens are left.", True), ("19", True), ("The answer is 19.0", True),
    ("The answer is 18. Not 19.", False), ("\\boxed{18} or 19", False), ("The answer is 19. No, the answer is 18.",
    False),
    ("119", False), ("1,9", False), ("-19", False), ("The answer is nineteen.", False), ("", False), ("pens", False),
    ("<think>The answer is 19.", False), ("<think>18</think>The answer is 19.", True), ("The answer is 5 + 14 = 19",
    True),
])
def test_the_answer_is_what_the_text_states(problem, text, right):
    from dataclasses import replace

    assert WORLD.verify(replace(problem, answer="19"), text) is right


def test_stated_answers():
    assert stated("no answer here") is None
    assert stated("The answer is\n7") == "7" and stated("\\boxed{\\frac{1}{2}}") == "\\frac{1}{2}"
    assert stated("The answer is 3.5 m. Yes.") == "3.5 m"


# --- hints
def test_hints_fit_the_place_where_they_stand(problem):
    assert WORLD.hint(problem) == f"The answer is {problem.answer}. Here is why.\n\n"
    assert WORLD.hint_after(problem, "") == WORLD.hint(problem)
    same_line = WORLD.hint_after(problem, "Anna has 3 pens.")
    assert same_line == f" Now let us see why the answer is {problem.answer}."
    assert WORLD.hint_after(problem, "1. Anna has 3 pens.\n") == f"Now let us see why the answer is {problem.answer}.\n"
    for kept in ("", "Anna has 3 pens.", "Anna.\n"):
        for form in ("answer", "wrong", "first_step"):
            told = WORLD.hint_after(problem, kept, form)
            assert not kept or split_steps(kept + told, SENTENCE)[0] == kept.strip()


def test_a_wrong_hint_is_another_answer_and_always_the_same(problem):
    told = WORLD.hint(problem, "wrong")
    assert told == WORLD.hint(problem, "wrong") and told != WORLD.hint(problem)
    assert not WORLD.verify(problem, told) and re.fullmatch(r"The answer is \d+\. Here is why\.\n\n", told)
    with pytest.raises(HealError, match="knows no hint 'essay'; choose answer, wrong or first_step"):
        WORLD.hint(problem, "essay")


def test_texts_that_speak_of_a_hint_are_known(problem):
    for form in ("answer", "wrong"):
        assert WORLD.speaks_of_hint(WORLD.hint(problem, form))
        assert WORLD.speaks_of_hint(WORLD.hint_after(problem, "A.", form))
    for text in ("Working back from the given answer", "The hint says 5.", "We know that the answer is 5.",
                 "the answer provided"):
        assert WORLD.speaks_of_hint(text), text
    for text in ("The answer is 5.", "So the correct total is 5.", *WORLD.derivation(problem), problem.question):
        assert not WORLD.speaks_of_hint(text), text
