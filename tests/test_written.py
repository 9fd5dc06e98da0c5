"""Answers that are texts, though they can be read as arithmetic: dates, ranges, phone numbers, words."""

import pytest

from heal_lib.worlds.mathematics import equal


def verdicts(right, said):
    return {equal(right, said), equal(said, right)}


@pytest.mark.parametrize("right, said", [
    ("2024-01-05", "2024-05-01"), ("2024-01-05", "2018"), ("01/02/2024", "02/04/2024"), ("1-Jan-2024", "2-Jan-2023"),
    ("3-5", "4-6"), ("3-5", "-2"), ("3–5", "4–6"), ("3--5", "8"), ("-3-5", "-8"), ("2-1", "3-2"), ("7-2", "5"),
    ("555-1234", "554-1233"), ("+1-555-1234", "+1-554-1233"), ("1/2/3", "\\frac{1}{6}"), ("1.5-2.5", "2.5-3.5"),
    ("1 1/2-2 1/2", "2 1/2-3 1/2"), ("3-5\\text{ cm}", "4-6\\text{ cm}"), ("3-5\\%", "4-6\\%"), ("1.2.3", "1.2.4"),
    ("(3-5)", "(4-6)"), ("{3}-{5}", "-2"), ("\\text{3-5}", "4-6"), ("3-5, 6-9", "4-6, 5-8"), ("\\{3-5\\}", "-2"),
    ("(2-1, 3)", "(3-2, 3)"), ("x = 3-5", "x = -2"), ("x = 3-5", "x = 4-6")])
def test_numbers_joined_by_dashes_or_slashes_are_no_calculation(right, said):
    assert verdicts(right, said) == {False} and equal(right, right) and equal(said, said)


@pytest.mark.parametrize("right, said", [
    ("AB", "BA"), ("AB", "ba"), ("ABC", "CBA"), ("CO", "OC"), ("IV", "VI"), ("HT", "TH"), ("TTF", "TFT"), ("Na", "aN"),
    ("CO_2", "O_2C"), ("no", "on"), ("my", "ym"), ("act", "cat"), ("god", "dog"), ("bad", "dab"), ("aab", "aba"),
    ("xyz", "zyx"), ("no one", "on one"), ("\\textbf{no}", "on"), ("\\text{no}", "on"), ("(no)", "(on)"),
    ("AB, x", "BA, x"), ("\\{act, x\\}", "\\{cat, x\\}"), ("x = no", "x = on"), ("A-C-B", "A-B-C"), ("A-3-2", "A-2-3"),
    ("2 \\times 3", "3 \\times 2"), ("m \\times n", "n \\times m")])
def test_letters_in_another_order_are_another_text(right, said):
    assert verdicts(right, said) == {False} and equal(right, right) and equal(said, said)


@pytest.mark.parametrize("right, said", [
    ("12:00", "6:00"), ("1:03", "2:06"), ("3:0", "5:0"), ("1:02:03", "2:04:06"), ("12:30-13:45", "12:31-14:45"),
    ("3:16-18", "3:15-17")])
def test_a_time_or_a_score_is_no_ratio(right, said):
    assert verdicts(right, said) == {False} and equal(right, right) and equal(said, said)


@pytest.mark.parametrize("right, said", [
    ("3/4", "0.75"), ("3/4", "6/8"), ("-5", "-5.0"), ("007", "7"), ("-1/2", "1/-2"), ("3-(-5)", "8"), ("2^3-1", "7"),
    ("1/2+1/3", "5/6"), ("\\frac{1}{2}-3", "-5/2"), ("5", "x = 7-2 = 5"), ("5", "7-2 = 5"), ("5", "x = 5 = 7-2"),
    ("2024-01-05", "2024 - 01 - 05"), ("3-5", "3–5"), ("3-5", "\\text{3-5}"), ("3-5\\text{ cm}", "3-5"),
    ("n-1", "-1+n"), ("a-b", "-b+a"), ("x-y-z", "x-z-y"), ("3-2i", "-2i+3"), ("1-\\pi", "-\\pi+1"),
    ("x^2-1", "(x-1)(x+1)"), ("a+b", "b+a"), ("2x", "x*2"), ("2 \\times 3", "6"), ("6\\times 10^3", "6000"),
    ("2 \\times 3 \\times 5", "5 \\times 3 \\times 2"), ("9:30", "09:30"), ("10:30", "10:30 a.m."), ("2:3", "4:6")])
def test_calculations_and_ratios_are_still_read(right, said):
    assert verdicts(right, said) == {True}


@pytest.mark.parametrize("right, said", [
    ("xy", "yx"), ("ab", "ba"), ("2xy", "2yx"), ("-rs", "-sr"), ("x_1x_2", "x_2x_1"), ("x_Ax_B", "x_Bx_A"),
    ("\\alpha\\beta", "\\beta\\alpha"), ("xyz", "x\\cdot z\\cdot y"), ("\\pi r^2", "r^2\\pi"), ("PV", "V\\cdot P"),
    ("AB+CD", "CD+AB"), ("AB = 5", "BA = 5"), ("A = LW", "A = L\\cdot W"), ("AB", "A B"), ("AB", "{AB}"),
    ("AB", "\\text{AB}"), ("\\text{AB}, \\text{CD}", "CD, AB"), ("no", "NO"), ("no", "\\text{No}"), ("(B)", "B"),
    ("True", "\\text{true}"), ("cat, dog", "dog, cat")])
def test_products_and_the_dress_of_words_are_still_read(right, said):
    assert verdicts(right, said) == {True}
