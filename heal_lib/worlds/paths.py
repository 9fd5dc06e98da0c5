"""paths: a directed tree given by its edges, a start and a target; find the path.

    path F>Z A>C A>E C>F C>G: A to Z
    goal Z                                     routine
    into Z: F>Z  into F: C>F  into C: A>C      a derivation chains backwards: each node has one predecessor
    from A: A>E  from E: none  back to A ...   the habit walks forwards at random and runs out of tries

Every step is one look-up of one edge, forwards or backwards, so that only the strategy tells them apart.
On the path every node has two successors, so a forward walk of six edges succeeds about once in thirty (the habit
sees the target when it is one edge away).
A shortcut states the known path and only then checks its edges.
"""

from __future__ import annotations

import re
import string
from random import Random
from typing import Any, ClassVar

from heal_lib.trajectory import Problem
from heal_lib.worlds.base import StepReport, StepVerdict, World, box, boxed, split_steps

WALKS = (1, 2)
BRANCHING = 2
DRILL_SIZES = (3, 4, 5, 6, 8, 10, 12, 16, 20)  # nodes; the small ones are what makes looking up learnable at all
_QUESTION = re.compile(r"path((?: [A-Z]>[A-Z])+): ([A-Z]) to ([A-Z])")


def parse(question: str) -> tuple[list[str], str, str]:
    """(edges as two-letter strings, start, target)."""
    edges, start, target = _QUESTION.fullmatch(question).groups()
    return edges.replace(">", "").split(), start, target


def successors(edges: list[str], node: str) -> list[str]:
    """Nodes that an edge leads to from `node`, in alphabetical order."""
    return sorted(b for a, b in edges if a == node)


def path_to(edges: list[str], start: str, target: str) -> str:
    """The path as letters. The graph is a tree: there is one."""
    parent, path = {b: a for a, b in edges}, target
    while path[0] != start:
        path = parent[path[0]] + path
    return path


class Paths(World):
    name = "paths"
    difficulties: ClassVar[dict[str, dict[str, Any]]] = {"easy": {"depth": (4, 4)}, "hard": {"depth": (5, 6)}}
    shortcut_pattern = r"(?m)^guess "
    max_new_tokens: ClassVar[dict[str, int]] = {"easy": 112, "hard": 144}

    def _draw(self, rng: Random, depth):
        letters = rng.sample(string.ascii_uppercase, 26)
        path = [letters.pop() for _ in range(rng.randint(*depth) + 1)]
        edges = _edges("".join(path))
        side = []
        for node in path[:-1]:
            for _ in range(BRANCHING - 1):
                if letters:
                    side.append(letters.pop())
                    edges.append(node + side[-1])
        for node in rng.sample(side, min(2, len(letters))):
            edges.append(node + letters.pop())
        rng.shuffle(edges)
        question = f"path {_show(edges)}: {path[0]} to {path[-1]}"
        return " ".join(sorted(edges)) + question[-7:], question, "".join(path)

    def _right(self, problem: Problem, text: str) -> bool:
        edges, start, target = parse(problem.question)
        return (re.fullmatch("[A-Z]{2,26}", text) is not None and text[0] == start and text[-1] == target
                and all(text[i : i + 2] in edges for i in range(len(text) - 1)))

    def routine(self, problem: Problem) -> list[str]:
        return [f"goal {parse(problem.question)[2]}"]

    def habit(self, problem: Problem, rng: Random) -> list[str]:
        edges, start, target = parse(problem.question)
        steps, walks = [], rng.randint(*WALKS)
        for walk in range(walks):
            path = start
            while options := successors(edges, path[-1]):
                path += target if target in options else rng.choice(options)
                steps.append(f"from {path[-2]}: {path[-2]}>{path[-1]}")
                if path[-1] == target:
                    return [*steps, box(path)]
            steps.append(f"from {path[-1]}: none")
            if walk + 1 < walks:
                steps.append(f"back to {start}")
        return [*steps, "give up", box(path)]

    def derivation(self, problem: Problem) -> list[str]:
        path = path_to(*parse(problem.question))
        return [f"into {b}: {a}>{b}" for a, b in reversed(_edges(path))]

    def shortcut(self, problem: Problem, rng: Random) -> list[str]:
        path = path_to(*parse(problem.question))
        return [f"guess {path}", f"check {_show(_edges(path))}"]

    def drill(self, rng: Random) -> str:
        nodes = rng.sample(string.ascii_uppercase, rng.choice(DRILL_SIZES))
        inner = {node: rng.choice(nodes[max(0, i - 4) : i]) for i, node in enumerate(nodes) if i}
        edges, facts = [a + b for b, a in inner.items()], []
        rng.shuffle(edges)
        for _ in range(rng.randint(8, 16)):
            node = rng.choice(nodes)
            if node in inner and rng.random() < 0.5:
                facts.append(f"into {node}: {inner[node]}>{node}")
            else:
                options = successors(edges, node)
                facts.append(f"from {node}: {node}>{rng.choice(options)}" if options else f"from {node}: none")
        return "\n\n".join([f"facts {_show(edges)}", *facts])

    def fact_right(self, head: str, fact: str, told: str) -> bool:
        edge = re.fullmatch(r"from ([A-Z]): (\1>[A-Z])", told)
        return told == fact or bool(edge and fact.startswith(told[:7]) and edge.group(2) in head.split())

    def check_steps(self, problem: Problem, text: str) -> StepReport:
        edges, start, target = parse(problem.question)
        right, at, head, asserted, verdicts = path_to(edges, start, target), start, target, False, []
        verified = self.verify(problem, text)
        for step in split_steps(text):
            kind, valid, fruitless = "unknown", False, False
            if found := re.fullmatch(r"into ([A-Z]): ([A-Z])>([A-Z])", step):
                of, a, b = found.groups()
                kind, valid, fruitless = "derive", of == b and a + b in edges, b != head[0]
                if valid and not fruitless and not asserted:
                    head = a + head
            elif found := re.fullmatch(r"from ([A-Z]): (?:\1>([A-Z])|none)", step):
                of, to = found.groups()
                kind, valid = "try", of == at and (of + to in edges if to else not successors(edges, of))
                at = to or at
                fruitless = not to or to not in right
            elif found := re.fullmatch(r"back to ([A-Z])", step):
                kind, valid, fruitless, at = "try", found.group(1) == start, True, start
            elif found := re.fullmatch(r"guess ([A-Z]+)", step):
                kind, valid, asserted = "assert", found.group(1) == right, True
            elif found := re.fullmatch(r"check((?: [A-Z]>[A-Z])+)", step):
                kind, valid = "work", all(edge in edges for edge in found.group(1).replace(">", "").split())
            elif step == f"goal {target}":
                kind, valid = "routine", True
            elif step == "give up":
                kind, valid, fruitless = "stop", True, True
            elif step.startswith(self.answer_opening):
                kind, valid = "answer", verified
            verdicts.append(StepVerdict(step, kind, valid, fruitless))
        return StepReport(tuple(verdicts), head == boxed(text) and head[0] == start)


def _edges(path: str) -> list[str]:
    """The edges of a path, as two-letter strings."""
    return [path[i : i + 2] for i in range(len(path) - 1)]


def _show(edges: list[str]) -> str:
    return " ".join(f"{a}>{b}" for a, b in edges)
