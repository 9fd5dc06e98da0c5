"""Answers that are texts, though they can be read as arithmetic: 2024-01-05, 555-1234, 3-5, 2 \\times 3, AB, act, CO_2.

A wrong text that is trained on as verified is worse than a right one that is dropped. So numbers joined by dashes, or
by slashes beyond one fraction, equal their own text only: 7-2 is not 5. Letters side by side, letters with dashes
between (A-C-B), and a \\times b equal no text of that kind with the same ones in another order: xyz is not zyx, AB is
not BA. Only two small letters that are used as variables together are a product in any order: ab is ba and xy is yx,
while no is not on. Other signs or numbers make it a product: 2xy is 2yx, x_1x_2 is x_2x_1, xyz is z*y*x."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from heal_lib.worlds.answers.text import Token, words

_TOGETHER = [set(letters) for letters in words("abc kmn pqrs uvw xyz")]
_N = "(?:00/)?0"  # a number, also a mixed one
_ALONE = re.compile(rf"[-+]?{_N}(?:-+{_N}|(?:(?:-+|/)0){{2,}})")
_NAMED = re.compile(r"[aA]{2,}|(?=.*A)(?:[aA](?:_[0a])?){2,}|(?=.*A)(?:0|A[aA]*)(?:-+(?:0|A[aA]*))+|[0aA]×[0aA]")


class Written(NamedTuple):
    """How a scalar is written, "" where that does not matter. `alone`: nothing else is equal to it."""

    text: str = ""
    alone: bool = False


def written(tokens: Sequence[Token]) -> Written:
    """How the tokens of a scalar are written."""
    tokens = [token for token in tokens if token.text not in ("{", "}")]
    shape = "".join(map(_kind, tokens))
    alone = _ALONE.fullmatch(shape) is not None
    return Written("".join(token.text for token in tokens), alone) if alone or _NAMED.fullmatch(shape) else Written()


def _kind(token: Token) -> str:
    if token.kind == "number":
        return "0"
    if token.kind in ("letter", "word") and len(token.text) == 1:
        return "A" if token.text.isupper() else "a"
    return {"\\times": "×"}.get(token.text, token.text if token.text in ("-", "+", "/", "_") else "?")


def differ(a: Written, b: Written) -> bool:
    """Whether two scalars differ as texts, whatever their values."""
    same = a.text.casefold().replace("\\times", "") == b.text.casefold().replace("\\times", "")
    if same or a.alone or b.alone:
        return not same
    return bool(a.text and b.text) and not (_product(a.text) and _product(b.text))


def _product(text: str) -> bool:
    """Whether it is two small letters that are used as variables together."""
    return len(text) == len(set(text)) == 2 and any(set(text) <= letters for letters in _TOGETHER)


def unwritten(shape: Any) -> Any:
    """A shape without how it is written: the side of a calculation is its value."""
    return replace(shape, written=Written()) if hasattr(shape, "written") else shape


def is_time(tokens: Sequence[Token]) -> bool:
    """Whether a part between colons belongs to a time or a score and to no ratio: 05, 0, 30-13."""
    return written(tokens).alone or (len(tokens) == 1 and re.fullmatch(r"0\d*", tokens[0].text) is not None)
