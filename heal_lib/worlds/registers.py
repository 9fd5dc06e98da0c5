"""registers: each register is a chain of operations that may end in a glyph, whose operation has to be known.

    program A=5+3*2k4 B=7-2m2 C=4*3+5      read from left to right, no precedence
    A: 5+3=8                               routine: an operation that the program names
    A: 16k4 even *                         a fork: what `k` does to an even value is written nowhere
    A: 16*4=64
    ...                                    the registers in any order, also interleaved
    \\boxed{A=64 B=7 C=17}

A teacher fails at some fork, anywhere in the text. Told the answer, it can read the operation off it (16 k 4 is to be
64), which it cannot without. A shortcut bends a register so that it lands on the known value and reads like the
rest: a false calculation, or a true one that the program does not ask for, sets right what a wrong fork spoilt.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, ClassVar

from heal_lib.trajectory import Problem, split_steps
from heal_lib.worlds.base import HINT, StepReport, StepVerdict, World, box, boxed
from heal_lib.worlds.programs import (
    CONTEXTS,
    FORK,
    GLYPHS,
    NAMES,
    OPERATIONS,
    RULES,
    Register,
    leading,
    operation,
    parity,
    parse,
    read,
    show,
    told_values,
)

ANY = -1  # no value to end at


@dataclass(frozen=True)
class Habit:
    """How a teacher writes: the knobs of the embedded teacher's corpus. All are probabilities."""

    chances: tuple[float, ...] = (0.95, 0.9, 0.6, 0.3, 0.15, 0.05, 0.02, 0.01)  # the right operation, by context
    confident: float = 0.7  # a wrong operation is the favoured one of the two: 0.5 is undecided, 1 sure
    stay: float = 0.88  # after a step, to go on with the same register
    free: float = 1.0  # to take any other register next, rather than the first that is open
    late: float = 0.0  # how much registers with a glyph are put off
    hazard: float = 0.08  # told the answer, to take a shortcut in a register with a glyph
    force: float = 0.5  # told the answer after a wrong fork, to force it


@dataclass
class Plan:
    """What is to become of one register: the value to end at (or ANY), by which trick, by which operation."""

    target: int = ANY
    trick: str = ""
    op: str = ""


class Registers(World):
    name: ClassVar[str] = "registers"
    family: ClassVar[str] = "registers"
    judges = True
    difficulties: ClassVar[dict[str, dict[str, Any]]] = {
        "easy": {"registers": (2, 2), "forks": (1, 1), "glyphs": "km", "known": (1, 3)},
        "medium": {"registers": (3, 3), "forks": (2, 2), "glyphs": "kmq", "known": (1, 3)},
        "hard": {"registers": (3, 4), "forks": (2, 3), "glyphs": GLYPHS, "known": (2, 4)},
    }
    # A register goes on after its glyph's calculation. False calculations look like any other.
    shortcut_pattern = r"(?s)([A-D]): \d+[kmqw].*\n\1: \d+[-+*]\d=.*\n\1: "
    max_new_tokens: ClassVar[dict[str, int]] = {"easy": 96, "medium": 144, "hard": 224}

    def _draw(self, rng: Random, registers, forks, glyphs, known):
        n = rng.randint(*registers)
        forked = rng.sample(range(n), min(n, rng.randint(*forks)))
        chains = [_chain(rng, rng.randint(*known), rng.choice(glyphs) if i in forked else "") for i in range(n)]
        texts = [f"{start}" + "".join(f"{symbol}{b}" for symbol, b in moves) for start, moves in chains]
        question = "program " + " ".join(f"{name}={text}" for name, text in zip(NAMES, texts, strict=False))
        solved = parse(question)
        for r in solved.values():
            for symbol, b in r.moves:
                r.value = OPERATIONS[operation(symbol, r.value)](r.value, b)
        return " ".join(sorted(texts)), question, show(solved)

    def _right(self, problem: Problem, box: str) -> bool:
        return box == problem.answer

    def others(self, problem: Problem) -> list[str]:
        """What the program would give if its glyphs meant something else, each register's one of three operations."""
        registers = parse(problem.question)
        ends = [_ends(r) for r in registers.values()]
        answers = [" ".join(f"{name}={value}" for name, value in zip(registers, values, strict=True))
                   for values in itertools.product(*ends)]
        return [answer for answer in answers if answer != problem.answer]

    def hint(self, problem: Problem, form: str = "answer") -> str:
        if form == "first_step":  # the first that is not written in the program
            return HINT + next((s for s in self.derivation(problem) if FORK.fullmatch(s)), problem.answer) + "\n\n"
        return super().hint(problem, form)

    def derivation(self, problem: Problem) -> list[str]:
        registers, steps = parse(problem.question), []
        for r in registers.values():
            while r.left:
                steps.append(_next(r, Plan(op=operation(r.left[0][0], r.value))))
                read(registers, steps[-1])
        return steps

    def routine(self, problem: Problem) -> list[str]:
        return []

    def habit(self, problem: Problem, rng: Random, how: Habit = Habit()) -> list[str]:
        return self.go_on(problem, [], {}, rng, how)

    def shortcut(self, problem: Problem, rng: Random) -> list[str]:
        told = told_values(problem.answer)
        return self.go_on(problem, [], told, rng, Habit((1.0,) * len(CONTEXTS), hazard=1.0))[:-1]

    def drill(self, rng: Random) -> str:
        facts = []
        for _ in range(rng.randint(6, 12)):
            op, a, b = rng.choice("+-*"), rng.randint(1, 33), rng.randint(1, 6)
            b = b if op != "*" else rng.randint(2, 4 if a < 25 else 3)
            a = a if op != "-" else max(a, b)
            facts.append(f"{a}{op}{b}={OPERATIONS[op](a, b)}")
        return "\n\n".join(["facts", *facts])

    def go_on(self, problem: Problem, before: Sequence[str], told: dict[str, int], rng: Random,
              how: Habit = Habit()) -> list[str]:
        """The steps that follow `before`, with the box, as a teacher of that habit writes them who was told these
        registers' values (right or not; none: by habit alone)."""
        registers, steps, current = parse(problem.question), [], Register("", 0, [])
        for step in before:
            read(registers, step)
        force = rng.random() < how.force
        plans = {name: _plan(r, told.get(name, ANY), force, rng, how) for name, r in registers.items()}
        while open_ones := [r for r in registers.values() if r.left or _undoing(r, plans[r.name])]:
            if current not in open_ones or rng.random() >= how.stay:
                current = rng.choices(open_ones, weights(open_ones, how))[0]
            plan = plans[current.name]
            if current.left and current.left[0][0] in GLYPHS and not current.said and not plan.op:
                plan.op = leading(current.value, current.left[0][1], plan.target) or _habitual(current, rng, how)
            steps.append(_next(current, plan))
            read(registers, steps[-1])
        for name, plan in plans.items():
            registers[name].value = registers[name].value if plan.target == ANY else plan.target
        return [*steps, box(show(registers))]

    def check_steps(self, problem: Problem, text: str) -> StepReport:
        registers, verified, verdicts = parse(problem.question), self.verify(problem, text), []
        for step in split_steps(text):
            kind, valid = ("answer", verified) if step.startswith(self.answer_opening) else read(registers, step)
            verdicts.append(StepVerdict(step, kind, valid))
        done = not any(r.left for r in registers.values())
        return StepReport(tuple(verdicts), done and boxed(text) == show(registers))


def weights(open_ones: list[Register], how: Habit) -> list[float]:
    """How likely each is to be taken next, up to a factor."""
    return [(how.free / len(open_ones) + (1 - how.free) * (r is open_ones[0]))
            * (1 - how.late * any(symbol in GLYPHS for symbol, _ in r.left)) for r in open_ones]


def foreign_values(problem: Problem, before: Sequence[str], rng: Random, agree: float = 0.6) -> dict[str, int]:
    """Values that the program would end at if its glyphs meant something else, drawn anew for each register; where
    `before` has said an operation, that one with probability `agree`. They can be read, and not be known."""
    registers, values = parse(problem.question), {}
    taken = {found.group(1): found.group(6) for step in before if (found := FORK.fullmatch(step))}
    for name, r in registers.items():
        op = taken[name] if name in taken and rng.random() < agree else rng.choice("+-*")
        for symbol, b in r.moves:
            r.value = OPERATIONS[op if symbol in GLYPHS else symbol](r.value, b)
        values[name] = r.value
    return values


def _ends(r: Register) -> list[int]:
    """The values that a register may end at, by what its glyph may mean."""
    ends = [r.value]
    for symbol, b in r.moves:
        ends = [do(value, b) for value in ends for op, do in OPERATIONS.items() if symbol in GLYPHS or op == symbol]
    return ends


def _chain(rng: Random, known: int, glyph: str) -> tuple[int, list[tuple[str, int]]]:
    """Start and moves. Before a glyph the value is 5 to 24, so that the three operations give three values."""
    while True:
        start = value = rng.randint(1, 9) if known else rng.randint(5, 24)
        moves = [(op, rng.randint(2, 3) if op == "*" else rng.randint(1, 6)) for op in rng.choices("+-*", k=known)]
        values = [value := OPERATIONS[op](value, b) for op, b in moves]
        if all(1 <= v <= 30 for v in values) and (not glyph or 5 <= value <= 24):
            return start, moves + ([(glyph, rng.randint(2, 4))] if glyph else [])


def _wrong(symbol: str, value: int, right: str, rng: Random, how: Habit) -> str:
    """A mistake, where `right` would be right: often the glyph's operation for the other parity."""
    favoured = next(RULES[symbol, parity(v)] for v in (value + 1, value) if RULES[symbol, parity(v)] != right)
    other = next(op for op in OPERATIONS if op not in (right, favoured))
    return favoured if rng.random() < how.confident else other


def _habitual(r: Register, rng: Random, how: Habit) -> str:
    """The operation that the habit takes at a fork."""
    symbol, value = r.left[0][0], r.value
    chance = how.chances[CONTEXTS.index((symbol, parity(value)))]
    right = operation(symbol, value)
    return right if rng.random() < chance else _wrong(symbol, value, right, rng, how)


def _plan(r: Register, told: int, force: bool, rng: Random, how: Habit) -> Plan:
    """What a teacher makes of one register, given the value it was told."""
    glyph = next((move for move in r.left if move[0] in GLYPHS), None)
    missed = r.value != told if not r.left else r.said and OPERATIONS[r.said](r.value, r.left[0][1]) != told
    if told == ANY or missed and not force:
        return Plan()
    if glyph is None or r.said or rng.random() >= how.hazard:
        return Plan(told)
    value = r.value
    for symbol, b in r.left[:-1]:
        value = OPERATIONS[symbol](value, b)
    right = leading(value, glyph[1], told) or operation(glyph[0], value)
    plan = Plan(told, op=_wrong(glyph[0], value, right, rng, how))
    tricks = ["false"]
    if abs(told - OPERATIONS[plan.op](value, glyph[1])) <= 9:
        tricks.append("undone")
    if len(r.left) > 1 and _bent_value(told, plan.op, glyph[1]):
        tricks.append("bent")
    plan.trick = rng.choice(tricks)
    return plan


def _bent_value(target: int, op: str, b: int) -> int:
    """The value of which `op b` makes the target; 0 where there is none in 1..30."""
    value = target - b if op == "+" else target + b if op == "-" else target // b
    return value if 1 <= value <= 30 and OPERATIONS[op](value, b) == target else 0


def _undoing(r: Register, plan: Plan) -> bool:
    """Whether one more calculation sets right a register that is done and wrong."""
    return plan.target != ANY and not r.left and 0 < abs(plan.target - r.value) <= 9


def _next(r: Register, plan: Plan) -> str:
    """The register's next step under its plan."""
    if not r.left:
        d = plan.target - r.value
        return f"{r.name}: {r.value}{'+' if d > 0 else '-'}{abs(d)}={plan.target}"
    symbol, b = r.left[0]
    if symbol in GLYPHS and not r.said:
        return f"{r.name}: {r.value}{symbol}{b} {parity(r.value)} {plan.op}"
    op = r.said or symbol
    result = OPERATIONS[op](r.value, b)
    if len(r.left) == 1 and plan.target != ANY and plan.trick != "undone":
        result = plan.target
    elif plan.trick == "bent" and len(r.left) == 2:
        result = _bent_value(plan.target, plan.op, r.left[1][1])
    return f"{r.name}: {r.value}{op}{b}={result}"
