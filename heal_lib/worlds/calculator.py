"""A calculator for text: finds every calculation "a op b = c", checks it exactly, and follows an answer back to it.

    "He buys 3 boxes x 4 pens per box = 12 pens."      one fact, right
    "5 + 3 = 8 + 2 = 10"                               two facts, the first of them false, as written

Numbers may have commas, decimals, $, % and units (some words up to the next sign); signs are + - * / x × ÷ − ^, \\frac,
\\times, \\cdot, \\div or their words (plus, minus, times, divided by, equals); a = b = c are two facts. Text is parsed,
never evaluated.

What it cannot see: a calculation in words alone ("so eight are left"); equations with letters or with what it does not
read (\\sqrt, remainders, dozens, "half of"); whether a right calculation is the one to make. These are passed over: "no
fact is false" is too kind, and a derivation in words counts as none. What it calls false and a reader may not: equals
signs strung together (above), quotients rounded to whole numbers, units that change (2 + 1 hours = 180 minutes)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from heal_lib.trajectory import SENTENCE, split_steps
from heal_lib.worlds.base import StepReport, StepVerdict

DIGITS = 30  # of a number, and of a power; longer ones are not read
MAX_UNIT = 5  # words between a number and the next sign
_NOT_UNITS = {"and", "or", "so", "then", "but", "which"}
LONGEST = 60  # tokens of a side, which also bounds the depth of its brackets
UNREAD = "?"
_PLAIN = [(re.compile(pattern), plain) for pattern, plain in (  # how models write what the parser reads, in this order
    (r"\\[dt]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}", r"((\1)/(\2))"),
    (r"\\(?:text|mathrm|mbox|textbf|boxed)\s*\{([^{}]*)\}", r" \1 "),
    (r"\\[,;! ()\[\]]|\\(?=[%$])|\*\*|[$€£`]", " "),
    (r"\\(?:times|cdot)(?![a-z])|[×·∗⋅]", "*"), (r"\\div(?![a-z])|÷", "/"), (r"\\approx(?![a-z])", "≈"), (r"[−–]", "-"),
    (r"\b(?:is equal to|equals?)\b", "="), (r"\bplus\b", "+"), (r"\bminus\b", "-"), (r"\bdivided by\b", "/"),
    (r"\b(?:multiplied by|times)\b(?=\s*[\d(])|(?<=\d)\s?x\s?(?=[\d(])|(?<=\w)\sx\s(?=[\d(])", "*"),
    (r"%\s+of\b", "% *"), (r"-\s*(?=[A-Za-z])", " , "),  # a dash or a hyphen, not a sign
)]
_TOKEN = re.compile(  # a number, a word, a sign, anything else
    r"(\d{1,3}(?:,\d{3})+(?![\d,])(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)|([A-Za-z][\w'’]*)|([-+*/^=≈()%])|(\S)")
_NUMBER = re.compile(r"\d+(?:\.\d+)?|\.\d+")
_NUMBERS = {word: str(i) for i, word in enumerate(
    ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"))}
# Words that change the number beside them, and so make it one that is not read.
_CHANGING = {"half", "twice", "double", "triple", "thrice", "dozen", "dozens", "hundred", "thousand", "million",
             "billion", "remainder", "squared", "cubed", "than"}


@dataclass(frozen=True)
class Fact:
    """One calculation: the numbers it uses, the result it states, and whether that is right."""

    operands: tuple[Fraction, ...]
    said: Fraction
    valid: bool


@dataclass(frozen=True)
class _Side:
    """A value, the numbers in it, whether it divides, the decimals that its last number shows."""

    value: Fraction
    numbers: tuple[Fraction, ...]
    divides: bool = False
    decimals: int = 0


def facts(text: str) -> list[Fact]:
    """Every calculation of a text that can be read, in order."""
    return [fact for step in split_steps(text, SENTENCE) for clause in _clauses(step) for fact in _facts(clause)]


def check(text: str, answer: str, given: Iterable[str] | None = None, delimiter: str = SENTENCE) -> StepReport:
    """The oracle's report on a text: a step is valid if no calculation in it is false; without any it is `routine`.

    The answer is derived if it is the result of a right calculation; with `given`, the numbers of the question, of one
    that rests on each of them once and on nothing else."""
    verdicts, found = [], []
    for step in split_steps(text, delimiter):
        here = facts(step)
        verdicts.append(StepVerdict(step, "work" if here else "routine", all(fact.valid for fact in here)))
        found += here
    goal, known = number(answer), None if given is None else [n for text in given if (n := number(text)) is not None]
    return StepReport(tuple(verdicts), goal is not None and derives(found, goal, known))


def derives(found: Sequence[Fact], answer: Fraction, given: Sequence[Fraction] | None = None) -> bool:
    """Whether a right fact gives the answer; with `given`, one that rests on each of these numbers once and on no other
    but results of right facts before it."""
    if given is None:
        return any(fact.valid and fact.said == answer for fact in found)
    goal = tuple(sorted(given))
    rests: dict[Fraction, set[tuple[Fraction, ...]]] = {}  # of each result so far, the given numbers it may rest on
    for fact in found:
        ways: set[tuple[Fraction, ...]] = {()} if fact.valid else set()
        for n in fact.operands:
            sources = {(n,), *rests.get(n, ())}
            ways = {both for a in ways for b in sources if _within(both := tuple(sorted(a + b)), given)}
        if fact.said == answer and goal in ways:
            return True
        rests.setdefault(fact.said, set()).update(ways)
    return False


def _within(numbers: tuple[Fraction, ...], given: Sequence[Fraction]) -> bool:
    return all(numbers.count(n) <= given.count(n) for n in numbers)


def number(text: str) -> Fraction | None:
    """The value of a text that is one number with its sign, commas, $, % or units; None for any other."""
    tokens = _tokens(text.strip().removesuffix("."))[: LONGEST + 1]
    got = _expression(tokens, 0)
    return got[0].value if got and got[1] == len(tokens) and len(got[0].numbers) == 1 else None


# --- from text to facts
def _tokens(text: str) -> list[str]:
    for pattern, plain in _PLAIN:
        text = pattern.sub(plain, text)
    out = []
    for found in _TOKEN.finditer(text):
        digits, word, sign, other = found.groups()
        if digits:
            out.append(digits.replace(",", "") if len(digits) <= DIGITS else UNREAD)
        elif word:
            letter = len(word) == 1 and word not in "aAI"  # of algebra, or a unit that might as well be one
            out.append(UNREAD if letter or word.lower() in _CHANGING else _NUMBERS.get(word.lower(), word))
        else:
            out.append(sign or (UNREAD if other in "\\{}[]_|<>~≠≤≥√" else ","))
    return out


def _clauses(step: str) -> list[list[str]]:
    """A step's tokens between punctuation, without the mark of a list's item."""
    clauses: list[list[str]] = [[]]
    for token in _tokens(re.sub(r"^\s*(?:[-*•]|\d{1,3}[.)])\s+", "", step)):
        if token == ",":
            clauses.append([])
        else:
            clauses[-1].append(token)
    return clauses


def _facts(tokens: list[str]) -> list[Fact]:
    signs = [i for i, token in enumerate(tokens) if token in "=≈"]
    found = []
    for before, at, after in zip([-1, *signs], signs, [*signs[1:], len(tokens)], strict=False):
        left, right = _left(tokens[before + 1 : at], before < 0), _right(tokens[at + 1 : after])
        if left and right and max(len(left.numbers), len(right.numbers)) > 1:
            work, said = (left, right) if len(left.numbers) > 1 else (right, left)
            found.append(Fact(work.numbers, said.value, _same(work, said, tokens[at] == "≈")))
    return found


def _same(work: _Side, said: _Side, about: bool) -> bool:
    """Equal; a quotient may be rounded to the decimals shown, and what is "about" to its last digit."""
    if about or work.divides and said.decimals:
        return abs(work.value - said.value) <= Fraction(1, 2 * 10**said.decimals)
    return work.value == said.value


def _left(tokens: list[str], first: bool) -> _Side | None:
    """The longest expression that ends the tokens, after words if any; a number alone only where it is all there is."""
    for start in range(max(0, len(tokens) - LONGEST), len(tokens)):
        got = _expression(tokens, start)
        if got and got[1] == len(tokens):
            alone = len(got[0].numbers) == 1 and (start > 0 or first and len(tokens) > 1)
            return None if alone or start and not _word(_before(tokens, start)) else got[0]
    return None


def _before(tokens: list[str], start: int) -> str:
    """What stands before an expression: "half of 10" is half of it, "a total of 10" is not."""
    return tokens[start - 2] if start > 1 and tokens[start - 1] == "of" else tokens[start - 1]


def _right(tokens: list[str]) -> _Side | None:
    """The longest expression that begins the tokens, before words if any."""
    start = next((i for i, token in enumerate(tokens) if token not in ("a", "total", "of", "about")), 0)
    got = _expression(tokens[: start + LONGEST], start)
    return got[0] if got and (got[1] == len(tokens) or _word(tokens[got[1]])) else None


def _word(token: str) -> bool:
    return token[0].isalpha()


# --- expressions: each reads from tokens[i] on, and gives what it read and where it stopped, or None
_Read = tuple[_Side, int] | None


def _expression(tokens: list[str], i: int) -> _Read:
    return _chain(tokens, i, "+-", _product)


def _product(tokens: list[str], i: int) -> _Read:
    return _chain(tokens, i, "*/", _power)


def _chain(tokens: list[str], i: int, signs: str, part) -> _Read:
    got = part(tokens, i)
    while got and got[1] < len(tokens):
        side, i = got
        sign, more = tokens[i], None
        if sign in signs:
            more = part(tokens, i + 1)
        elif signs == "*/" and _times_in_brackets(tokens, i):
            sign, more = "*", part(tokens, i)
        if not more or sign == "/" and more[0].value == 0:
            return got
        got = _joined(side, sign, more[0]), more[1]
    return got


def _times_in_brackets(tokens: list[str], i: int) -> bool:
    """2(3 + 4), and not: 8 (5 more)."""
    return (tokens[i] == "(" and tokens[i - 1][-1] in "0123456789)" and ")" in tokens[i:]
            and not any(map(_word, tokens[i : tokens.index(")", i)])))


def _joined(a: _Side, sign: str, b: _Side) -> _Side:
    value = a.value + b.value if sign == "+" else a.value - b.value if sign == "-" \
        else a.value * b.value if sign == "*" else a.value / b.value
    return _Side(value, a.numbers + b.numbers, a.divides or b.divides or sign == "/", b.decimals)


def _power(tokens: list[str], i: int) -> _Read:
    got = _atom(tokens, i)
    if not got or tokens[got[1] : got[1] + 1] != ["^"]:
        return got
    raised = _atom(tokens, got[1] + 1)
    if not raised:
        return None
    base, by = got[0].value, raised[0].value
    if by.denominator != 1 or by < 0 or len(str(base)) * by > DIGITS:
        return None
    return _Side(base ** int(by), got[0].numbers + raised[0].numbers), raised[1]


def _atom(tokens: list[str], i: int) -> _Read:
    """A number or a bracket, with its sign, per cent and unit."""
    if tokens[i : i + 1] == ["-"]:
        got = _atom(tokens, i + 1)
        return got and (replace(got[0], value=-got[0].value), got[1])
    if tokens[i : i + 1] == ["("]:
        got = _expression(tokens, i + 1)
        if not got or tokens[got[1] : got[1] + 1] != [")"]:
            return None
        return got[0], _after_unit(tokens, got[1] + 1)
    if i >= len(tokens) or not _NUMBER.fullmatch(tokens[i]):  # a word may hold digits: x0
        return None
    value, decimals = Fraction(tokens[i]), len(tokens[i].partition(".")[2])
    if tokens[i + 1 : i + 2] == ["%"]:
        value, decimals, i = value / 100, decimals + 2, i + 1
    return _Side(value, (value,), decimals=decimals), _after_unit(tokens, i + 1)


def _after_unit(tokens: list[str], i: int) -> int:
    """Past a unit: a few words, some in brackets or after a stroke ("pens (red) / box")."""
    start = i
    while i < len(tokens) and i - start < MAX_UNIT:
        if _word(tokens[i]) and tokens[i] not in _NOT_UNITS:
            i += 1
        elif tokens[i] == "/" and i + 1 < len(tokens) and _word(tokens[i + 1]):
            i += 2
        elif tokens[i] == "(" and ")" in tokens[i:] and all(map(_word, tokens[i + 1 : tokens.index(")", i)])):
            i = tokens.index(")", i) + 1
        else:
            break
    return i
