"""The shapes of answers, and sets of real numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sympy

from heal_lib.worlds.answers.scalars import Unreadable
from heal_lib.worlds.answers.written import Written


@dataclass(frozen=True)
class Quantity:
    """A number or expression. `digits`: significant digits of its decimals, None for an exact one."""

    value: sympy.Expr
    unit: str = ""
    digits: int | None = None
    written: Written = Written()


@dataclass(frozen=True)
class Words:
    text: str


@dataclass(frozen=True)
class Sequence:
    """kind: list (bare commas) | set | tuple | vector | row | square | ratio | time | matrix | dotted | congruence."""

    kind: str
    items: tuple[Any, ...]
    unit: str = ""


@dataclass(frozen=True)
class Region:
    """Real numbers: an interval, a union of some, or a named set."""

    numbers: sympy.Set


@dataclass(frozen=True)
class Said:
    """What an equation, an inequality or a membership says.

    `value` of `name` where a lone name is on one side; `difference` of the sides; `relation`: = | < | <=."""

    name: str | None
    value: Any
    difference: sympy.Expr | None = None
    relation: str = "="


def numbers(shape: Any) -> sympy.Set:
    """The numbers of a region, a set, or a pair read as an open interval."""
    if isinstance(shape, Region):
        return shape.numbers
    if isinstance(shape, Sequence) and all(isinstance(item, Quantity) and not item.unit for item in shape.items):
        values = [item.value for item in shape.items]
        if shape.kind == "set":
            return sympy.FiniteSet(*values)
        if shape.kind == "tuple" and len(values) == 2:
            return interval(values[0], values[1], True, True)
    raise Unreadable("no set of numbers")


def interval(low: sympy.Expr, high: sympy.Expr, left_open: bool, right_open: bool) -> sympy.Set:
    """An interval that is not empty."""
    if (low - high).is_nonnegative and not low == high or sympy.I in (low, high):
        raise Unreadable("ends in the wrong order")
    return sympy.Interval(low, high, left_open, right_open)


def region(found: sympy.Set) -> Region | Sequence:
    """A region, or a set of its numbers where these are finitely many."""
    if found.is_empty or isinstance(found, sympy.FiniteSet):
        return Sequence("set", tuple(Quantity(value) for value in found.args))
    return Region(found)
