"""gym: any task of the package reasoning-gym as a world: worlds=("gym:chain_sum", "gym:gsm_symbolic").

A difficulty is `default` or the generator's own settings, such as `max_terms=3+max_digits=1`. Every problem is made
from a seed of its own, which its id ends with; splits are decided by a hash of the question. The verdict is the task's
own `score_answer`, and only its full mark counts, on the answer that the text states (box, answer tag or "the answer
is"), else on its last line.

Some scorers run the answer as code: such tasks are refused, and so are those that give no answer to hint with."""

from __future__ import annotations

import ast
import difflib
import inspect
import textwrap
from dataclasses import fields
from functools import cache, lru_cache
from random import Random
from typing import Any, ClassVar

from heal_lib.errors import HealError
from heal_lib.trajectory import Problem, rng_of, seed_of
from heal_lib.worlds import calculator
from heal_lib.worlds.base import SPLITS, StepReport
from heal_lib.worlds.prose import Prose, spoken, stated

DEFAULT = "default"
RUNS_CODE = {"eval", "exec", "parse_expr", "sympify"}  # sympy's parser evaluates


class Gym(Prose):
    """The world of one task. Raises HealError for a task that is not there or not to be had."""

    difficulties: ClassVar[dict[str, dict[str, Any]]] = {DEFAULT: {}}
    packages: ClassVar[tuple[str, ...]] = ("reasoning-gym",)

    def __init__(self, task: str):
        self.task: str
        self.name: str
        self.task, self.name = task, f"gym:{task}"
        _task(task)

    def problems(self, split: str, n: int, seed: int, difficulty: str) -> list[Problem]:
        """See `World.problems`; difficulty: `default`, or settings of the generator."""
        if split not in SPLITS:
            raise HealError(f"unknown split '{split}'; choose one of {', '.join(SPLITS)}")
        _settings(self.task, difficulty)
        rng, found = rng_of(seed, self.name, split, difficulty), {}
        low, high = SPLITS[split]
        for _ in range(100 * n + 100):
            if len(found) == n:
                break
            drawn = rng.randrange(2**31)
            entry = self._entry(difficulty, drawn)
            key = seed_of(self.name, entry["question"])
            if low <= key % 100 < high and key not in found:
                found[key] = Problem(f"{self.name}-{difficulty}-{drawn}", self.name, difficulty, entry["question"],
                                     entry["answer"])
        if len(found) < n:
            raise HealError(f"world '{self.name}' has fewer than {n} {difficulty} problems in split '{split}'; "
                            "ask for less")
        return list(found.values())

    def knows(self, difficulty: str) -> bool:
        try:
            _settings(self.task, difficulty)
        except HealError:
            return False
        return True

    def longest(self, difficulty: str) -> int:
        return 1024

    def prompt(self, problem: Problem) -> str:
        return f"{problem.question}\n\nReason step by step, and put your final answer within \\boxed{{}}."

    def verify(self, problem: Problem, text: str) -> bool:
        said = stated(text)
        lines = ["", *spoken(text).strip().splitlines()]
        return self._right(problem, lines[-1].strip() if said is None else said)

    def derivation(self, problem: Problem) -> list[str]:
        raise HealError(f"world '{self.name}' has no derivations to take a step from; use hint 'answer'")

    def check_steps(self, problem: Problem, text: str) -> StepReport | None:
        """The calculator's report for tasks of arithmetic; other tasks have no oracle."""
        if _task(self.task)[0].__module__.split(".")[1] != "arithmetic" or calculator.number(problem.answer) is None:
            return None
        return calculator.check(text, problem.answer)

    def _right(self, problem: Problem, text: str | None) -> bool:
        if not text:
            return False
        data, entry = _made(self.task, problem.difficulty, int(problem.id.rpartition("-")[2]))
        try:
            return data.score_answer(text, entry) == 1.0
        except (ValueError, TypeError, LookupError, ArithmeticError, AttributeError, AssertionError):
            return False  # some scorers fall over what they cannot read

    def _draw(self, rng: Random, difficulty: str):
        entry = self._entry(difficulty, rng.randrange(2**31))
        return entry["question"], entry["question"], entry["answer"]

    def _knobs(self, difficulty: str) -> dict:
        return {"difficulty": difficulty}

    def _entry(self, difficulty: str, seed: int) -> dict[str, Any]:
        entry = _made(self.task, difficulty, seed)[1]
        if not isinstance(entry["answer"], str):
            raise HealError(f"world '{self.name}' gives no answer that could be told as a hint; choose another task")
        return entry


# --- the package
@cache
def _task(name: str) -> tuple[type, type]:
    """(data set, configuration) of a task: classes of the package."""
    try:
        from reasoning_gym.factory import DATASETS
    except ImportError:
        raise HealError("worlds of reasoning-gym need a package that is not here; run: pip install '.[gym]'") from None
    if name not in DATASETS:
        near = difflib.get_close_matches(name, DATASETS, 1, 0.4)
        raise HealError(f"reasoning-gym has no task '{name}'; "
                        + (f"did you mean 'gym:{near[0]}'?" if near else f"it has {', '.join(sorted(DATASETS))}"))
    data, config = DATASETS[name]
    tree = ast.parse(textwrap.dedent(inspect.getsource(data.score_answer)))
    called = {getattr(node.func, "id", getattr(node.func, "attr", "")) for node in ast.walk(tree)
              if isinstance(node, ast.Call)}
    if called & RUNS_CODE:
        raise HealError(f"reasoning-gym scores '{name}' by running the answer as code, which a model's text never is "
                        "here; choose another task")
    return data, config


def _settings(name: str, difficulty: str) -> dict[str, Any]:
    """The generator's settings that a difficulty names. Raises HealError, one line, for what it does not take."""
    known = {f.name: f.type for f in fields(_task(name)[1]) if f.name not in ("seed", "size")}
    found: dict[str, Any] = {}
    for part in difficulty.split("+") if difficulty != DEFAULT else ():
        key, _, value = part.partition("=")
        if key not in known or not value:
            near = difflib.get_close_matches(key, known, 1)
            mend = f"did you mean '{near[0]}=...'?" if near else f"give {DEFAULT}, or settings of {', '.join(known)}"
            raise HealError(f"gym:{name} has no difficulty '{difficulty}'; {mend}")
        kind: Any = known[key]
        if kind not in (int, float, bool, str):
            raise HealError(f"gym:{name}: {key} cannot be set from text; leave it out")
        try:
            found[key] = {"true": True, "false": False}[value.lower()] if kind is bool else kind(value)
        except (ValueError, KeyError):
            raise HealError(f"gym:{name}: {key}={value} is no {kind.__name__}") from None
    return found


@lru_cache(4096)
def _made(name: str, difficulty: str, seed: int) -> tuple[Any, dict[str, Any]]:
    """(data set of one, its entry) from a seed."""
    data, config = _task(name)
    try:
        made = data(config=config(seed=seed, size=1, **_settings(name, difficulty)))
    except AssertionError as error:
        why = str(error).partition("\n")[0]
        raise HealError(f"gym:{name}: the settings '{difficulty}' do not go together ({why})") from None
    return made, made[0]
