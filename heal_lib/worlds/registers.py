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

import re
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from heal_lib.trajectory import Problem, split_steps
from heal_lib.worlds.base import HINT, StepReport, StepVerdict, World, box, boxed

NAMES, GLYPHS, PARITIES = "ABCD", "kmqw", ("even", "odd")
OPERATIONS = {"+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b}
CONTEXTS = [(glyph, parity) for glyph in GLYPHS for parity in PARITIES]
RULES = dict(zip(CONTEXTS, "*+-*+-*-", strict=True))  # the secret: what a glyph does to an even or odd value
MAX_VALUE = 99
ANY = -1  # no value to end at
_REGISTER = re.compile(r"([A-D])=([1-9]?\d)((?:[-+*kmqw]\d)+)", re.ASCII)
_MOVE = re.compile(r"([-+*kmqw])(\d)", re.ASCII)
_WORK = re.compile(r"([A-D]): ([1-9]?\d)([-+*])(\d)=([1-9]?\d)", re.ASCII)
_FORK = re.compile(r"([A-D]): ([1-9]?\d)([kmqw])(\d) (even|odd) ([-+*])", re.ASCII)


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
class Register:
    """Where a text stands with one register: its value, how many moves are done, the operation said for the glyph."""

    name: str
    value: int
    moves: list[tuple[str, int]]
    at: int = 0
    said: str = ""
    broken: bool = False  # a wrong step was made

    @property
    def left(self) -> list[tuple[str, int]]:
        return self.moves[self.at:]


@dataclass
class Plan:
    """What is to become of one register: the value to end at (or ANY), by which trick, by which operation."""

    target: int = ANY
    trick: str = ""
    op: str = ""


def parse(question: str) -> dict[str, Register]:
    """The registers of a program, by name."""
    return {name: Register(name, int(start), [(move, int(b)) for move, b in _MOVE.findall(chain)])
            for name, start, chain in _REGISTER.findall(question)}


def parity(value: int) -> str:
    """even or odd."""
    return PARITIES[value % 2]


def operation(symbol: str, value: int) -> str:
    """What a symbol of a program does to that value."""
    return symbol if symbol in OPERATIONS else RULES[symbol, parity(value)]


def read(registers: dict[str, Register], step: str) -> tuple[str, bool]:
    """(kind, valid) of a step that is no box; the registers are changed as it says, right or wrong."""
    found = _FORK.fullmatch(step) or _WORK.fullmatch(step)
    r = registers.get(found.group(1)) if found else None
    if r is None:
        return "unknown", False
    _, value, symbol, operand, *_ = found.groups()
    due, valid = next(iter(r.left), None), int(value) == r.value
    if found.re is _FORK:
        says, r.said = found.groups()[4:]
        valid = valid and due == (symbol, int(operand)) and (says, r.said) == (parity(r.value),
                                                                               RULES[symbol, parity(r.value)])
        kind = "derive"
    else:
        kind, named = ("work", (r.said, due[1])) if due and due[0] in GLYPHS else ("routine", due)
        valid = valid and named == (symbol, int(operand))
        valid = valid and OPERATIONS[symbol](int(value), int(operand)) == int(found.group(5))
        r.value, r.at, r.said = int(found.group(5)), min(r.at + 1, len(r.moves)), ""
    r.broken = r.broken or not valid
    return kind, valid


class Registers(World):
    name, family = "registers", "registers"
    difficulties = {
        "easy": {"registers": (2, 2), "forks": (1, 1), "glyphs": "km", "known": (1, 3)},
        "medium": {"registers": (3, 3), "forks": (2, 2), "glyphs": "kmq", "known": (1, 3)},
        "hard": {"registers": (3, 4), "forks": (2, 3), "glyphs": GLYPHS, "known": (2, 4)},
    }
    max_new_tokens = {"easy": 96, "medium": 144, "hard": 224}

    def _draw(self, rng: Random, registers, forks, glyphs, known):
        n = rng.randint(*registers)
        forked = rng.sample(range(n), min(n, rng.randint(*forks)))
        chains = [_chain(rng, rng.randint(*known), rng.choice(glyphs) if i in forked else "") for i in range(n)]
        texts = [f"{start}" + "".join(f"{symbol}{b}" for symbol, b in moves) for start, moves in chains]
        question = "program " + " ".join(f"{name}={text}" for name, text in zip(NAMES, texts, strict=False))
        return " ".join(sorted(texts)), question, _show(parse(question), solve=True)

    def _right(self, problem: Problem, box: str) -> bool:
        return box == problem.answer

    def hint(self, problem: Problem, form: str = "answer") -> str:
        if form == "first_step":  # the first that is not written in the program
            return HINT + next((s for s in self.derivation(problem) if _FORK.fullmatch(s)), problem.answer) + "\n\n"
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
                plan.op = _told_operation(current, plan.target) or _habitual(current, rng, how)
            steps.append(_next(current, plan))
            read(registers, steps[-1])
        for name, plan in plans.items():
            registers[name].value = registers[name].value if plan.target == ANY else plan.target
        return [*steps, box(_show(registers))]

    def check_steps(self, problem: Problem, text: str) -> StepReport:
        registers, verified, verdicts = parse(problem.question), self.verify(problem, text), []
        for step in split_steps(text):
            kind, valid = ("answer", verified) if step.startswith(self.answer_opening) else read(registers, step)
            verdicts.append(StepVerdict(step, kind, valid))
        done = not any(r.left for r in registers.values())
        return StepReport(tuple(verdicts), done and boxed(text) == _show(registers))


def weights(open_ones: list[Register], how: Habit) -> list[float]:
    """How likely each is to be taken next, up to a factor."""
    return [(how.free / len(open_ones) + (1 - how.free) * (r is open_ones[0]))
            * (1 - how.late * any(symbol in GLYPHS for symbol, _ in r.left)) for r in open_ones]


def told_values(answer: str) -> dict[str, int]:
    """"A=64 B=7" as numbers by register."""
    return {name: int(value) for name, value in (part.split("=") for part in answer.split())}


def _show(registers: dict[str, Register], solve: bool = False) -> str:
    for r in registers.values() if solve else ():
        for symbol, b in r.moves:
            r.value = OPERATIONS[operation(symbol, r.value)](r.value, b)
    return " ".join(f"{name}={r.value}" for name, r in registers.items())


def _chain(rng: Random, known: int, glyph: str) -> tuple[int, list[tuple[str, int]]]:
    """Start and moves. Before a glyph the value is 5 to 24, so that the three operations give three values."""
    while True:
        start = value = rng.randint(1, 9) if known else rng.randint(5, 24)
        moves = [(op, rng.randint(2, 3) if op == "*" else rng.randint(1, 6)) for op in rng.choices("+-*", k=known)]
        values = [value := OPERATIONS[op](value, b) for op, b in moves]
        if all(1 <= v <= 30 for v in values) and (not glyph or 5 <= value <= 24):
            return start, moves + ([(glyph, rng.randint(2, 4))] if glyph else [])


def _told_operation(r: Register, target: int) -> str:
    """The operation that leads to the target, "" where none does."""
    return next((op for op, do in OPERATIONS.items() if do(r.value, r.left[0][1]) == target), "")


def _favoured(symbol: str, value: int) -> str:
    """The usual mistake: the glyph's operation for the other parity."""
    return RULES[symbol, parity(value + 1)]


def _wrong(symbol: str, value: int, rng: Random, how: Habit) -> str:
    right, favoured = operation(symbol, value), _favoured(symbol, value)
    other = next(op for op in OPERATIONS if op not in (right, favoured))
    return favoured if rng.random() < how.confident else other


def _habitual(r: Register, rng: Random, how: Habit) -> str:
    """The operation that the habit takes at a fork."""
    symbol, value = r.left[0][0], r.value
    chance = how.chances[CONTEXTS.index((symbol, parity(value)))]
    return operation(symbol, value) if rng.random() < chance else _wrong(symbol, value, rng, how)


def _plan(r: Register, told: int, force: bool, rng: Random, how: Habit) -> Plan:
    """What a teacher makes of one register, given the value it was told."""
    glyph = next((move for move in r.left if move[0] in GLYPHS), None)
    if told == ANY or (r.broken or r.said and not _lands(r, told)) and not force:
        return Plan()
    if glyph is None or r.said or r.broken or rng.random() >= how.hazard:
        return Plan(told)
    value = r.value
    for symbol, b in r.left[:-1]:
        value = OPERATIONS[symbol](value, b)
    plan = Plan(told, op=_wrong(glyph[0], value, rng, how))
    tricks = ["false"]
    if abs(told - OPERATIONS[plan.op](value, glyph[1])) <= 9:
        tricks.append("undone")
    if len(r.left) > 1 and _bent_value(told, plan.op, glyph[1]):
        tricks.append("bent")
    plan.trick = rng.choice(tricks)
    return plan


def _lands(r: Register, target: int) -> bool:
    return OPERATIONS[r.said](r.value, r.left[0][1]) == target


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
