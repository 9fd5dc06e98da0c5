"""The verdict on two answers as texts."""

from __future__ import annotations

import re
from typing import Any

from heal_lib.worlds.answers.equality import same_answer
from heal_lib.worlds.answers.scalars import Unreadable
from heal_lib.worlds.answers.shapes import read
from heal_lib.worlds.answers.text import canonical, plain, tokens

_GROUPED = re.compile(r"[^\d,;(\[{]*\d{1,3}(,\d{3})+(\.\d+)?(?![\d,])[^,;]*")
# What sympy raises for an expression that has no value.
_NO_VALUE = (ArithmeticError, ValueError, TypeError, AttributeError, NotImplementedError, RecursionError)


def equal(right: str, said: str) -> bool:
    """Whether two answers are the same text in another dress, or are both read to their end and equal."""
    a, b = plain(right), plain(said)
    if not b:
        return False
    return canonical(a) == canonical(b) or any(_holds(x, y) for x in readings(a) for y in readings(b))


def readings(text: str) -> list[Any]:
    """Shapes of a plain text: none where it cannot be read; two where 12,345 may be a number or a list."""
    texts = [text.replace(",", ""), text] if _GROUPED.fullmatch(text) else [text]
    found = []
    for each in texts:
        try:
            found.append(read(tokens(each)))
        except (Unreadable, *_NO_VALUE):
            continue  # equal to nothing but its own text
    return found


def _holds(x, y) -> bool:
    try:
        return same_answer(x, y)
    except (Unreadable, *_NO_VALUE):
        return False
