"""Units after a number: which words are one, and how units are written alike."""

from __future__ import annotations

from heal_lib.worlds.answers.scalars import END, Reader, Unreadable
from heal_lib.worlds.answers.text import words

# Words after a number that change it, so that it is no number with a unit.
_NO_UNIT = words(
    "if otherwise not nor when where for with without except unless all any only odd even is are was but no none to "
    "from through until mod modulo base plus minus times divided over squared cubed half factorial approximately about "
    "around less more than at least most by then else since because per between hundred negative positive")
SCALE = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12, "dozen": 12}
ALIASES = {"percent": "%", "degree": "°", "dollar": "$", "deg": "°"}


def unit(reader: Reader) -> tuple[str, int]:
    """(unit, factor) at the end of a scalar: words, perhaps with powers and a slash; "" where there is none."""
    found: list[str] = []
    factor = 1
    while reader.peek() is not END:
        kind, text = reader.peek()
        if kind == "word" and text.lower() in SCALE and not found:
            factor *= SCALE[text.lower()]
        elif kind == "word" and text.lower() not in _NO_UNIT or (text in ("/", "^") and found):
            found.append(text)
        elif text in ("%", "\\%", "\\degree", "\\dollar") and not found:
            found.append({"\\degree": "°", "\\dollar": "$"}.get(text, "%"))
        elif (kind == "money" and not found) or (kind == "number" and found and found[-1] == "^"):
            found.append(text)
        elif kind == "op" and text in "{}" and found:
            pass
        elif kind == "letter" and found == ["°"] and text in "CF":
            found.append(text)
        else:
            raise Unreadable(f"{text} is left over")
        reader.at += 1
    if len(found) > 6:
        raise Unreadable("too many words for a unit")
    singular = [word if len(word) < 3 else word.removesuffix("s").lower() for word in found]
    return "".join(ALIASES.get(word, word) for word in singular), factor
