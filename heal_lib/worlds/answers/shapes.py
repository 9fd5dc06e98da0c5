"""Tokens of an answer -> its shape: a quantity, words, a sequence, a region of numbers, or what is said of a name."""

from __future__ import annotations

import re
from collections.abc import Container
from typing import Any

import sympy
from sympy import S

from heal_lib.worlds.answers.equality import same
from heal_lib.worlds.answers.forms import Quantity, Region, Said, Sequence, Words, interval, numbers, region
from heal_lib.worlds.answers.scalars import Reader, Unreadable
from heal_lib.worlds.answers.text import Token
from heal_lib.worlds.answers.units import unit
from heal_lib.worlds.answers.written import is_time, unwritten, written

_ROUNDED = {"\\lfloor", "\\lceil"}
_OPEN = {"(", "[", "{", "\\{", "\\langle", *_ROUNDED}
_CLOSE = {")", "]", "}", "\\}", "\\rangle", "\\rfloor", "\\rceil"}
_RELATIONS = {"=", "\\approx", "<", ">", "\\le", "\\ge", "\\ne", "\\in", "\\notin", "\\equiv"}
_SETS = {"\\SetR": S.Reals, "\\SetZ": S.Integers, "\\SetN": S.Naturals, "\\SetQ": S.Rationals, "\\SetC": S.Complexes}
_OPERATIONS = {"\\cup": sympy.Union, "\\cap": sympy.Intersection, "\\setminus": sympy.Complement}
_SIGNS = {"+": {"\\pm": "+", "\\mp": "-"}, "-": {"\\pm": "-", "\\mp": "+"}}
_MATRICES = {"matrix", "pmatrix", "bmatrix", "smallmatrix"}


def read(tokens: list[Token]) -> Any:
    """The shape of all the tokens. Raises Unreadable if any of them is left over."""
    if not tokens:
        raise Unreadable("nothing")
    parts, between = split(tokens, {",", ";", "\\or", "\\and", "\\\\", "\\quad"})
    if between or _sign(tokens):
        return _several([part for part in parts if part], set(between))
    if all(t.kind == "word" for t in tokens):
        return Words(" ".join(t.text for t in tokens).casefold())
    for operators, reading in ((_RELATIONS, _relation), (_OPERATIONS, _operation), ({":"}, _ratio)):
        parts, between = split(tokens, operators)
        if between:
            return reading(parts, between)
    return _environment(tokens) or _bracketed(tokens) or _named_set(tokens) or _quantity(tokens)


def split(tokens: list[Token], at: Container[str]) -> tuple[list[list[Token]], list[str]]:
    """Parts between the separators that are in no bracket and no environment, and the separators."""
    parts: list[list[Token]] = [[]]
    between, depth = [], 0
    for token in tokens:
        kind, text = token
        opens = text in _OPEN or (kind == "env" and text.startswith("\\begin"))
        depth += opens - (text in _CLOSE or (kind == "env" and not opens))
        if depth == 0 and kind in ("op", "cmd") and text in at:
            between.append(text)
            parts.append([])
        else:
            parts[-1].append(token)
    return parts, between


# --- several
def _several(parts, separators):
    if any(part == [Token("cmd", "\\ldots")] for part in parts):
        return Sequence("dotted", tuple(part and _dotted(part) for part in parts))
    found = [item for part in parts for item in _signs(part)]
    if not found:
        raise Unreadable("nothing")
    if len(found) == 1:
        return found[0]
    first = found[0]
    regions = all(isinstance(f, Said) and isinstance(f.value, Region) and f.name == first.name for f in found)
    if regions and separators in ({"\\or"}, {"\\and"}):
        join = sympy.Union if separators == {"\\or"} else sympy.Intersection
        return Said(first.name, region(join(*(f.value.numbers for f in found))))
    if isinstance(first, Said) and isinstance(first.value, Quantity) and first.name and all(
            isinstance(f, Quantity) or (isinstance(f, Said) and f.name == first.name) for f in found):
        values = tuple(f.value if isinstance(f, Said) else f for f in found)  # x = 1 or x = 2; n = 5, 6
        return Said(first.name, Sequence("set", values))
    return Sequence("list", tuple(found))


def _dotted(part):
    return Words("...") if part == [Token("cmd", "\\ldots")] else read(part)


def _sign(tokens) -> bool:
    """Whether a plus-minus stands outside sets' braces."""
    depth = 0
    for token in tokens:
        depth += (token.text == "\\{") - (token.text == "\\}")
        if depth == 0 and token.text in _SIGNS["+"]:
            return True
    return False


def _signs(part) -> list:
    """One reading, or two where a part holds plus-minus."""
    if not _sign(part):
        return [read(part)]
    if [t.text for t in part].count("\\pm") > 1:
        raise Unreadable("signs that may differ")
    return [read([Token("op", signs[t.text]) if t.text in signs else t for t in part]) for signs in _SIGNS.values()]


# --- relations
def _relation(parts, between):
    kinds = set(between)
    if kinds <= {"=", "\\approx"}:
        return _equation(parts)
    if len(between) == 1 and kinds <= {"\\in", "\\notin"}:
        name, value = _name(parts[0]), read(parts[1])
        if name is None or not isinstance(value, Region | Sequence):
            raise Unreadable("a membership of no name or no set")
        return Said(name, value if kinds == {"\\in"} else region(S.Reals - numbers(value)))
    if between == ["\\ne"] and (name := _name(parts[0])):
        return Said(name, region(S.Reals - sympy.FiniteSet(_exact(parts[1]))))
    if between == ["\\equiv"]:
        rest, modulus = split(parts[1], {"\\mod"})
        if len(modulus) != 1:
            raise Unreadable("a congruence without modulus")
        return Sequence("congruence", tuple(_quantity(part) for part in (parts[0], *rest)))
    if kinds <= {"<", "\\le"}:
        return _inequality(parts, between)
    if kinds <= {">", "\\ge"}:
        return _inequality(parts[::-1], [{">": "<", "\\ge": "\\le"}[b] for b in reversed(between)])
    raise Unreadable("relations of several kinds")


def _name(part) -> str | None:
    """A variable, perhaps with a subscript, or f(x)."""
    text = "".join(t.text for t in part)
    one = re.fullmatch(r"(\\?[A-Za-z]+)(_\w|_\{\w+\})?(\(\w(,\w)*\))?'?", text)
    known = one and part[0].kind in ("letter", "word", "cmd") and text != "\\pi" and not text.startswith("\\Set")
    return text if known and (part[0].kind != "word" or len(part) == 1) else None


def _names(part) -> list[str]:
    """x and y of (x, y)."""
    inner = part[1:-1] if part and part[0].text == "(" and part[-1].text == ")" else []
    names = [_name(each) for each in split(inner, {","})[0] if each]
    return [name for name in names if name] if len(names) > 1 and all(names) else []


def _equation(parts):
    names = [_name(part) for part in parts]
    if names[0] is None and names[-1] is not None:
        parts, names = parts[::-1], names[::-1]
    if len(parts) == 2 and (several := _names(parts[0])):
        value = read(parts[1])
        if not isinstance(value, Sequence) or value.kind != "tuple" or len(value.items) != len(several):
            raise Unreadable("names without values")
        return Sequence("list", tuple(map(Said, several, value.items)))
    if names[0] is None:
        sides = [_quantity(part) for part in parts]
        if all(not side.value.free_symbols for side in sides):
            return _agreed(sides)
        if len(sides) != 2:
            raise Unreadable("a chain of equations")
        return Said(None, None, sides[0].value - sides[1].value)
    value = _agreed([read(part) for part in parts[1:]])
    symbol = _exact(parts[0]) if re.fullmatch(r"\\?[A-Za-z]+", names[0]) and parts[0][0].kind != "word" else None
    number = isinstance(value, Quantity) and symbol is not None
    return Said(names[0], value, symbol - value.value if number else None)


def _agreed(values):
    values = [*map(unwritten, values)] if len(values) > 1 else values
    if not all(same(value, values[-1]) for value in values[:-1]):
        raise Unreadable("sides that differ")
    return values[-1]


def _inequality(parts, between):
    """Sides in rising order."""
    names = [_name(part) for part in parts]
    if len(parts) in (2, 3) and sum(name is not None for name in names) == 1 and (len(parts) == 2 or names[1]):
        at = next(i for i, name in enumerate(names) if name)
        low = _exact(parts[at - 1]) if at else -sympy.oo
        high = _exact(parts[at + 1]) if at + 1 < len(parts) else sympy.oo
        opened = at > 0 and between[at - 1] == "<", at < len(between) and between[at] == "<"
        return Said(names[at], Region(interval(low, high, *opened)))
    if len(parts) != 2:
        raise Unreadable("a chain of inequalities")
    return Said(None, None, _exact(parts[0]) - _exact(parts[1]), "<" if between == ["<"] else "<=")


# --- brackets and environments
def _bracketed(tokens):
    opener, closer, inner = tokens[0].text, tokens[-1].text, tokens[1:-1]
    if tokens[0].kind not in ("op", "cmd") or opener not in _OPEN or opener in _ROUNDED or \
            closer not in _CLOSE or not _matching(tokens):
        return None
    if opener == "\\{" and closer == "\\}":
        return _set(inner)
    parts, between = split(inner, {","})
    if opener + closer in ("{}", "()", "[]") and not between:
        return read(inner) if opener != "[" else None
    if len(parts) == 2 and opener in "([" and closer in ")]" and (opener, closer) != ("(", ")"):
        return Region(interval(*(_exact(part) for part in parts), opener == "(", closer == ")"))
    kind = {"()": "tuple", "[]": "square", "\\langle\\rangle": "vector", "{}": "list"}.get(opener + closer)
    if kind is None:
        raise Unreadable("brackets that do not match")
    return Sequence(kind, tuple(read(part) for part in parts))


def _matching(tokens) -> bool:
    """Whether the first bracket is closed by the last token."""
    depth = 0
    for i, token in enumerate(tokens):
        depth += (token.text in _OPEN) - (token.text in _CLOSE)
        if depth == 0:
            return i == len(tokens) - 1
    return False


def _set(inner):
    if not inner:
        return Sequence("set", ())
    parts, between = split(inner, {"\\mid", ":", "|"})
    if len(between) == 1:
        said = read(parts[1])
        if isinstance(said, Said) and isinstance(said.value, Region) and said.name and said.name == _name(
                split(parts[0], {"\\in"})[0][0]):
            return said.value
        raise Unreadable("a condition on a set")
    parts, _ = split(inner, {",", ";"})
    items = [item for part in parts for item in _signs(part)]
    return Sequence("dotted set" if Words("...") in items else "set", tuple(items))


def _environment(tokens):
    if tokens[0].text in ("(", "[") and len(tokens) > 2 and "array" in tokens[1].text and tokens[-2].kind == "env":
        tokens = [Token("env", "\\begin{pmatrix}"), *tokens[2:-2], Token("env", "\\end{pmatrix}")]
    if tokens[0].kind != "env" or tokens[-1].kind != "env":
        return None
    name, inner = re.findall(r"\{(\w+)\*?\}", tokens[0].text)[0], tokens[1:-1]
    if name in ("aligned", "align", "gathered", "array", "cases"):
        if name in ("aligned", "align"):
            inner = [t for t in inner if t.text != "&"]
        return read(inner)
    rows = [split(row, {"&"})[0] for row in split(inner, {"\\\\"})[0] if row]
    if len({len(row) for row in rows}) != 1:
        raise Unreadable("rows of different lengths")
    if name == "vmatrix":
        return Quantity(sympy.Matrix([[_exact(cell) for cell in row] for row in rows]).det())
    if name not in _MATRICES:
        raise Unreadable(f"{name} is not known")
    cells = [tuple(_quantity(cell) for cell in row) for row in rows]
    if len(cells[0]) == 1:
        return Sequence("vector", tuple(row[0] for row in cells))
    return Sequence("row", cells[0]) if len(cells) == 1 else Sequence(
        "matrix", tuple(Sequence("row", row) for row in cells))


# --- sets of numbers
def _named_set(tokens):
    text = "".join(t.text for t in tokens)
    return Sequence("set", ()) if text == "\\emptyset" else Region(_SETS[text]) if text in _SETS else None


def _operation(parts, between):
    if len(set(between)) > 1:
        raise Unreadable("set operations of several kinds")
    sets = [numbers(read(part)) for part in parts]
    result = sets[0]
    for other in sets[1:]:
        result = _OPERATIONS[between[0]](result, other)
    return region(result)


# --- numbers
def _ratio(parts, between):
    *items, last = (_quantity(part) for part in parts)
    if any(item.unit for item in items):
        raise Unreadable("units in a ratio")
    last, after = Quantity(last.value, "", last.digits, last.written), last.unit
    return Sequence("time" if any(map(is_time, parts)) else "ratio", (*items, last), after)


def _exact(part) -> sympy.Expr:
    return _quantity(part).value


def _quantity(tokens) -> Quantity:
    """A scalar and its unit. Raises Unreadable where it is not read to its end."""
    tokens, before = list(tokens), ""
    for at in (0, 1):
        if len(tokens) > at + 1 and (tokens[at].text == "\\dollar" or tokens[at].kind == "money"):
            before = tokens.pop(at).text.replace("\\dollar", "$")
    reader = Reader(tokens)
    value = reader.total()
    text = written(tokens[:reader.at])
    after, factor = unit(reader)
    if (after or factor != 1) and value.free_symbols:
        raise Unreadable("a unit of an expression")
    if value.has(sympy.zoo, sympy.nan) or (value.has(sympy.oo, -sympy.oo) and len(tokens) > 2):
        raise Unreadable("no number")
    if before and after not in ("", before):
        raise Unreadable("two units")
    return Quantity(value * factor, after or before, reader.digits, text)
