"""equations: x through a chain of small operations gives e; find x.

    equation x*3+4-2*2=46        read from left to right, no precedence
    +4-2:+2                      routine: collect neighbouring terms
    x*3+2*2=46                   routine: the collected form
    46/2=23  23-2=21  21/3=7     a derivation undoes the operations from the right
    try 7  7*3=21 ... 46=46      the habit guesses small numbers and checks

The habit finds small answers only. A shortcut "tries" the known answer at once: it verifies, and teaches nothing.
"""

from __future__ import annotations

import re
from random import Random
from typing import Any, ClassVar

from heal_lib.trajectory import Problem
from heal_lib.worlds.base import StepReport, StepVerdict, World, box, boxed, evaluate_chain, split_steps

MAX_VALUE = 149
FIRST_GUESS = 15  # the habit's first guess is uniform in 1..15
GUESSES = (2, 3)  # ... and it makes 2 or 3 of them, each 1..3 away from the last
_MOVE = re.compile(r"([+*-])(\d+)", re.ASCII)
_EQUATION = re.compile(r"(?:equation )?x((?:[+*-]\d+)+)=(\d+)", re.ASCII)
_FACT = re.compile(r"(\d{1,4})([-+*/])(\d{1,4})=(\d{1,4})", re.ASCII)
_COLLECT = re.compile(r"([+-]\d{1,4})([+-]\d{1,4}):([+-]\d{1,4})", re.ASCII)
_COMPARE = re.compile(r"(\d{1,4})([<=>])(\d{1,4})", re.ASCII)
_BEYOND = re.compile(r"(\d{1,4})([+*-])(\d{1,4})([<>])(\d{1,4})", re.ASCII)
_TRY = re.compile(r"try (\d{1,4})", re.ASCII)
UNDO = {"+": "-", "-": "+", "*": "/"}


def parse(text: str) -> tuple[list[tuple[str, int]], int]:
    """(moves, e) of an equation's text."""
    chain, e = _EQUATION.fullmatch(text).groups()
    return [(op, int(a)) for op, a in _MOVE.findall(chain)], int(e)


def collect(moves: list[tuple[str, int]]) -> tuple[list[tuple[str, int]], list[str]]:
    """Joins neighbouring + and - terms. Returns the collected moves and the steps that say so."""
    done, steps = [], []
    for op, a in moves:
        if op != "*" and done and done[-1][0] != "*":
            last_op, last = done.pop()
            total = (last if last_op == "+" else -last) + (a if op == "+" else -a)
            steps.append(f"{last_op}{last}{op}{a}:{total:+d}")
            op, a = ("+" if total >= 0 else "-"), abs(total)
        done.append((op, a))
    return done, steps


def show(moves: list[tuple[str, int]], e: int) -> str:
    """The equation's text."""
    return "x" + "".join(f"{op}{a}" for op, a in moves) + f"={e}"


def fact_holds(a: str, op: str, b: str, c: str) -> bool:
    """Whether a op b = c, exactly, in integers."""
    x, y, z = int(a), int(b), int(c)
    return {"+": x + y == z, "-": x - y == z, "*": x * y == z, "/": y != 0 and z * y == x}[op]


class Equations(World):
    name = "equations"
    difficulties: ClassVar[dict[str, dict[str, Any]]] = {
        "easy": {"n_moves": (2, 2), "n_splits": (1, 1), "max_x": 20},
        "hard": {"n_moves": (3, 3), "n_splits": (1, 2), "max_x": 49},
    }
    shortcut_pattern = r"(?m)^(\d+)=\1$"  # a try that fits, "46=46"
    max_new_tokens: ClassVar[dict[str, int]] = {"easy": 128, "hard": 144}

    def _draw(self, rng: Random, n_moves, n_splits, max_x):
        x = rng.randint(1, max_x)
        while True:
            moves = _random_moves(rng, rng.randint(*n_moves))
            values = evaluate_chain(x, moves)
            if _in_range(x, moves) and values[-1] >= 1:
                break
        canonical = show(moves, values[-1])
        return canonical, "equation " + show(_split_terms(rng, moves, rng.randint(*n_splits)), values[-1]), str(x)

    def _right(self, problem: Problem, text: str) -> bool:
        if not re.fullmatch(r"[1-9][0-9]?", text, re.ASCII):
            return False
        moves, e = parse(problem.question)
        return evaluate_chain(int(text), moves)[-1] == e

    def others(self, problem: Problem) -> list[str]:
        return [str(x) for x in range(1, 100) if str(x) != problem.answer]

    def routine(self, problem: Problem) -> list[str]:
        moves, e = parse(problem.question)
        collected, steps = collect(moves)
        return [*steps, show(collected, e)]

    def habit(self, problem: Problem, rng: Random) -> list[str]:
        moves, e = parse(problem.question)
        moves, _ = collect(moves)
        guess, steps = rng.randint(1, FIRST_GUESS), []
        for _ in range(rng.randint(*GUESSES)):
            steps += _attempt(guess, moves, e)
            last, value = guess, evaluate_chain(guess, moves)[-1]
            if value == e:
                return [*steps, box(str(guess))]
            guess = max(1, guess + rng.randint(1, 3) * (1 if value < e else -1))
        return [*steps, "give up", box(str(last))]

    def derivation(self, problem: Problem) -> list[str]:
        moves, value = parse(problem.question)
        steps = []
        for op, a in reversed(collect(moves)[0]):
            before = value // a if op == "*" else value - a if op == "+" else value + a
            steps.append(f"{value}{UNDO[op]}{a}={before}")
            value = before
        return steps

    def shortcut(self, problem: Problem, rng: Random) -> list[str]:
        moves, e = parse(problem.question)
        return _attempt(int(problem.answer), collect(moves)[0], e)

    def drill(self, rng: Random) -> str:
        facts = []
        for _ in range(rng.randint(6, 12)):
            op, c = rng.choice("+-*/"), rng.randint(1, MAX_VALUE)
            b = rng.randint(1, 9) if op in "+-" else rng.randint(2, 4)
            if rng.random() < 0.15:
                terms = [(rng.choice("+-"), rng.randint(1, 9)) for _ in range(2)]
                facts += collect(terms)[1]
            elif op == "+":
                facts.append(f"{max(c - b, 0)}+{b}={max(c - b, 0) + b}")
            elif op == "-":
                facts.append(f"{c}-{min(b, c)}={c - min(b, c)}")
            else:
                a = max(1, c // b)
                facts.append(f"{a}*{b}={a * b}" if op == "*" else f"{a * b}/{b}={a}")
        return "\n\n".join(["facts", *facts])

    def check_steps(self, problem: Problem, text: str) -> StepReport:
        moves, e = parse(problem.question)
        collected, openings = collect(moves)
        guess, undone, value, verdicts, answer = None, 0, e, [], boxed(text)
        verified = self.verify(problem, text)
        for step in split_steps(text):
            kind, valid, fruitless = "unknown", False, False
            if found := _FACT.fullmatch(step):
                a, op, b, c = found.groups()
                kind, valid = "work", fact_holds(a, op, b, c)
                left = collected[: len(collected) - undone]
                if left and int(a) == value and (op, int(b)) == (UNDO[left[-1][0]], left[-1][1]):
                    kind, value, undone = "derive", int(c), undone + 1
                else:
                    fruitless = str(guess) != problem.answer
            elif found := _TRY.fullmatch(step):
                guess = int(found.group(1))
                kind, valid, fruitless = "try", 1 <= guess <= 99, found.group(1) != problem.answer
            elif found := _COMPARE.fullmatch(step):
                a, sign, b = int(found.group(1)), found.group(2), int(found.group(3))
                kind, valid, fruitless = "work", b == e and sign == "=<>"[(a < b) + 2 * (a > b)], a != b
            elif found := _BEYOND.fullmatch(step):
                a, op, b, sign, bound = found.groups()
                result = evaluate_chain(int(a), [(op, int(b))])[0]
                kind, valid, fruitless = "work", result < int(bound) if sign == "<" else result > int(bound), True
            elif found := _COLLECT.fullmatch(step):
                kind, valid = "routine", step in openings
            elif _EQUATION.fullmatch(step):
                kind, valid = "routine", step == show(collected, e)
            elif step == "give up":
                kind, valid, fruitless = "stop", True, True
            elif step.startswith(self.answer_opening):
                kind, valid = "answer", verified
            verdicts.append(StepVerdict(step, kind, valid, fruitless))
        derived = undone == len(collected) and answer == str(value)
        return StepReport(tuple(verdicts), derived)


def _attempt(guess: int, moves, e: int) -> list[str]:
    """Steps that try one number: the guess, each operation forwards, the comparison.

    Ends where a value is below 0 ("3-5<0") or beyond what the vocabulary can write ("39*4>149")."""
    steps, value = [f"try {guess}"], guess
    for (op, a), after in zip(moves, evaluate_chain(guess, moves), strict=True):
        if not 0 <= after <= MAX_VALUE:
            return [*steps, f"{value}{op}{a}" + ("<0" if after < 0 else f">{MAX_VALUE}")]
        steps.append(f"{value}{op}{a}={after}")
        value = after
    return [*steps, f"{value}{'=<>'[(value < e) + 2 * (value > e)]}{e}"]


def _in_range(x: int, moves) -> bool:
    """Whether every value on the way is one the vocabulary can write."""
    values = evaluate_chain(x, moves)
    return min(values) >= 0 and max(values) <= MAX_VALUE


def _random_moves(rng: Random, n: int) -> list[tuple[str, int]]:
    """n moves, no two + or - beside each other (they would be collected)."""
    moves = []
    for _ in range(n):
        if moves and moves[-1][0] != "*" or rng.random() < 0.4:
            moves.append(("*", rng.randint(2, 4)))
        else:
            moves.append((rng.choice("+-"), rng.randint(1, 9)))
    return moves


def _split_terms(rng: Random, moves, n: int) -> list[tuple[str, int]]:
    """Writes some + or - terms as two, which the solver has to collect; adds up to the same moves."""
    additive = [i for i, (op, _) in enumerate(moves) if op != "*"]
    chosen, out = set(rng.sample(additive, min(n, len(additive)))), []
    for i, (op, a) in enumerate(moves):
        if i not in chosen:
            out.append((op, a))
            continue
        total = a if op == "+" else -a
        first = rng.choice([t for t in range(-9, 10) if t and t != total and abs(total - t) <= 9])
        out += [("+" if t > 0 else "-", abs(t)) for t in (first, total - first)]
    return out
