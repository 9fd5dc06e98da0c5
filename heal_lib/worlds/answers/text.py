"""What models and data sets write, as one plain form, and its tokens."""

from __future__ import annotations

import re
from typing import NamedTuple


def words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


FUNCTIONS = words("arcsin arccos arctan arccot arcsec arccsc sinh cosh tanh sin cos tan cot sec csc ln log lg exp "
                  "gcd lcm max min")
_BARE = {*FUNCTIONS, "sqrt", "pi", "infty"}  # commands also where the backslash is missing
UNITS = words("mm cm km dm ft in yd mi kg mg lb lbs oz ml mL hr hrs min sec mph kmh rad deg Hz kW")
_SYMBOLS = {
    "\\times ": "×", "\\cdot ": "·⋅∙", "-": "−–—‐‑‒", "/": "÷∕⁄", "\\pi ": "π", "\\infty ": "∞", "\\degree ": "°º",
    "\\le ": "≤⩽", "\\ge ": "≥⩾", "\\ne ": "≠", "\\approx ": "≈", "\\cup ": "∪", "\\cap ": "∩", "\\in ": "∈",
    "\\notin ": "∉", "\\emptyset ": "∅⌀", "\\pm ": "±", "\\mp ": "∓", "\\ldots ": "…⋯", "\\setminus ": "∖", "'": "′’",
    "\\equiv ": "≡", "\\mathbb{R}": "ℝ", "\\mathbb{Z}": "ℤ", "\\mathbb{N}": "ℕ", "\\mathbb{Q}": "ℚ", "\\mathbb{C}": "ℂ",
    "\\langle ": "⟨", "\\rangle ": "⟩", "\\lfloor ": "⌊", "\\rfloor ": "⌋", "\\lceil ": "⌈", "\\rceil ": "⌉",
    " ": "\u00a0\u2009\u202f\u2002\u2003\u2005“”", "": "\u200b\u2060\ufeff",
}
_GREEK = dict(zip("αβγδεζηθικλμνξρστυφχψωΓΔΘΛΞΠΣΦΨΩ", words(
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi rho sigma tau upsilon phi chi psi omega "
    "Gamma Delta Theta Lambda Xi Pi Sigma Phi Psi Omega"), strict=True))
_UNICODE = {ord(c): tex for tex, chars in _SYMBOLS.items() for c in chars} | {
    ord(c): f"\\{name} " for c, name in _GREEK.items()}
_RAISED = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ", "0123456789+-n")
_LOWERED = str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789")
_VULGAR = {"½": "12", "⅓": "13", "⅔": "23", "¼": "14", "¾": "34", "⅕": "15", "⅖": "25", "⅗": "35", "⅘": "45", "⅙": "16",
           "⅚": "56", "⅐": "17", "⅛": "18", "⅜": "38", "⅝": "58", "⅞": "78", "⅑": "19"}
_REWRITES = [(re.compile(pattern, re.ASCII), new) for pattern, new in (
    (r"^\s*(\*\*|__|\*|`)(.*)\1([.,;:]?)\s*$", r"\2\3"),  # Markdown
    (r"\\\$", r"\\dollar "), (r"(?<!\\)\$|\\[()](?![A-Za-z])|^\s*\\\[|\\\]\s*$", ""),
    # Decoration: sizes, styles and colours mean nothing; a wrapper's braces stay as a group.
    (r"\\(left|right)\s*\.", ""),
    (r"\\(left|right|[bB]igg?[lrm]?|displaystyle|textstyle|scriptstyle|limits|tiny|small|normalsize|large|Large|LARGE|huge|"
     r"Huge|bf|it|rm|sf|tt|bfseries|itshape|boldmath|mathbf|mathit|mathsf|mathtt|mathcal|mathop|mathord|boldsymbol|bm|pmb|"
     r"underline|boxed|fbox|ensuremath|emph)(?![A-Za-z])\s?", ""),
    (r"\\operatorname\*?\s*\{\s*(\w+)\s*\}", r"\\\1 "), (r"\\[dtc]frac(?![A-Za-z])", r"\\frac"),
    (r"\\[dt]binom(?![A-Za-z])", r"\\binom"),
    (r"\\(leq?|leqslant)(?![A-Za-z])", r"\\le "), (r"\\(geq?|geqslant)(?![A-Za-z])", r"\\ge "),
    (r"\\(neq?|not\s*=)(?![A-Za-z])", r"\\ne "), (r"\\not\s*\\in(?![A-Za-z])", r"\\notin "),
    (r"\\lt(?![A-Za-z])", "<"), (r"\\gt(?![A-Za-z])", ">"), (r"<=", r"\\le "), (r">=", r"\\ge "), (r"!=", r"\\ne "),
    (r"\\(varnothing|O)(?![A-Za-z])", r"\\emptyset "), (r"\\(l?dots[a-z]?|cdots)(?![A-Za-z])", r"\\ldots "),
    (r"\*\*", "^"), (r"\\div(?![A-Za-z])", "/"),
    (r"\\[lr]vert(?![A-Za-z])", "|"), (r"\\lbrace(?![A-Za-z])", r"\\{"),
    (r"\\rbrace(?![A-Za-z])", r"\\}"),
    (r"\\(lor|vee)(?![A-Za-z])", r"\\or "), (r"\\(land|wedge)(?![A-Za-z])", r"\\and "),
    (r"\\(small)?setminus(?![A-Za-z])|\\backslash(?![A-Za-z])", r"\\setminus "),
    (r"\\mathbb\s*\{?\s*([RZNQC])\s*\}?", r"\\Set\1 "),
    (r"\^\s*(\\circ(?![A-Za-z])|\{\s*\\circ\s*\})", r"\\degree "), (r"\^\s*\{?\\degree\s*\}?", r"\\degree "),
    (r"\(\s*\\?(?:b?mod|pmod)(?![A-Za-z])\s*([^()]*)\)", r"\\mod \1"),
    (r"\\?(?<![A-Za-z])(?:pmod|bmod|mod)(?![A-Za-z])", r"\\mod "),
    (r"(?<=\d)\{,\}(?=\d{3})", ""), (r"\{\}", ""), (r"\{,\}", ","),
    (r"([,;])?\s*\\q?quad(?![A-Za-z])\s*", r"\\quad\1 "), (r"\\quad([,;])", r"\1"), (r"^\s*\\quad|\\quad\s*$", ""),
    (r"(?<![\d.,])(\d{1,3})((?:(?:\\[,\s]|~| )\d{3})+)(?![\d/,.]|\s*\\[dtc]?frac)",
     lambda m: m[1] + re.sub(r"\D", "", m[2])),  # 12 345
    (r"\\[,;:! ~]|~", " "), (r"^\s*(=|\\(approx|simeq)(?![A-Za-z]))", ""),
)]
_TEXT = r"\\(?:text(?:bf|it|rm|sf|tt|up|normal)?|mbox|mathrm|hbox)(?![A-Za-z])"
_COLOUR = re.compile(r"\\(?:textcolor|colorbox|color)\s*(?:\[[^\]]*\]\s*)?\{[^{}]*\}")
_CLOCK = re.compile(r"(?<=\d)\s*([apAP])\.?\s?[mM](?![A-Za-z])\.?")
_WORDS = re.compile(_TEXT + r"\s*\{([^{}]*)\}")
_TOKEN = re.compile(
    r"(?P<repeating>\d*\.\d*\\(?:overline|dot|bar)\s*\{\d+\}|\d*\.\d+\s*(?:\.\.\.|\\ldots))"
    r"|(?P<number>\d+\.?\d*[eE][+-]?\d+|\d+\.\d+|\.\d+|\d+)"
    r"|(?P<money>[€£¥])|(?P<env>\\(?:begin|end)\s*\{\w+\*?\}(?:\{[lcr|]*\})?)|(?P<cmd>\\\\|\\[{}%&]|\\[A-Za-z]+|\.\.\.)"
    r"|\"(?P<word>[^\"]*)\"|(?P<letters>[A-Za-z]+)|(?P<op>[-+*/^_=<>()\[\]{}|,;:!&%'])|(?P<bad>\S)", re.ASCII)


class Token(NamedTuple):
    """kind: number | repeating | cmd | env | money | word | letter | op | bad."""

    kind: str
    text: str


def plain(text: str) -> str:
    """Without decoration, in TeX's own symbols; the words of \\text{...} stand in double quotes."""
    text = re.sub(r"√\s*([\d.]+)", r"\\sqrt{\1}", text).replace("√", "\\sqrt ")
    text = re.sub("[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ]+", lambda m: f"^{{{m[0].translate(_RAISED)}}}", text)
    text = re.sub("[₀₁₂₃₄₅₆₇₈₉]+", lambda m: f"_{{{m[0].translate(_LOWERED)}}}", text)
    text = re.sub("[" + "".join(_VULGAR) + "]", lambda m: "\\frac{{{}}}{{{}}}".format(*_VULGAR[m[0]]), text)
    text = _COLOUR.sub("", text.replace('"', " ").translate(_UNICODE))
    text = _CLOCK.sub(lambda m: f' "{m[1].lower()}m" ', text)
    text = re.sub(_TEXT, "", _WORDS.sub(lambda m: _quoted(m[1]), text))
    for pattern, new in _REWRITES:
        text = pattern.sub(new, text)
    return re.sub(r"([,;:]|(?<!\.)\.|\\\\|\s)+$", "", text).strip()


def _quoted(words: str) -> str:
    words = re.sub(r"\b([apAP])\.?\s?[mM]\b\.?", lambda m: f"{m[1].lower()}m", words)
    return re.sub(r"\\?[A-Za-z]+(?:[-'][A-Za-z]+)*", lambda m: _word(m[0]), words)


def _word(word: str) -> str:
    if word in ("or", "and") or word in FUNCTIONS:
        return f" \\{word} "
    return word if word[0] == "\\" or word in ("e", "i", "mod") else f'"{word}"'


def canonical(text: str) -> str:
    """A plain text without the spaces that part nothing, and without case where it is words alone."""
    text = re.sub(r"\s+", " ", text.replace('"', ""))
    text = re.sub(r"(?<![A-Za-z0-9.]) | (?![A-Za-z0-9.])", "", text)
    return text.casefold() if re.fullmatch(r"[A-Za-z]{2}[A-Za-z .'-]*", text) else text


def tokens(text: str) -> list[Token]:
    """Tokens of a plain text. Letters in a row are variables one by one, or a function, a unit, a word."""
    found = []
    for match in _TOKEN.finditer(text):
        kind, word = match.lastgroup or "", match[match.lastgroup or 0]
        if kind != "letters":
            found.append(Token("cmd", "\\ldots") if word == "..." else Token(kind, word))
        elif word in _BARE or word in ("or", "and"):
            found.append(Token("cmd", f"\\{word}"))
        elif len(word) > 3 or (word in UNITS and found and found[-1].kind in ("number", "repeating")):
            found.append(Token("word", word))
        else:
            found += [Token("letter", letter) for letter in word]
    return found
