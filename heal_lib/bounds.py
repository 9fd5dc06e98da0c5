"""The values that a setting may take: declared beside its default, said in words, read and checked in one place."""

from __future__ import annotations

import ast
import dataclasses
import math
import re
from typing import Any, get_args, get_origin

from heal_lib.errors import HealError

_NOUNS = {int: ("a whole number", "whole numbers"), float: ("a number", "numbers"), str: ("text", "texts"),
          bool: ("true or false", "true or false")}
_ESCAPES = {r"\n": "\n", r"\t": "\t", r"\r": "\r", r"\\": "\\"}


@dataclasses.dataclass(frozen=True)
class Range:
    """Bounds of a number, or choices of a text; of a tuple they hold for each element.

    unit: what is counted or measured; above: `low` itself is left out; empty: a tuple or a text may be; other: another
    value to try, as on the command line."""

    low: float = -math.inf
    high: float = math.inf
    unit: str = ""
    choices: tuple[str, ...] = ()
    above: bool = False
    empty: bool = False
    other: str = ""

    def holds(self, value: Any) -> bool:
        """Whether a number, or a text, lies in it."""
        if isinstance(value, bool):
            return True
        if isinstance(value, str):
            return (bool(value) or self.empty) and (not self.choices or value in self.choices)
        return math.isfinite(value) and self.low <= value <= self.high and not (self.above and value == self.low)

    def words(self, kind: Any) -> str:
        """The range in words, for a kind as `read` takes it."""
        of, many = (get_args(kind)[0], True) if get_origin(kind) is tuple else (kind, False)
        noun = _NOUNS[of][many]
        said = [f"{noun} of {self.unit}" if of is int and self.unit else self.unit or noun]
        if self.choices:
            *most, last = self.choices
            said = [f"any of {', '.join(self.choices)}" if many else " or ".join(filter(None, [", ".join(most), last]))]
        elif of in (int, float):
            end = f" {'up ' * self.above}to {self.high:,.10g}" if self.high < math.inf else " or more"
            said.append(f"{'above ' * self.above}{self.low:,.10g}{end}")
        if many:
            said.append("each at most once" if self.empty else "at least one, each once")
        return ", ".join(said)


def setting(default: Any, low: float = -math.inf, high: float = math.inf, **facts: Any) -> Any:
    """A dataclass's field with its default and its `Range`."""
    return dataclasses.field(default=default, metadata={"range": Range(low, high, **facts)})


def one_of(default: str, *others: str, **facts: Any) -> Any:
    """A field that takes one of some texts, the default first."""
    return setting(default, choices=(default, *others), **{"other": (*others, default)[0], **facts})


def literal(text: str) -> Any:
    """A command-line value as Python data: a literal, a fraction (1/3), true/false/null, else the text, in which \\n
    and \\t are a newline and a tab, as in a notebook. Nothing is run."""
    if text.lower() in ("true", "false", "null", "none"):
        return {"true": True, "false": False}.get(text.lower())
    if match := re.fullmatch(r"(-?\d{1,300})\s*/\s*(\d{1,300})", text):
        return int(match[1]) / int(match[2]) if int(match[2]) else text
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return re.sub(r"\\[ntr\\]", lambda found: _ESCAPES[found[0]], text)


def read(value: Any, kind: Any) -> Any:
    """`value` as a `kind` (int, float, bool, str or tuple[one of these, ...]) where its meaning is plain: numpy's
    numbers, 3.0 for 3, lists, "0,1" for (0, 1). ValueError where it is not."""
    value = value.tolist() if hasattr(value, "tolist") else value
    if get_origin(kind) is tuple:
        of = get_args(kind)[0]
        if isinstance(value, str):
            text, value = value, literal(value)
            value = text.split(",") if isinstance(value, str) and of is str and text else value
        if not isinstance(value, list | tuple):
            raise ValueError
        return tuple(read(element.strip() if isinstance(element, str) else element, of) for element in value)
    if isinstance(value, str) and kind is not str:
        value = literal(value)
    if kind in (bool, str):
        if type(value) is not kind:
            raise ValueError
        return value
    if type(value) not in (int, float) or kind is int and value != math.floor(value):
        raise ValueError
    return kind(value)


def check(name: str, value: Any, kind: Any, within: Range, default: Any) -> Any:
    """`value` as a `kind` within a `Range`; HealError, one line with what it may be and an example that is accepted."""
    try:
        found = read(value, kind)
        every = found if isinstance(found, tuple) else (found,)
        sound = all(map(within.holds, every)) and len(set(every)) == len(every) and (bool(every) or within.empty)
    except (ValueError, OverflowError, TypeError):
        sound = False
    if not sound:
        raise HealError(f"{name} is {_shown(value)}; give {within.words(kind)}"
                        + ("" if within.choices else f", such as {example(default)}"))
    return found


def example(value: Any) -> str:
    """A value as one may type it, on the command line or in a notebook."""
    if isinstance(value, tuple):
        return f"[{', '.join(map(example, value))}]"
    return f"{value:.3g}" if isinstance(value, float) else repr(value)


def _shown(value):
    try:
        text = repr(value)
    except ValueError:  # Python writes no number of thousands of digits
        text = "a huge number"
    return text if len(text) <= 60 else f"{text[:50]}…"
