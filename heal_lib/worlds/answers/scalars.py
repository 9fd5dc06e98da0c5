"""Tokens of one scalar -> a sympy expression: precedence climbing, to the last token or not at all."""

from __future__ import annotations

import math
import re
from typing import Any

import sympy
from sympy import I, Rational, Symbol, pi

from heal_lib.worlds.answers.text import FUNCTIONS, Token, words

END = Token("end", "")
_LARGE = 4 * 10**6  # bits of a power that is still worked out
_CLOSERS = {"(": ")", "[": "]", "{": "}", "\\lfloor": "\\rfloor", "\\lceil": "\\rceil"}
_GREEK = words(
    "alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu xi rho sigma tau "
    "upsilon phi varphi chi psi omega ell Gamma Delta Theta Lambda Xi Pi Sigma Phi Psi Omega")
_FACTORS = {*FUNCTIONS, *_GREEK, "frac", "sqrt", "binom", "pi", "lfloor", "lceil"}
_MANY = {"gcd": sympy.gcd, "lcm": sympy.lcm, "max": sympy.Max, "min": sympy.Min}
_ONE = {"ln": sympy.log, "lg": lambda x: sympy.log(x, 10), "exp": sympy.exp, "sinh": sympy.sinh,
        "cosh": sympy.cosh, "tanh": sympy.tanh,
        **{f: getattr(sympy, f) for f in ("sin", "cos", "tan", "cot", "sec", "csc")},
        **{f"arc{f}": getattr(sympy, f"a{f}") for f in ("sin", "cos", "tan", "cot", "sec", "csc")}}


class Unreadable(Exception):
    """A text that is not an answer of a known form to its last token."""


def power(base: sympy.Expr, exponent: sympy.Expr) -> sympy.Expr:
    """base^exponent; what would fill the memory is a symbol of that name."""
    whole = base.is_Rational and exponent.is_Integer
    if whole and abs(exponent) * max(base.p.bit_length(), base.q.bit_length()) > _LARGE:
        return Symbol(f"({base})^{exponent}")
    return base**exponent


def factorial(value: sympy.Expr) -> sympy.Expr:
    """value!; what would fill the memory is a symbol of that name."""
    if value.is_number and not (value.is_Integer and value >= 0):
        raise Unreadable("a factorial of no natural number")
    return Symbol(f"{value}!") if value.is_Integer and value > _LARGE // 100 else sympy.factorial(value)


def number(text: str) -> Rational:
    """Exact value of a literal, also of 0.1\\overline{6} and 0.1666... (whose last digits repeat)."""
    if re.search(r"[eE][+-]?\d{6}", text):
        raise Unreadable("too large a power of ten")
    if re.fullmatch(r"[\d.eE+-]*\d\.?", text, re.ASCII):
        return Rational(text)
    if barred := re.search(r"(.*?)\\\w+\s*\{(\d+)\}", text):
        head, block = barred[1], barred[2]
    else:
        head = re.sub(r"\s*(\.\.\.|\\ldots)$", "", text)
        repeated = re.search(r"(\d+?)\1+$", head.partition(".")[2])
        if repeated is None:
            raise Unreadable("no digits that repeat")
        block = repeated[1]
    places = len(head.partition(".")[2])
    return Rational(head.rstrip(".") or 0) + Rational(int(block), (10 ** len(block) - 1) * 10**places)


class Cursor:
    """Where reading stands in a list of tokens."""

    def __init__(self, tokens: list[Token]):
        self.tokens: list[Token]
        self.at: int
        self.tokens, self.at = list(tokens), 0

    def peek(self, ahead: int = 0) -> Token:
        return self.tokens[self.at + ahead] if self.at + ahead < len(self.tokens) else END

    def take(self, *texts: str) -> bool:
        if found := self.peek().text in texts and self.peek().kind in ("op", "cmd"):
            self.at += 1
        return found

    def need(self, text: str) -> None:
        if not self.take(text):
            raise Unreadable(f"{text} expected at {self.peek().text or 'the end'}")

    def subscript(self, ahead: bool = False) -> str:
        """The raw text of a subscript, "" where there is none."""
        start = self.at
        if not self.take("_"):
            return ""
        if self.take("{"):
            depth, begin = 1, self.at
            while depth:
                if self.peek() is END:
                    raise Unreadable("an open subscript")
                depth += {"{": 1, "}": -1}.get(self.peek().text, 0)
                self.at += 1
            raw = "".join(t.text for t in self.tokens[begin: self.at - 1])
        else:
            raw, self.at = self.peek().text, self.at + 1
        if ahead:
            self.at = start
        return f"_{raw}"


class Operators(Cursor):
    """What joins the atoms of a scalar. `digits`: the fewest significant digits of its decimals, None without any."""

    def __init__(self, tokens: list[Token]):
        super().__init__(tokens)
        self.bars: int
        self.angle: bool
        self.bars, self.angle = 0, False  # open absolute values; whether degrees are read as an angle
        self.digits: int | None = None

    def starts(self) -> bool:
        """Whether a factor that needs no sign before it starts here; a number does not."""
        kind, text = self.peek()
        return kind == "letter" or (text == "|" and not self.bars) or (kind == "op" and text in "({[") or (
            kind == "cmd" and text[1:] in _FACTORS)

    def total(self) -> sympy.Expr:
        value = self.product()
        while self.peek().text in ("+", "-") and self.peek().kind == "op":
            value = value + self.product() if self.take("+") else value - (self.take("-") and self.product())
        return value

    def product(self) -> sympy.Expr:
        sign = 1
        while self.peek().kind == "op" and self.peek().text in ("+", "-"):
            sign = -sign if self.take("-") else sign * self.take("+")
        start, value = self.at, self.factor()
        while True:
            if self.take("*", "\\cdot", "\\times"):
                value = value * self.signed()
            elif self.take("/"):
                literal = start + 2 == self.at
                value = value / self.signed()
                # 1/2x is x/2 where a fraction of two numbers stands before x; a/bc can be read in two ways.
                if self.starts() and not (literal and start + 3 == self.at and self.tokens[start].kind == "number"
                                          and self.tokens[start + 2].kind == "number"):
                    raise Unreadable("a quotient with two readings")
            elif self.starts():
                value = value * self.factor()
            else:
                return sign * value

    def signed(self) -> sympy.Expr:
        return -self.factor() if self.take("-") else self.factor()

    def factor(self) -> sympy.Expr:
        value = self.atom()
        while True:
            if self.take("!"):
                value = factorial(value)
            elif self.take("^"):
                value = power(value, self.argument(whole=True))
                if self.peek().text == "^":
                    raise Unreadable("two exponents")
            elif self.angle and self.take("\\degree"):
                value = value * pi / 180
            else:
                return value

    def argument(self, whole: bool = False) -> sympy.Expr:
        """What ^, \\frac or \\sqrt takes: a group, or one symbol (a digit; with `whole` a number and its sign)."""
        if whole and self.take("-"):
            return -self.argument(whole=True)
        token = self.peek()
        if token.kind == "number" and not whole and len(token.text) > 1:
            self.tokens[self.at] = Token("number", token.text[1:])
            return Rational(token.text[0])
        return self.atom(mixed=False)

    def atom(self, mixed: bool = True) -> Any:
        raise NotImplementedError


class Reader(Operators):
    """One scalar: numbers, names, groups and functions, joined by operators."""

    def atom(self, mixed: bool = True) -> Any:
        kind, text = self.peek()
        self.at += 1
        if kind in ("number", "repeating"):
            return self.literal(text, mixed)
        if kind == "letter" or (kind == "word" and len(text) == 1) or (kind == "cmd" and text[1:] in _GREEK):
            name = text.lstrip("\\") + self.subscript()
            return {"e": sympy.E, "i": I}.get(name, Symbol(name))
        if text == "|" and kind == "op":
            self.bars += 1
            value = sympy.Abs(self.total())
            self.bars -= 1
            self.need("|")
            return value
        if text in _CLOSERS and kind in ("op", "cmd"):
            return self.group(text)
        if kind == "cmd":
            return self.command(text[1:])
        raise Unreadable(f"{text or 'the end'} is no number")

    def group(self, opener: str) -> sympy.Expr:
        bars, self.bars = self.bars, 0
        value = self.total()
        self.bars = bars
        self.need(_CLOSERS[opener])
        return {"\\lfloor": sympy.floor, "\\lceil": sympy.ceiling}.get(opener, lambda x: x)(value)

    def literal(self, text: str, mixed: bool) -> sympy.Expr:
        if self.peek().text == "_":
            return self.based(text)
        value = number(text)
        if text.isdigit() and mixed:
            start, digits = self.at, self.digits
            if self.take("\\frac"):
                part = (self.argument(), self.argument())
            elif self.peek().kind == "number" and self.peek(1).text == "/" and self.peek(2).kind == "number":
                part = (Rational(self.peek().text), Rational(self.peek(2).text))
                self.at += 3
            else:
                return value
            if all(p.is_Integer and p > 0 for p in part) and part[0] < part[1]:
                return value + part[0] / part[1]
            self.at, self.digits = start, digits
            raise Unreadable("a number beside a fraction")
        if re.search(r"[.eE]", text) and "\\" not in text and "..." not in text:
            digits = len(re.sub(r"[eE].*|\.", "", text).lstrip("0"))
            self.digits = min(digits, self.digits or digits)
        return value

    def based(self, text: str) -> sympy.Expr:
        """21_8 is 17."""
        base = int(self.subscript().strip("_{}") or 0) if re.fullmatch(r"_\{?\d+\}?", self.subscript(ahead=True)) else 0
        if not (2 <= base <= 36 and text.isdigit() and all(int(c) < base for c in text)):
            raise Unreadable("no number in a base")
        return Rational(int(text, base))

    def command(self, name: str) -> sympy.Expr:
        if name == "pi":
            return pi
        if name == "infty":
            return sympy.oo
        if name in ("frac", "binom"):
            above, below = self.argument(), self.argument()
            return sympy.binomial(above, below) if name == "binom" else above / below
        if name == "sqrt":
            degree = sympy.Integer(2)
            if self.take("["):
                degree = self.total()
                self.need("]")
            value = self.argument()
            if value.is_negative and degree.is_odd:  # the real root
                return -sympy.root(-value, degree)
            return sympy.root(value, degree)
        if name in FUNCTIONS:
            return self.function(name)
        raise Unreadable(f"\\{name} is not known")

    def function(self, name: str) -> sympy.Expr:
        base, exponent, angle = 10, 1, self.angle
        if name == "log" and self.take("_"):
            base = self.argument()
        if self.take("^"):
            exponent = self.argument(whole=True)
        self.angle = True
        args = self.arguments()
        self.angle = angle
        if name in _MANY:
            if name in ("gcd", "lcm") and not all(a.is_Integer for a in args):
                raise Unreadable(f"{name} of what is no whole number")
            value = _MANY[name](*args) if name in ("max", "min") else Rational(getattr(math, name)(*map(int, args)))
        elif len(args) != 1:
            raise Unreadable(f"{name} of several numbers")
        elif name == "log":
            value = sympy.log(args[0], base)
        elif exponent == -1 and f"arc{name}" in _ONE:
            return _ONE[f"arc{name}"](args[0])
        else:
            value = _ONE[name](args[0])
        return power(value, sympy.sympify(exponent))

    def arguments(self) -> list[sympy.Expr]:
        if self.take("("):
            bars, self.bars, found = self.bars, 0, [self.total()]
            while self.take(","):
                found.append(self.total())
            self.bars = bars
            self.need(")")
            return found
        value = self.signed()
        while self.starts() and self.peek().text[1:] not in FUNCTIONS:
            value = value * self.factor()
        return [value]
