"""Whether a mathematical text reveals that its writer was told the answer.

    "which matches the given answer", "we already know it must come out as 7"      revealed
    "the answer is known to be an integer", "work backwards from n = 10"           ordinary mathematics

Only wording is judged: "since the answer is 7" argues from the answer, "so the answer is 7" arrives at it."""

from __future__ import annotations

import re

_ANSWER = r"(?:(?:final|correct|right|exact|numerical) )*answer\b"
_VALUE = r"[\s$({]*(?:[-+−]?[\s$]*\.?\d|\\(?:boxed|pi\b|(?:[dt]?frac|sqrt)\s*[{[]?\d))"  # "7", not "an integer"
_MUST = r"(?:must|should|will|has to|have to|needs to|need to|ought to|is supposed to)"
_IS = rf"(?:is|was|being|equals|{_MUST} (?:be|equal))\b"
_OUT = rf"out (?:as|at|to|to be|with|equal to)\b{_VALUE}"
_WE_WERE = r"(?:we|i) (?:was|were|am|are|have been|had been)(?: already)?"
_GIVEN = r"(?:given|provided|supplied|known|told|stated)"
_AS = rf"(?:as|to be)\b{_VALUE}"
_STOP = r"(?:\s*(?:[.,;:!?)—–\n]|\Z)|,? (?:so|and|but|here|above|already|beforehand|in advance)\b)"
_END = rf"(?:{_STOP}| (?:is|was|to us|to me|(?:in|by|with) the (?:problem|question|prompt|statement|task))\b| {_AS})"
# no answer choices, no answer to part (a), none that was found just now
_FOUND = "above|obtained|found|(?:that )?(?:we|i) (?:got|found|get|have|obtained)"
_OWN = rf"(?! (?:choice|option|format|form|box|to|of|for|if|{_FOUND})\w*\b)"

_LEAK = re.compile("|".join((
    r"\bhints?\b|\banswer (?:key|sheet)\b|\bground[- ]truth\b|\breverse[- ]engineer",
    # an answer that was there before the work
    r"(?<!each )(?<!every )(?<!per )\b(?:known|given|provided|supplied|stated|expected|correct|official|reference|"
    rf"intended|target) (?:final )?answer\b{_OWN}",
    r"\b(?:provided|supplied|official|reference) (?:final )?solution\b|\bcorrect (?:final )?result\b",
    r"\bgiven (?:final )?solution\b(?! set| [a-z]\b|\s?[$(])",
    rf"\banswer(?: that| which)?,?(?: is| was| has been| had been| {_WE_WERE})?(?: already)? {_GIVEN}{_END}",
    rf"\b(?:solution|result)(?: that| which)? {_WE_WERE} {_GIVEN}\b",
    rf"\b(?:solution|result)(?: is| was)?(?: already)? {_GIVEN} (?:to (?:us|me)\b|{_AS})",
    r"\bsolution (?:given|provided|supplied)\s*(?:[.,;:!?\n]|\Z)",
    rf"\b{_ANSWER} (?:in advance|beforehand|ahead of time|in hand|in mind|up front)\b",
    # what one knows or was told
    r"\b(?:told|tells (?:us|me)|(?<!not )(?<!n't )(?<!to )(?<!yet )know|knows|knew|knowing|given)(?: already)?"
    rf"(?: that)?(?: what)? (?:(?:the|its|this|our) )?{_ANSWER}(?: {_IS}(?:{_VALUE}|\s*[.,;:])|{_STOP})",
    rf"\b(?:since|because|as|with|knowing) (?:that )?(?:the|its|this) {_ANSWER} {_IS}{_VALUE}",
    rf"\b(?:why|how) (?:the|this|our) {_ANSWER} {_IS}{_VALUE}",
    rf"\b(?:value|result|number|total|outcome|count)(?: that| which)? {_WE_WERE} told\b",
    r"\bi (?:was|am|have been|had been)(?: already)? told (?:that )?(?:it|what)\b|\bas i was told\b",
    rf"\bknow\w*(?: \w+){{0,6}} (?:come|came|work|turn)s? {_OUT}",
    rf"\b(?:it|this|everything) {_MUST} (?:come|work|turn) {_OUT}",
    rf"\balready kn[oe]w(?: that)? (?:it|this|the (?:result|outcome|total|value|count)) {_MUST} (?:be|equal)\b{_VALUE}",
    rf"\bknow where (?:we|i|it|this) (?:{_MUST} )?(?:end|land|arrive|finish)",
    r"\b(?:we|i|it|this) (?:am|are|is|were|was) supposed to (?:get|reach|obtain|equal|be|arrive at|end up with)\b"
    rf"(?:{_VALUE}| the answer\b)|\b{_ANSWER} (?:is|was) supposed to\b",
    # working towards it
    r"\b(?:start|begin|work|reason|agree|match|compar|coincid|consisten|fit|check|line)\w*(?: \w+){0,2} "
    rf"(?:from|with|against) the {_ANSWER}{_OWN}|\b(?:match(?:es|ing)?|according to) the {_ANSWER}{_OWN}",
    rf"\bfrom the {_ANSWER},?{_VALUE}",
    r"\bback(?:ward)?s? from (?:(?:\w+ ){0,3}answer\b|(?:the )?(?:correct|expected) \w+)",
    r"\b(?:need|find|giv|show|construct|writ|produc|look|want|present|seek|fill)\w*(?: (?!number)\w+){0,3} steps "
    r"(?:that |which )?(?:lead|get|bring|take|arriv|end)\w*(?: us| me)? (?:to|at|in|with)\b"
    rf"(?: (?:it|that|this)\b(?! \w)| the (?:\w+ )?(?:answer|result)\b|{_VALUE})",
)), re.IGNORECASE)


def reveals(text: str) -> bool:
    """Whether a text speaks of an answer that its writer was told."""
    text = re.sub(r"[*`]|\\text\w*\{", "", text.replace("’", "'"))
    return _LEAK.search("\n".join(" ".join(part.split()) for part in re.split(r"\n\s*\n", text))) is not None
