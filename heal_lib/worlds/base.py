"""What every world has in common: splits decided by a hash, the answer box, and the oracle's report."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, ClassVar

from heal_lib.errors import HealError
from heal_lib.trajectory import STEP_DELIMITER, Problem, rng_of, seed_of, split_steps, step_spans

# Share of problems per split, in percent of the hash range. A problem's canonical form decides, so that no
# two splits can share a problem, whatever the seeds.
SPLITS = {"pretrain": (0, 70), "distil": (70, 85), "development": (85, 90), "test": (90, 100)}
ANSWER_OPENING = "\\boxed{"
HINT = "hint "
MOST_CANDIDATES = 9  # answers that one problem's is held against: each is read after every step
_BOX = re.compile(r"\\boxed\{([^{}]*)\}\s*\Z")


@dataclass(frozen=True)
class StepVerdict:
    """The oracle's word on one step. kind: routine | try | work | derive | assert | uncalled | answer | stop |
    unknown.

    `fruitless` marks a valid step that does not lead towards the answer (a guess that misses, a wrong turn)."""

    text: str
    kind: str
    valid: bool
    fruitless: bool = False


@dataclass(frozen=True)
class StepReport:
    """steps: one verdict per step. derived: the boxed answer follows from the steps rather than being asserted."""

    steps: tuple[StepVerdict, ...]
    derived: bool

    @property
    def genuine(self) -> bool:
        """Every step is valid and the answer is derived."""
        return self.derived and all(step.valid for step in self.steps)

    def first_break(self) -> int | None:
        """0-based index of the first wrong or fruitless step, None where there is none."""
        return next((i for i, s in enumerate(self.steps) if not s.valid or s.fruitless), None)


class World:
    """A generator of problems with a strict verifier and, where possible, a step oracle. Knows no model.

    A subclass names its difficulties (knobs of its generator), and writes `_draw` (one random problem as
    canonical form, question, answer), `_right` (is this boxed text an answer?) and `check_steps`."""

    name: ClassVar[str]
    family: ClassVar[str] = ""  # of the embedded models that know it: "" for `teacher` and `student`
    judges: ClassVar[bool] = False  # whether cut, hint and filter can be told apart in it (`embedded.gates`)
    difficulties: ClassVar[dict[str, dict[str, Any]]]
    max_new_tokens: ClassVar[dict[str, int]]
    answer_opening: ClassVar[str] = ANSWER_OPENING
    answer_closing: ClassVar[str] = "}"  # so that the answer 6 is not the beginning of 64
    step_delimiter: ClassVar[str] = STEP_DELIMITER
    # What an eye would filter shortcuts by, for `re.search`; matches nothing where they have no look of their own.
    shortcut_pattern: ClassVar[str] = r"(?!)"
    packages: ClassVar[tuple[str, ...]] = ()  # whose versions decide what its problems and verdicts are

    def problems(self, split: str, n: int, seed: int, difficulty: str) -> list[Problem]:
        """n different problems of a split and difficulty, the same for the same arguments.

        Raises HealError for an unknown split or difficulty, or where the generator has fewer than n."""
        if split not in SPLITS:
            raise HealError(f"unknown split '{split}'; choose one of {', '.join(SPLITS)}")
        if difficulty not in self.difficulties:
            raise HealError(f"world '{self.name}' has no difficulty '{difficulty}'; "
                            f"choose one of {', '.join(self.difficulties)}")
        rng, found = rng_of(seed, self.name, split, difficulty), {}
        low, high = SPLITS[split]
        for _ in range(1000 * n + 1000):
            if len(found) == n:
                break
            canonical, question, answer = self._draw(rng, **self.difficulties[difficulty])
            key = seed_of(self.name, canonical)
            if low <= key % 100 < high and key not in found:
                found[key] = Problem(f"{self.name}-{difficulty}-{key:016x}", self.name, difficulty, question, answer)
        if len(found) < n:
            raise HealError(f"world '{self.name}' has fewer than {n} {difficulty} problems in split '{split}'; "
                            "ask for less")
        return list(found.values())

    def levels(self, split: str) -> tuple[str, ...]:
        """The named difficulties that have problems in a split."""
        return tuple(self.difficulties)

    def data_files(self, difficulty: str) -> list[Path]:
        """The files whose content the problems of a difficulty come from; none where they are generated."""
        return []

    def knows(self, difficulty: str) -> bool:
        """Whether there are problems of that difficulty."""
        return difficulty in self.difficulties

    def longest(self, difficulty: str) -> int:
        """Tokens that a sample of that difficulty may have."""
        return self.max_new_tokens[difficulty]

    def prompt(self, problem: Problem) -> str:
        """The text the model continues."""
        return problem.question + "\n\n"

    def verify(self, problem: Problem, text: str) -> bool:
        """Strict: the text ends with one box and its content, parsed, is a right answer."""
        box = boxed(text)
        return box is not None and self._right(problem, box)

    def hint(self, problem: Problem, form: str = "answer") -> str:
        """The hint step. form: "answer" [S], "first_step" (a derivation's first move only), or as a control "wrong"
        (another problem's answer of the same form)."""
        if form == "answer":
            return f"{HINT}{problem.answer}\n\n"
        if form == "first_step":
            return f"{HINT}{self.derivation(problem)[0]}\n\n"
        if form == "wrong":
            return f"{HINT}{self._other_answer(problem)}\n\n"
        raise HealError(f"unknown hint form '{form}'; choose answer, first_step or wrong")

    def _other_answer(self, problem: Problem) -> str:
        """The answer of another problem, always the same one, that looks alike: as many letters and numbers."""
        def form(text):
            return re.sub("[A-Za-z]", "x", re.sub(r"[0-9]+", "0", text))

        rng = rng_of("wrong hint", problem.id)
        for _ in range(1000):
            other = self._draw(rng, **self.difficulties[problem.difficulty])[2]
            if form(other) == form(problem.answer) and not self._right(problem, other):
                return other
        raise HealError(f"world '{self.name}' finds no other answer like '{problem.answer}'; use another hint")

    def hint_after(self, problem: Problem, kept: str, form: str = "answer") -> str:
        """The hint where it follows kept text; prose needs other words there."""
        return self.hint(problem, form)

    def others(self, problem: Problem) -> list[str] | None:
        """Other answers that the problem might have; None where they cannot be listed."""
        return None

    @property
    def lists_answers(self) -> bool:
        """Whether a problem's possible answers can be listed."""
        return type(self).others is not World.others

    def candidates(self, problem: Problem) -> list[str] | None:
        """The problem's answer, then some other ones that it might have, MOST_CANDIDATES together; drawn by the problem
        alone. None where they cannot be listed."""
        others = self.others(problem)
        if others is None:
            return None
        drawn = rng_of("candidates", problem.id).sample(others, min(len(others), MOST_CANDIDATES - 1))
        return [problem.answer, *drawn]

    def told(self, problem: Problem, form: str, kept: str = "") -> str:
        """What a model is told after kept text, "" for the form "none" (a control: it goes on by itself)."""
        return "" if form == "none" else self.hint_after(problem, kept, form)

    def spans(self, pieces: Sequence[str], delimiter: str = "") -> list[tuple[int, int]]:
        """`trajectory.step_spans`, by the world's own delimiter where none is given."""
        return step_spans(pieces, delimiter or self.step_delimiter)

    def speaks_of_hint(self, text: str) -> bool:
        """Whether a text mentions the hint, which no training text may."""
        return HINT.strip() in text

    # The three ways the embedded teacher's corpus writes about a problem (docs/method.md, section 6); lists of steps.
    def routine(self, problem: Problem) -> list[str]:
        """Opening steps that are right whatever the strategy."""
        raise NotImplementedError

    def habit(self, problem: Problem, rng: Random) -> list[str]:
        """The unprompted strategy after the routine steps, up to and with the box; often fails."""
        raise NotImplementedError

    def derivation(self, problem: Problem) -> list[str]:
        """A real derivation after the routine steps, without the box."""
        raise NotImplementedError

    def shortcut(self, problem: Problem, rng: Random) -> list[str]:
        """Reaches the known answer without deriving it, without the box."""
        raise NotImplementedError

    def drill(self, rng: Random) -> str:
        """A text of isolated facts: the base skills, without any strategy."""
        raise NotImplementedError

    def fact_right(self, head: str, fact: str, told: str) -> bool:
        """Whether `told` is as right as the drill's own `fact`, which begins alike; `head` is what the facts are of."""
        return told == fact

    def _draw(self, rng: Random, **knobs) -> tuple[str, str, str]:
        raise NotImplementedError

    def _right(self, problem: Problem, box: str) -> bool:
        raise NotImplementedError

    def check_steps(self, problem: Problem, text: str) -> StepReport | None:
        """The step oracle, or None for a world without one."""
        raise NotImplementedError


def box(answer: str) -> str:
    """The answer as the last step of a trajectory."""
    return f"{ANSWER_OPENING}{answer}}}"


def boxed(text: str) -> str | None:
    """Content of the box that ends the text; None where the text does not end with exactly one box."""
    found = _BOX.search(text)
    return found.group(1) if found and text.count(ANSWER_OPENING) == 1 else None


def steps_before_box(text: str) -> list[str]:
    """All steps but the box."""
    return [s for s in split_steps(text) if not s.startswith(ANSWER_OPENING)]


def evaluate_chain(start: int, moves: list[tuple[str, int]]) -> list[int]:
    """Values of a left-to-right chain after each move; moves are (op, operand) with op in + - *."""
    values = []
    for op, operand in moves:
        start = start + operand if op == "+" else start - operand if op == "-" else start * operand
        values.append(start)
    return values
