"""The language of `registers`: programs, and what the steps of a text do to them. See registers.py."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass

NAMES, GLYPHS, PARITIES = "ABCD", "kmqw", ("even", "odd")
OPERATIONS: dict[str, Callable[[int, int], int]] = {"+": lambda a, b: a + b, "-": lambda a, b: a - b,
                                                    "*": lambda a, b: a * b}
CONTEXTS = [(glyph, parity) for glyph in GLYPHS for parity in PARITIES]
RULES = dict(zip(CONTEXTS, "*+-*+-*-", strict=True))  # the secret: what a glyph does to an even or odd value
MAX_VALUE = 99
LONGEST = 16  # characters of a step
_REGISTER = re.compile(r"([A-D])=([1-9]?\d)((?:[-+*kmqw]\d)+)", re.ASCII)
_MOVE = re.compile(r"([-+*kmqw])(\d)", re.ASCII)
_WORK = re.compile(r"([A-D]): ([1-9]?\d)([-+*])(\d)=([1-9]?\d)", re.ASCII)
FORK = re.compile(r"([A-D]): ([1-9]?\d)([kmqw])(\d) (even|odd) ([-+*])", re.ASCII)


@dataclass
class Register:
    """Where a text stands with one register: its value, how many moves are done, the operation said for the glyph."""

    name: str
    value: int
    moves: list[tuple[str, int]]
    at: int = 0
    said: str = ""

    @property
    def left(self) -> list[tuple[str, int]]:
        return self.moves[self.at:]


def parse(question: str) -> dict[str, Register]:
    """The registers of a program, by name."""
    return {name: Register(name, int(start), [(move, int(b)) for move, b in _MOVE.findall(chain)])
            for name, start, chain in _REGISTER.findall(question)}


def parity(value: int) -> str:
    """even or odd."""
    return PARITIES[value % 2]


def operation(symbol: str, value: int) -> str:
    """What a symbol of a program does to that value."""
    return symbol if symbol in OPERATIONS else RULES[symbol, parity(value)]


@functools.lru_cache(1 << 14)  # few steps are different, and each is read often
def _matched(step: str) -> re.Match | None:
    return FORK.fullmatch(step) or _WORK.fullmatch(step)


def _understood(step: str) -> re.Match | None:
    """What a step says, None where it says nothing; none that does is longer than `LONGEST`, and none is kept."""
    return _matched(step) if len(step) <= LONGEST else None


def read(registers: dict[str, Register], step: str) -> tuple[str, bool]:
    """(kind, valid) of a step that is no box; the registers are changed as it says, right or wrong."""
    found = _understood(step)
    r = registers.get(found.group(1)) if found else None
    if r is None:
        return "unknown", False
    _, value, symbol, operand, *_ = found.groups()
    due, valid = next(iter(r.left), None), int(value) == r.value
    if found.re is FORK:
        says, r.said = found.groups()[4:]
        valid = valid and due == (symbol, int(operand)) and (says, r.said) == (parity(r.value),
                                                                               RULES[symbol, parity(r.value)])
        kind = "derive"
    else:
        kind, named = ("work", (r.said, due[1])) if due and due[0] in GLYPHS else ("routine", due)
        true = OPERATIONS[symbol](int(value), int(operand)) == int(found.group(5))
        kind = kind if due else "uncalled"
        valid = valid and true and named == (symbol, int(operand))
        r.value, r.at, r.said = int(found.group(5)), min(r.at + 1, len(r.moves)), ""
    return kind, valid


def leading(value: int, b: int, target: int) -> str:
    """The operation that leads from value and b to the target, "" where none does."""
    return next((op for op, do in OPERATIONS.items() if do(value, b) == target), "")


def told_values(answer: str) -> dict[str, int]:
    """"A=64 B=7" as numbers by register."""
    return {name: int(value) for name, value in (part.split("=") for part in answer.split())}


def show(registers: dict[str, Register]) -> str:
    """The registers' values as an answer."""
    return " ".join(f"{name}={r.value}" for name, r in registers.items())
