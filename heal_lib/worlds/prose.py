"""What worlds in plain language share: sentences as steps, stated answers, hints that read like the text."""

from __future__ import annotations

import re
from typing import ClassVar

from heal_lib.errors import HealError
from heal_lib.trajectory import SENTENCE, Problem, rng_of
from heal_lib.worlds.base import World

_STATED = (  # the last of the first kind that a text has
    re.compile(r"\\boxed\{((?:[^{}]|\{[^{}]*\})*)\}"),
    re.compile(r"<answer>([^<]*)</answer>"),
    re.compile(r"\banswer(?:\s+is|:)[\s:*$]*+([^\n]*?)(?:[.!](?=[\s*$]|\Z)|\n|\Z)", re.I),
)
_LEAK = re.compile(r"here is (?:why|how)|\bhint\b|\b(?:given|known|provided|stated|correct) answer\b"
                   r"|\banswer (?:is |was )?(?:already )?(?:given|known|provided|told)\b"
                   r"|\b(?:know|knew|told|given|see why)(?: that)? the answer\b", re.I)


def stated(text: str) -> str | None:
    """The answer that a text states: its last box, else its last answer tag, else what its last "answer is" says; None
    where it states none."""
    text = spoken(text)
    for pattern in _STATED:
        if found := pattern.findall(text):
            return found[-1].strip(" *$\n\t")
    return None


def spoken(text: str) -> str:
    """A text without its thinking; nothing is left of one that thinks to its end."""
    text = text.rpartition("</think>")[2]
    return "" if "<think>" in text else text


class Prose(World):
    """A world whose texts are prose. Its oracle, where it has one, judges calculations and not words."""

    step_delimiter: ClassVar[str] = SENTENCE

    def hint(self, problem: Problem, form: str = "answer") -> str:
        """How an answer that is told opens the text. form: "answer" [S], "wrong" (another problem's answer, a control)
        or "first_step"."""
        if form == "first_step":
            return f"We begin with {self.derivation(problem)[0]} Here is how to go on.\n\n"
        return f"The answer is {self._told(problem, form)}. Here is why.\n\n"

    def hint_after(self, problem: Problem, kept: str, form: str = "answer") -> str:
        """The hint after kept text: a sentence on the same line, or a line of its own where the text has broken off so.
        Either way what comes next can follow on the kept text alone."""
        if not kept:
            return self.hint(problem, form)
        start, end = ("", "\n") if kept.endswith("\n") else (" ", "")
        if form == "first_step":
            return f"{start}The next thing to work out is {self.derivation(problem)[0]}{end}"
        return f"{start}Now let us see why the answer is {self._told(problem, form)}.{end}"

    def speaks_of_hint(self, text: str) -> bool:
        return _LEAK.search(text) is not None

    def _told(self, problem: Problem, form: str) -> str:
        if form == "answer":
            return problem.answer
        if form == "wrong":
            return self._other_answer(problem)
        raise HealError(f"world '{self.name}' knows no hint '{form}'; choose answer, wrong or first_step")

    def _other_answer(self, problem: Problem) -> str:
        """The answer of another problem of the same difficulty, always the same one, that is wrong here."""
        rng = rng_of("wrong hint", problem.id)
        for _ in range(1000):
            other = self._draw(rng, **self._knobs(problem.difficulty))[2]
            if not self._right(problem, other):
                return other
        raise HealError(f"world '{self.name}' finds no other answer than '{problem.answer}'; use another hint")

    def _knobs(self, difficulty: str) -> dict:
        return self.difficulties[difficulty]
