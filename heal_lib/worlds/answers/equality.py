"""Whether two answers are equal."""

from __future__ import annotations

from itertools import permutations
from random import Random
from typing import Any

import sympy
from sympy import Rational, Symbol

from heal_lib.worlds.answers.forms import Quantity, Region, Said, Sequence, Words, numbers
from heal_lib.worlds.answers.written import differ

DIGITS = 6  # significant ones that a decimal needs to stand for a number without finite expansion
PRECISION = 3000  # decimal digits to which numbers are told apart that are not rational
POINTS = 12  # at which expressions are compared
_SCALE = {"%": Rational(1, 100), "°": sympy.pi / 180}


def same_answer(a: Any, b: Any) -> bool:
    """Whether two whole answers are equal: a set of one is that one; inside others it is not."""
    for one, other in ((a, b), (b, a)):
        value = one.value if isinstance(one, Said) else one
        if isinstance(value, Sequence) and value.kind == "set" and len(value.items) and not (
                isinstance(other, Region | Said) or (isinstance(other, Sequence) and other.kind in ("set", "list"))):
            return all(same(item, other) for item in value.items)
    return same(a, b)


def same(a: Any, b: Any) -> bool:
    """Whether two shapes are equal."""
    if isinstance(a, Said) or isinstance(b, Said):
        return _same_said(a, b)
    for one, other in ((a, b), (b, a)):
        if isinstance(one, Region) and isinstance(other, Sequence) and other.kind == "tuple" and len(other.items) == 2:
            return same(one, Region(numbers(other)))
        if isinstance(one, Words) and isinstance(other, Quantity):
            name = other.value.name if isinstance(other.value, Symbol) else other.written.text
            return name.casefold() == one.text
    if type(a) is not type(b):
        return False
    if isinstance(a, Quantity):
        return _same_quantity(a, b)
    if isinstance(a, Region):
        return _same_region(a.numbers, b.numbers)
    return a == b if isinstance(a, Words) else _same_sequence(a, b)


def _same_said(a, b) -> bool:
    if isinstance(a, Said) and isinstance(b, Said):
        if a.name and a.name == b.name:
            if same(a.value, b.value):
                return True
            if isinstance(a.value, Quantity) and isinstance(b.value, Quantity) and differ(
                    a.value.written, b.value.written):
                return False
        if None in (a.difference, b.difference) or a.relation != b.relation:
            return False
        return _proportional(a.difference, b.difference, a.relation)
    said, other = (a, b) if isinstance(a, Said) else (b, a)
    kinds = [each.kind for each in (said.value, other) if isinstance(each, Sequence)]
    if kinds == ["set", "list"]:
        return same(said.value, Sequence("set", other.items))
    return said.name is not None and same(said.value, other)


def _same_sequence(a: Sequence, b: Sequence) -> bool:
    kinds = {a.kind, b.kind}
    if a.unit and b.unit and a.unit != b.unit:
        return False
    if kinds == {"congruence"}:
        (x, r, m), (y, s, n) = ([item.value for item in each.items] for each in (a, b))
        return agree(x, y) and agree(m, n) and ((r - s) / m).is_integer is True
    if "time" in kinds:
        return kinds <= {"time", "ratio"} and len(a.items) == len(b.items) and all(map(same, a.items, b.items))
    if "set" in kinds and kinds <= {"set", "list"}:
        return all(any(same(x, y) for y in b.items) for x in a.items) and all(
            any(same(x, y) for x in a.items) for y in b.items)
    if kinds <= {"list", "tuple"}:
        a, b = (_values(one, other) for one, other in ((a, b), (b, a)))
        kinds = {a.kind, b.kind}
    if len(a.items) != len(b.items):
        return False
    in_order = all(map(same, a.items, b.items))
    if kinds == {"list"}:
        return in_order or _matched(list(a.items), list(b.items))
    if kinds == {"ratio"} and not in_order and not a.unit + b.unit and not _clock(a) and not _clock(b):
        return all(agree(x.value * b.items[0].value, y.value * a.items[0].value)
                   for x, y in zip(a.items, b.items, strict=True))
    return in_order and (len(kinds) == 1 or kinds <= {"tuple", "vector", "row"} and kinds != {"vector", "row"})


def _values(one: Sequence, other: Sequence) -> Sequence:
    """a = 3, b = 5 as the values in their order, where the other side names nothing."""
    if one.kind == "list" and all(isinstance(i, Said) and i.name for i in one.items) and not any(
            isinstance(i, Said) for i in other.items):
        return Sequence("tuple", tuple(item.value for item in one.items))
    if other.kind == "list" and all(isinstance(i, Said) and i.name for i in other.items) and not any(
            isinstance(i, Said) for i in one.items):
        return Sequence("tuple", one.items)
    return one


def _clock(ratio: Sequence) -> bool:
    """Whether it may be a time of day."""
    return len(ratio.items) == 2 and all(i.value.is_Integer for i in ratio.items) and 10 <= ratio.items[1].value < 60


def _matched(ours: list, theirs: list) -> bool:
    """Whether the items are equal one by one in some order."""
    for item in ours:
        partner = next((i for i, other in enumerate(theirs) if same(item, other)), None)
        if partner is None:
            return False
        del theirs[partner]
    return not theirs


def _same_region(a: sympy.Set, b: sympy.Set) -> bool:
    if a == b:
        return True
    ours, theirs = (list(s.args) if isinstance(s, sympy.Union) else [s] for s in (a, b))
    return len(ours) == len(theirs) and any(
        all(map(_same_part, ours, order)) for order in permutations(theirs)) if len(ours) < 6 else False


def _same_part(a: sympy.Set, b: sympy.Set) -> bool:
    if isinstance(a, sympy.Interval) and isinstance(b, sympy.Interval):
        return (a.left_open, a.right_open) == (b.left_open, b.right_open) and agree(a.start, b.start) and agree(
            a.end, b.end)
    return a == b


# --- numbers
def _same_quantity(a: Quantity, b: Quantity) -> bool:
    if differ(a.written, b.written):
        return False
    if a.unit and b.unit:
        return a.unit == b.unit and _close(a, b)
    return _close(a, b) or any(
        one.unit in _SCALE and _close(Quantity(one.value * _SCALE[one.unit], "", one.digits), other)
        for one, other in ((a, b), (b, a)))


def _close(a: Quantity, b: Quantity) -> bool:
    return agree(a.value, b.value) or _stands_for(a, b.value) or _stands_for(b, a.value)


def _stands_for(decimal: Quantity, exact) -> bool:
    """Whether a decimal is within one unit of its last digit of a number that no decimal writes in full."""
    value = decimal.value
    if (decimal.digits or 0) < DIGITS or not value.is_Rational or value == 0 or _finite(exact) or exact.free_symbols:
        return False
    unit = Rational(10) ** (sympy.floor(sympy.log(abs(value), 10)) - decimal.digits + 1)
    gap = (exact - value).evalf(15)
    return bool(gap.is_real and abs(gap) < unit)


def _finite(value) -> bool:
    """Whether a number has a finite decimal expansion."""
    if not value.is_Rational:
        return False
    rest = value.q
    for prime in (2, 5):
        while rest % prime == 0:
            rest //= prime
    return rest == 1


def agree(a: sympy.Expr, b: sympy.Expr) -> bool:
    """Whether two expressions are equal: exactly where they are rational; otherwise to PRECISION digits, at POINTS."""
    if a == b:
        return True
    if not (a.is_finite is not False and b.is_finite is not False):
        return False
    if a.free_symbols != b.free_symbols:
        a, b = _lowered(a, b)
    symbols = sorted(a.free_symbols | b.free_symbols, key=str)
    if a.is_Rational and b.is_Rational:
        return False
    if not symbols:
        return _zero(a - b)
    rng, verdicts = Random(0), []
    for i in range(POINTS):
        point = {s: Rational(rng.randint(1, 40) * rng.choice((1, -1)), 1 if i % 3 == 0 else rng.choice((7, 11, 13)))
                 for s in symbols}
        if i % 2:
            point = {s: abs(value) for s, value in point.items()}
        x, y = a.subs(point), b.subs(point)
        if x.is_finite is not False and y.is_finite is not False:
            verdicts.append((_real(x) and _real(y), x, y))
    # Roots and logarithms of what is negative are outside the domain that is meant, if there is any other.
    real = [v for v in verdicts if v[0]]
    chosen = real if len(real) >= 3 else verdicts
    return bool(chosen) and all(_zero(x - y, PRECISION // POINTS) for _, x, y in chosen)


def _lowered(a, b):
    """Both in small letters, where they then have the same letters, each of them once."""
    both = []
    for each in (a, b):
        small = {s: Symbol(s.name.lower()) for s in each.free_symbols}
        if len(set(small.values())) < len(small):
            return a, b
        both.append(each.subs(small))
    return both


def _real(value) -> bool:
    _, imaginary = value.evalf(15).as_real_imag()
    return imaginary == 0 or imaginary._prec == 1 or abs(imaginary) < 1e-30


def _zero(difference, digits: int = PRECISION) -> bool:
    if difference.is_Rational:
        return difference == 0
    value = difference.evalf(15, maxn=digits)
    return all(part == 0 or (part.is_Float and part._prec == 1) for part in value.as_real_imag())


def _proportional(a, b, relation: str) -> bool:
    """Whether one is a constant times the other, a positive one for an inequality."""
    point = {s: Rational(3 + 2 * i, 7) for i, s in enumerate(sorted(a.free_symbols | b.free_symbols, key=str))}
    x, y = a.subs(point), b.subs(point)
    if _zero(x) or _zero(y) or (relation != "=" and not (x / y).is_positive):
        return False
    return agree(a * y, b * x)
