"""stories: word problems of one to four small operations, for a pretrained model on a laptop.

    Anna has 4 boxes with 6 pens in each. She gives 5 pens to a friend. How many pens does Anna have now?
    4 * 6 = 24. 24 - 5 = 19. The answer is 19.

Two stories with the same numbers and operations are one problem, whatever they are about. The oracle is the calculator:
every calculation must be right, and the answer must come of the numbers of the question, each used once, in any order.
A derivation in words alone counts as none."""

from __future__ import annotations

import re
from random import Random
from typing import Any, ClassVar

from heal_lib.trajectory import Problem
from heal_lib.worlds import calculator
from heal_lib.worlds.base import StepReport, evaluate_chain
from heal_lib.worlds.prose import Prose, spoken, stated

LARGEST = 100  # of all values on the way
NAMES = {"He": ("Tom", "Ben", "Omar", "Luis", "Jack", "Ravi", "Paul", "Sam"),
         "She": ("Anna", "Mia", "Lena", "Aisha", "Kate", "Rosa", "Emma", "Yuki")}
THINGS = ("apples", "pens", "books", "marbles", "stamps", "cards", "eggs", "shells", "cookies", "coins", "stickers",
          "beads")
HOLDERS = ("boxes", "bags", "baskets", "jars")
_SENTENCES = re.compile(r"(?<=[.?]) ")
# What happens, by operation. "*" and "/" in the second table end a story, for they change what is counted.
START = ("{name} has {n} {things}.", "{name} starts the day with {n} {things}.",
         "There are {n} {things} on {name}'s table.")
BOXES = ("{name} has {n} {holders} with {m} {things} in each.", "{name} fills {n} {holders} with {m} {things} each.")
EVENTS = {
    "+": ("{He} buys {n} more.", "{He} finds {n} more {things}.", "A friend brings {n} more {things}.",
          "Later {he} gets another {n} {things}."),
    "-": ("{He} gives {n} {things} to a friend.", "{He} loses {n} of them.", "{He} sells {n} {things}.",
          "Then {n} {things} are taken away."),
}
ENDS = {
    "*": ("Each one is worth {n} dollars. How many dollars are all of them worth?",
          "The next week {he} has {n} times as many. How many {things} does {name} have then?"),
    "/": ("{He} shares them equally among {n} people. How many {things} does each person get?",
          "{He} packs them into bags of {n}. How many bags are there?"),
    "": ("How many {things} are there now?", "How many {things} does {name} have now?"),
}
# The same sentences, to be recognised: a question tells its operations.
_SIGNS = [(sign, re.compile(re.sub(r"\\\{\w+\\\}", r"\\w+", re.escape(_SENTENCES.split(text)[0]))))
          for sign, texts in [*EVENTS.items(), ("*", ENDS["*"]), ("/", ENDS["/"])] for text in texts]


class Stories(Prose):
    name = "stories"
    difficulties: ClassVar[dict[str, dict[str, Any]]] = {
        word: {"n": i} for i, word in enumerate(("one", "two", "three", "four"), 1)}
    max_new_tokens: ClassVar[dict[str, int]] = {"one": 128, "two": 192, "three": 256, "four": 256}
    answer_opening = "The answer is "

    def _draw(self, rng: Random, n):
        while True:
            start, moves, boxes = _chain(rng, n)
            values = [start, *evaluate_chain(start, [move for move in moves if move[0] != "/"])]
            if moves[-1][0] == "/" and values[-1] % moves[-1][1] == 0:
                values.append(values[-1] // moves[-1][1])
            if len(values) == n + 1 and all(2 <= value <= LARGEST for value in values):
                break
        chain = f"{start}" + "".join(f"{sign}{m}" for sign, m in moves)
        return chain, _tell(rng, start, moves, boxes), str(values[-1])

    def prompt(self, problem: Problem) -> str:
        return problem.question

    def verify(self, problem: Problem, text: str) -> bool:
        """The last number of the answer stated, or of a text that states none, is the right one."""
        said = stated(text)
        return self._right(problem, spoken(text) if said is None else said)

    def _right(self, problem: Problem, text: str) -> bool:
        numbers = re.findall(r"-?\d[\d,]*(?:\.\d+)?", text)
        return bool(numbers) and calculator.number(numbers[-1].rstrip(",")) == int(problem.answer)

    def routine(self, problem: Problem) -> list[str]:
        return []

    def derivation(self, problem: Problem) -> list[str]:
        value, *others = map(int, re.findall(r"\d+", problem.question))
        steps = []
        for sign, m in zip(signs(problem.question), others, strict=True):
            after = value // m if sign == "/" else evaluate_chain(value, [(sign, m)])[0]
            steps.append(f"{value} {sign} {m} = {after}.")
            value = after
        return steps

    def check_steps(self, problem: Problem, text: str) -> StepReport:
        return calculator.check(text, problem.answer, re.findall(r"\d+", problem.question))


def signs(question: str) -> list[str]:
    """The operations of a question, in order."""
    first, *rest = _SENTENCES.split(question)
    boxes = ["*"] * (len(re.findall(r"\d+", first)) - 1)
    return boxes + [next(sign for sign, sentence in _SIGNS if sentence.fullmatch(part))
                    for part in rest if re.search(r"\d", part)]


def _chain(rng: Random, n: int) -> tuple[int, list[tuple[str, int]], bool]:
    """(start, moves, whether the first move is boxes with so many in each)."""
    boxes = rng.random() < 0.25
    last = rng.choice("*/") if n > boxes and rng.random() < 0.3 else ""
    moves = [(rng.choice("+-"), rng.randint(2, 12)) for _ in range(n - boxes - bool(last))]
    if last:
        moves.append((last, rng.randint(2, 9)))
    if boxes:
        moves.insert(0, ("*", rng.randint(2, 9)))
    return rng.randint(2, 12 if boxes else 20), moves, boxes


def _tell(rng: Random, start: int, moves: list[tuple[str, int]], boxes: bool) -> str:
    pronoun = rng.choice(sorted(NAMES))
    words = {"name": rng.choice(NAMES[pronoun]), "He": pronoun, "he": pronoun.lower(), "things": rng.choice(THINGS),
             "holders": rng.choice(HOLDERS)}
    last = moves[-1] if moves[-1][0] in "*/" and len(moves) > boxes else ("", 0)
    between = moves[boxes : len(moves) - bool(last[0])]
    parts = [rng.choice(BOXES).format(n=start, m=moves[0][1], **words) if boxes
             else rng.choice(START).format(n=start, **words)]
    parts += [rng.choice(EVENTS[sign]).format(n=m, **words) for sign, m in between]
    return " ".join([*parts, rng.choice(ENDS[last[0]]).format(n=last[1], **words)])
