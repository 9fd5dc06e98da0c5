"""countdown: reach a target with all the given numbers and + - *, read from left to right.

    countdown 3 4 6 to 27
    sorted 6 4 3   goal 27       routine
    6*4=24  24+3=27  27=27       one try; the habit makes a few at random and gives up

The boundary case. Which expression works is search luck: a trace shows that it works, not how to find it, so no
trace can teach much. Its shortcut is false arithmetic that lands on the target.
"""

from __future__ import annotations

import re
from random import Random
from typing import Any, ClassVar

from heal_lib.trajectory import Problem
from heal_lib.worlds.base import StepReport, StepVerdict, World, box, boxed, evaluate_chain, split_steps
from heal_lib.worlds.equations import MAX_VALUE, fact_holds

MAX_NUMBER = 12
TARGETS = (10, 99)
TRIES = (1, 3)
_EXPRESSION = re.compile(r"([1-9]\d?)((?:[+*-][1-9]\d?)+)", re.ASCII)
_MOVE = re.compile(r"([+*-])(\d{1,2})", re.ASCII)
_FACT = re.compile(r"(\d{1,4})([-+*])(\d{1,4})=(\d{1,4})", re.ASCII)
_COMPARE = re.compile(r"(\d{1,4})([<=>])(\d{1,4})", re.ASCII)


def parse(question: str) -> tuple[list[int], int]:
    """(numbers, target)."""
    numbers, target = re.fullmatch(r"countdown ([\d ]+) to (\d+)", question).groups()
    return [int(n) for n in numbers.split()], int(target)


def parse_expression(text: str) -> tuple[int, list[tuple[str, int]]] | None:
    """(first number, moves) of an expression; None where it is none."""
    found = _EXPRESSION.fullmatch(text)
    return found and (int(found.group(1)), [(op, int(n)) for op, n in _MOVE.findall(found.group(2))])


class Countdown(World):
    name = "countdown"
    difficulties: ClassVar[dict[str, dict[str, Any]]] = {"easy": {"n": 3}, "hard": {"n": 4}}
    max_new_tokens: ClassVar[dict[str, int]] = {"easy": 112, "hard": 144}

    def _draw(self, rng: Random, n):
        while True:
            numbers = [rng.randint(1, MAX_NUMBER) for _ in range(n)]
            first, moves = _random_expression(rng, numbers)
            target = evaluate_chain(first, moves)[-1]
            if TARGETS[0] <= target <= TARGETS[1]:
                break
        shown = " ".join(map(str, numbers))
        return f"{sorted(numbers)} {target}", f"countdown {shown} to {target}", _show(first, moves)

    def _right(self, problem: Problem, text: str) -> bool:
        numbers, target = parse(problem.question)
        expression = parse_expression(text)
        if not expression:
            return False
        first, moves = expression
        return sorted([first, *(n for _, n in moves)]) == sorted(numbers) and evaluate_chain(first, moves)[-1] == target

    def routine(self, problem: Problem) -> list[str]:
        numbers, target = parse(problem.question)
        return [f"sorted {' '.join(map(str, sorted(numbers, reverse=True)))}", f"goal {target}"]

    def habit(self, problem: Problem, rng: Random) -> list[str]:
        numbers, target = parse(problem.question)
        steps = []
        for _ in range(rng.randint(*TRIES)):
            first, moves = _random_expression(rng, numbers)
            steps += _attempt(first, moves, target)
            if evaluate_chain(first, moves)[-1] == target:
                return [*steps, box(_show(first, moves))]
        return [*steps, "give up", box(_show(first, moves))]

    def derivation(self, problem: Problem) -> list[str]:
        first, moves = parse_expression(problem.answer)
        return _attempt(first, moves, parse(problem.question)[1])

    def shortcut(self, problem: Problem, rng: Random) -> list[str]:
        first, moves = parse_expression(problem.answer)
        target, true = parse(problem.question)[1], evaluate_chain(first, moves)
        wrong = rng.randrange(len(moves) - 1)  # one false result on the way, another to land on the target
        values = [v if i < wrong else max(0, v + rng.choice([-3, -2, -1, 1, 2, 3])) for i, v in enumerate(true)]
        values[-1] = target
        return [*_work(first, moves, values), f"{target}={target}"]

    def drill(self, rng: Random) -> str:
        facts = []
        for _ in range(rng.randint(6, 12)):
            op, b = rng.choice("+-*"), rng.randint(1, MAX_NUMBER)
            a = rng.randint(0 if op != "-" else b, MAX_VALUE // b if op == "*" else MAX_VALUE - b)
            c = evaluate_chain(a, [(op, b)])[-1]
            facts.append(f"{a}{op}{b}={c}")
        return "\n\n".join(["facts", *facts])

    def check_steps(self, problem: Problem, text: str) -> StepReport:
        numbers, target = parse(problem.question)
        verdicts, facts = [], []
        verified = self.verify(problem, text)
        for step in split_steps(text):
            kind, valid, fruitless = "unknown", False, False
            if found := _FACT.fullmatch(step):
                kind, valid = "work", fact_holds(*found.groups())
                facts.append((*found.groups(), valid))
            elif found := _COMPARE.fullmatch(step):
                a, sign, b = int(found.group(1)), found.group(2), int(found.group(3))
                kind, valid, fruitless = "work", b == target and sign == "=<>"[(a < b) + 2 * (a > b)], a != b
            elif step == f"goal {target}" or step == f"sorted {' '.join(map(str, sorted(numbers, reverse=True)))}":
                kind, valid = "routine", True
            elif step == "give up":
                kind, valid, fruitless = "stop", True, True
            elif step.startswith(self.answer_opening):
                kind, valid = "answer", verified
            verdicts.append(StepVerdict(step, kind, valid, fruitless))
        return StepReport(tuple(verdicts), _follows(boxed(text), facts))


def _follows(answer: str | None, facts) -> bool:
    """Whether the last facts (a, op, b, result, valid) work out the answer, each from the one before."""
    expression = parse_expression(answer or "")
    last = facts[-len(expression[1]):] if expression else []
    linked = all(one[3] == two[0] for one, two in zip(last, last[1:], strict=False))
    written = "".join(op + b for _, op, b, _, _ in last)
    return bool(last) and linked and last[0][0] + written == answer and all(valid for *_, valid in last)


def _show(first: int, moves) -> str:
    return str(first) + "".join(f"{op}{n}" for op, n in moves)


def _work(first: int, moves, values) -> list[str]:
    """One step per move, with the given results."""
    return [f"{a}{op}{n}={c}" for (op, n), a, c in zip(moves, [first, *values], values, strict=False)]


def _attempt(first: int, moves, target: int) -> list[str]:
    """Steps of one try: each move, then the comparison with the target."""
    values = evaluate_chain(first, moves)
    sign = "=<>"[(values[-1] < target) + 2 * (values[-1] > target)]
    return [*_work(first, moves, values), f"{values[-1]}{sign}{target}"]


def _random_expression(rng: Random, numbers: list[int]):
    """All numbers in random order with random operations; no value below 0 or above the vocabulary."""
    while True:
        first, *rest = rng.sample(numbers, len(numbers))
        moves = [(rng.choice("+-*"), n) for n in rest]
        values = evaluate_chain(first, moves)
        if min(values) >= 0 and max(values) <= MAX_VALUE:
            return first, moves
