"""The calculator oracle: what it reads, what it leaves alone, and where an answer comes from."""

import time
from fractions import Fraction

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from heal_lib.worlds import calculator


def verdicts(text):
    return [fact.valid for fact in calculator.facts(text)]


STORY = ["5", "3", "2"]  # 5 + 3 = 8, 8 * 2 = 16
RIGHT = [
    "5 + 3 = 8", "5+3=8.", "So 5 - 3 = 2 apples.", "6 × 7 = 42", "6 x 7 = 42", "6x7=42",
    "3 boxes x 4 pens = 12 pens", "8 ÷ 2 = 4",
    "8 / 2 = 4", "9 − 4 = 5", "9 – 4 = 5", "1 + 2 + 3 + 4 = 10", "2 + 3 * 4 = 14", "(2 + 3) * 4 = 20",
    "2(3 + 4) = 14", "(2)(3) = 6",
    "$5 + $3 = $8", "$1,200 + $300 = $1,500", "1,200 - 200 = 1000", "20% of 50 = 10", "50 * 10% = 5", "2^5 = 32",
    "8 = 5 + 3",
    "0.5 + .25 = 0.75", "10 / 3 = 3.33", "10 / 3 ≈ 3", "-5 + 8 = 3", "3 - 8 = -5", "Tom has 5 apples and 5 + 3 = 8",
    "She pays 3 books * $4 per book = $12 in total", "60 miles / 2 hours = 30 miles / hour",
    "five plus three equals eight",
    "7 minus 2 equals 5", "6 times 7 is equal to 42", "12 divided by 4 equals 3",
    "5 apples + 3 apples = a total of 8 apples",
    "\\(5 + 3 = 8\\)", "\\frac{6}{2} = 3", "5 \\times 3 = 15", "$$12 \\div 4 = 3$$", "5 + 3 = **8**",
    "5 + 3 = \\boxed{8}",
    "1. 5 + 3 = 8", "- 5 + 3 = 8", "Step 1: 5 + 3 = 8", "A 3-day trip costs 3 * 50 = 150", "a total of 5 + 3 = 8",
    "5 (red) + 3 (blue) = 8 pens", "5kg + 3kg = 8kg", "5 + 3 = 8 - which is right", "2 5-packs cost 2 * 5 = 10",
]


@pytest.mark.parametrize("text", RIGHT)
def test_a_right_calculation_is_read_and_right_and_with_another_number_false(text):
    assert verdicts(text) == [True]
    digits = [i for i, c in enumerate(text) if c.isdigit()]
    if digits and "≈" not in text and "3.33" not in text:
        at = digits[0 if text.startswith("8 =") else -1]
        assert verdicts(text[:at] + str((int(text[at]) + 1) % 10) + text[at + 1 :]) == [False]


@pytest.mark.parametrize("text, expected", [
    ("5 + 3 = 8 + 2 = 10", [False, True]),  # strung together, as written
    ("Tom: 2 * 3 = 6 = 5 + 1", [True, True]),
    ("5 + 3 = 8, 8 - 2 = 7", [True, False]),
    ("5 + 3 = 8 and 8 - 2 = 6", [True, True]),
    ("5 + 3 = 8. Then 8 - 2 = 5!\nSo 2 * 2 = 4", [True, False, True]),
    ("3 apples = 3 * 2 = 6", [True]),  # that three apples are 3 * 2 is a unit's business
    ("10 / 3 = 3", [False]), ("10 / 3 = 3.34", [False]), ("1.24 + 1.11 = 2.4", [False]),
    ("1/20 + 1/30 = 1/12", [True]), ("10000000000000000000001 - 1 = 10000000000000000000000", [True]),
])
def test_chains_lists_and_rounding(text, expected):
    assert verdicts(text) == expected


@pytest.mark.parametrize("text", [
    "", "=", "5 = 5", "Tom has 5 apples.", "so eight are left", "x + 3 = 8", "3x = 12", "3 + x = 8", "10 - 3 x = 4",
    "y = 5",
    "the cost of 3 apples = $6", "half of 10 + 2 = 7", "3 more than 5 + 2 = 10", "17 / 5 = 3 remainder 2",
    "\\sqrt{4} + 1 = 3",
    "2 dozen + 1 = 25", "5 + 3 = eight hundred", "5 + 3 ≠ 9", "5 + 3 > 7", "4 / 0 = 4", "9^99999 = 1", "2 * = 4",
    "5 + 3 =", "= 8",
    "1" * 31 + " + 1 = 2", "(" * 5000 + "1 + 1 = 2", "- " * 5000 + "1 + 1", "5-year-old = 5", "a + b = c",
    "5 == 3 + 2 == 5",
])
def test_what_it_cannot_read_it_leaves_alone(text):
    assert False not in verdicts(text)


def test_a_text_without_equals_has_no_facts():
    assert calculator.facts("5 + 3 makes 8") == []


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from([*"0123456789+-*/=().,%x$ ^", " and ", " apples ", "\n", "\\frac{1}{2}", "12", " = "]),
                max_size=40).map("".join))
@example("x0=")
def test_junk_does_not_raise(text):
    for fact in calculator.facts(text):
        assert isinstance(fact.said, Fraction) and fact.operands


@settings(max_examples=200, deadline=None)
@given(st.integers(-99, 999), st.lists(st.tuples(st.sampled_from("+-*"), st.integers(0, 99)), min_size=1, max_size=5),
       st.integers(-3, 3))
def test_it_agrees_with_python_on_long_chains(first, moves, off):
    text = str(first) + "".join(f" {op} {n}" for op, n in moves)
    total = sum(_product(term) for term in _terms(first, moves))
    assert verdicts(f"{text} = {total + off}") == [off == 0]


def _terms(first, moves):
    terms = [[first]]
    for op, n in moves:
        if op == "*":
            terms[-1].append(n)
        else:
            terms.append([n if op == "+" else -n])
    return terms


def _product(factors):
    out = 1
    for factor in factors:
        out *= factor
    return out


def test_long_texts_take_no_time():
    """Samples have up to 8,192 tokens, and a model that repeats itself fills them."""
    for part in ("5 + 3 = 8. ", "3 times 4 = 12 and ", "1 ", "(", "- ", "= ", "8 = 8 + 0. ", "2^2^2 = 2 ", "1,000"):
        start = time.process_time()
        report = calculator.check(part * 2000, "16", STORY)
        assert time.process_time() - start < 10 and report.steps and not report.derived


# --- the answer
@pytest.mark.parametrize("text, number", [
    ("8", 8), ("8.", 8), (" $1,200 ", 1200), ("-3", -3), ("8 apples", 8), ("12.50", Fraction(25, 2)), ("50%",
    Fraction(1, 2)),
    ("eight", 8), ("", None), ("apples", None), ("5 + 3", None), ("x", None), ("3 x", None), ("8 or 9", None)])
def test_numbers(text, number):
    assert calculator.number(text) == number


@pytest.mark.parametrize("text, derived, genuine", [
    ("5 + 3 = 8. Then 8 * 2 = 16. The answer is 16.", True, True),
    ("(5 + 3) * 2 = 16", True, True),
    ("2 * 8 = 16.", False, False), ("3 + 5 = 8. 2 * 8 = 16.", True, True),  # another way round
    ("2 * 5 = 10. 2 * 3 = 6. 10 + 6 = 16.", False, False),  # right, but 2 is used twice: so are forced answers
    ("5 + 3 = 8. 8 * 2 = 16. Check: 16 / 2 = 8.", True, True),
    ("5 + 4 = 8. 8 * 2 = 16.", False, False),  # false arithmetic that lands right
    ("5 - 3 = 3. 5 + 3 = 8. 8 * 2 = 16.", True, False),  # derived, but not every calculation is right
    ("4 * 4 = 16. The answer is 16.", False, False),  # a right calculation of other numbers
    ("8 * 2 = 16.", False, False),  # 8 from nowhere
    ("8 * 2 = 16. 5 + 3 = 8.", False, False),  # from later
    ("2 * 5 = 10. 3 + 3 = 6. 10 + 6 = 16.", False, False),  # one number twice
    ("The answer is 16.", False, False), ("", False, False), ("5 + 3 = 8. The answer is 8.", False, False),
])
def test_an_answer_is_derived_from_the_numbers_given(text, derived, genuine):
    report = calculator.check(text, "16", STORY)
    assert (report.derived, report.genuine) == (derived, genuine)


def test_numbers_that_are_given_twice_are_used_twice():
    text = "12 + 12 = 24. 24 + 12 = 36. 36 - 12 = 24."
    assert calculator.check(text, "24", ["12"] * 4).genuine and not calculator.check(text, "24", ["12"] * 3).derived
    assert not calculator.check("12 + 12 = 24. 36 - 12 = 24.", "24", ["12"] * 4).derived


def test_without_the_given_numbers_the_answer_is_to_be_a_result():
    assert calculator.check("4 * 4 = 16.", "16").genuine
    assert not calculator.check("4 * 4 = 17. So 16.", "16").derived
    report = calculator.check("We add. 2 + 2 = 5. So it is 5.", "5")
    assert [step.kind for step in report.steps] == ["routine", "work", "routine"] and report.first_break() == 1
    assert not calculator.check("4 * 4 = 16.", "a dozen").derived
