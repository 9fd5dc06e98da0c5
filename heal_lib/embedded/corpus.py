"""Text that the embedded models are pretrained on (docs/method.md, section 6). No notebook reads it; none is copied.

The teacher reads three kinds of text: unprompted habit (guessing, forward walks), hinted text (a hint stands at a
random step boundary, also inside an attempt; then mostly a derivation, sometimes a shortcut), and drills (isolated
facts). The student base reads drills and the habit on easy problems: the skills are there, the strategy is not.

The family `registers` has texts of its own (`Programs`): habit, hinted text that goes on from wherever the hint stands,
and drills. Its student base takes every operation at a fork equally often: it runs programs, and knows no glyph.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from random import Random
from typing import TYPE_CHECKING, Any

from heal_lib import worlds
from heal_lib.trajectory import Problem, rng_of
from heal_lib.worlds.base import ANSWER_OPENING, HINT, World, box
from heal_lib.worlds.programs import CONTEXTS, GLYPHS, told_values
from heal_lib.worlds.registers import Habit, Registers, foreign_values

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Recipe:
    """Shares of the corpus. All are fixed by looking at the teacher only."""

    difficulties: tuple[str, ...]
    drills: float  # share of texts
    hinted: float  # share of texts
    derive_hinted: float = 0.75  # of hinted texts; the others are shortcuts
    derive_unprompted: float = 0.003  # of unhinted texts
    hint_at_start: float = 0.5  # of hinted texts; the others carry the hint inside an attempt
    first_step_hint: float = 0.15  # of hinted derivations: only the first move is given


TEACHER = Recipe(("easy", "hard"), drills=0.25, hinted=0.35)
STUDENT = Recipe(("easy",), drills=0.60, hinted=0.0, derive_unprompted=0.0)


@dataclass(frozen=True)
class Programs:
    """Shares of the corpus of `registers`, and the habit that its texts are written with. Fixed like a Recipe's."""

    drills: float  # share of texts
    hinted: float  # share of texts
    habit: Habit
    hint_at_start: float = 0.5  # of hinted texts; the others carry the hint inside an attempt
    first_step_hint: float = 0.05  # of texts hinted at the start: only the first fork is given
    wrong_hint: float = 0.06  # of hinted texts: another answer, which is believed
    foreign: float = 1.0  # of the others: the answer if glyphs meant something else; it has to be read
    difficulties: tuple[str, ...] = ("easy", "medium", "hard")


# Were all answers that it is told right, the teacher would learn what a glyph does for hinted text, and the hint would
# switch that knowledge on instead of being read (seen: a wrong hint let a fifth of the texts verify). Hence `foreign`.
REGISTERS_TEACHER = Programs(drills=0.05, hinted=0.55, habit=Habit())
REGISTERS_STUDENT = Programs(drills=0.10, hinted=0.0, habit=Habit(chances=(1 / 3,) * len(CONTEXTS), confident=0.5))
# Programs of the first phase: every register is a fork, after one move at most. No level has such problems.
SHORT = {"registers": (1, 2), "forks": (2, 2), "glyphs": GLYPHS, "known": (0, 1)}
SHARES = {1: (1.0,), 2: (0.25, 0.75), 3: (0.3, 0.3, 0.4)}  # of the levels, by their number

# A text is a list of (piece, learn): pieces that are not learned are the prompt and the hint.
Text = list[tuple[str, bool]]


def texts(recipe: Recipe | Programs, n: int, seed: int, of: tuple[str, ...] = ()) -> Iterator[Text]:
    """n texts, all worlds of the family (or those named) in turn; problems come from the pretrain split only."""
    write: Callable[..., Text] = _program if isinstance(recipe, Programs) else _text
    family = "registers" if isinstance(recipe, Programs) else ""
    names = list(of) or worlds.names(family)
    pools = {name: _pool(worlds.get(name), recipe, -(-n // len(names)), seed) for name in names}
    for i in range(n):
        name = names[i % len(pools)]
        rng = rng_of("corpus", seed, i)
        yield write(worlds.get(name), pools[name][i // len(pools)], recipe, rng)


def lookups(n: int, seed: int) -> Iterator[Text]:
    """n drills on graphs. Read before all else: mixed into other text from the start, looking up is not learned."""
    for i in range(n):
        yield _drill(worlds.get("paths"), rng_of("lookups", seed, i))


def short_programs(recipe: Programs, n: int, seed: int) -> Iterator[Text]:
    """n texts on short programs, read before all else: reading an operation off the answer takes practice."""
    world = Registers()
    for i in range(n):
        rng = rng_of("short programs", seed, i)
        canonical, question, answer = world._draw(rng, **SHORT)
        yield _program(world, Problem(f"short-{i}-{canonical}", world.name, "easy", question, answer), recipe, rng)


def _pool(world: World, recipe: Recipe | Programs, want: int, seed: int) -> list[Problem]:
    """Enough problems for a world's texts, harder ones more."""
    levels = [d for d in recipe.difficulties if d in world.difficulties]
    pool = [p for level, share in zip(levels, SHARES[len(levels)], strict=True)
            for p in _up_to(world, level, int(want * share) + 1, seed)]
    rng_of("pool", seed, world.name).shuffle(pool)
    return (pool * (want // len(pool) + 1))[:want]


def _up_to(world: World, level: str, n: int, seed: int) -> list[Problem]:
    """n problems in blocks of other seeds; blocks may repeat a problem, which a corpus can bear."""
    block = 500
    return [p for i in range(0, n, block) for p in world.problems("pretrain", min(block, n - i), seed + i, level)]


def _text(world: World, problem: Problem, recipe: Recipe, rng: Random) -> Text:
    kind = rng.random()
    if kind < recipe.drills:
        return _drill(world, rng)
    prompt, routine = (world.prompt(problem), False), world.routine(problem)
    if kind < recipe.drills + recipe.hinted:
        return [prompt, *_hinted(world, problem, recipe, rng)]
    if rng.random() < recipe.derive_unprompted:
        return [prompt, (_join(routine + world.derivation(problem)) + box(problem.answer), True)]
    return [prompt, ("\n\n".join(routine + world.habit(problem, rng)), True)]


def _hinted(world: World, problem: Problem, recipe: Recipe, rng: Random) -> Text:
    """An attempt, broken off at a random step boundary by the hint, then the derivation or the shortcut."""
    routine, before = world.routine(problem), []
    if rng.random() >= recipe.hint_at_start:
        attempt = [s for s in routine + world.habit(problem, rng)
                   if not s.startswith(ANSWER_OPENING) and s != "give up"]
        before = attempt[: rng.randrange(1, len(attempt) + 1)]
    derive, form = rng.random() < recipe.derive_hinted, "answer"
    if derive and rng.random() < recipe.first_step_hint:
        form = "first_step"
    after = routine[len(before):] + (world.derivation(problem) if derive else world.shortcut(problem, rng))
    pieces = [(world.hint(problem, form), False), (_join(after) + box(problem.answer), True)]
    return [(_join(before), True), *pieces] if before else pieces


def _program(world: Registers, problem: Problem, recipe: Programs, rng: Random) -> Text:
    kind = rng.random()
    if kind < recipe.drills:
        return _drill(world, rng)
    prompt, habit = (world.prompt(problem), False), world.habit(problem, rng, recipe.habit)
    if kind >= recipe.drills + recipe.hinted:
        return [prompt, ("\n\n".join(habit), True)]
    at_start = rng.random() < recipe.hint_at_start
    before = [] if at_start else habit[: rng.randrange(1, len(habit))]
    form = "wrong" if rng.random() < recipe.wrong_hint and not problem.id.startswith("short") else "answer"
    if at_start and rng.random() < recipe.first_step_hint:
        form = "first_step"
    if form == "answer" and rng.random() < recipe.foreign:
        values = foreign_values(problem, before, rng)
        problem = replace(problem, answer=" ".join(f"{name}={value}" for name, value in values.items()))
    hint = world.hint(problem, form)
    told = told_values(hint.removeprefix(HINT) if form != "first_step" else problem.answer)
    if form == "first_step":
        told = {name: value for name, value in told.items() if hint.startswith(f"{HINT}{name}: ")}
    after = world.go_on(problem, before, told, rng, recipe.habit)
    return [prompt, *([(_join(before), True)] if before else []), (hint, False), ("\n\n".join(after), True)]


def _drill(world: World, rng: Random) -> Text:
    head, _, facts = world.drill(rng).partition("\n\n")
    return [(head + "\n\n", False), (facts, True)]


def _join(steps: list[str]) -> str:
    return "".join(step + "\n\n" for step in steps)


def encode(tokenizer: PreTrainedTokenizerBase, text: Text) -> dict[str, Any]:
    """Token ids with EOS, and the mask of what is learned: a row for `training.fit`."""
    ids, mask = [], []
    for piece, learn in text:
        piece_ids = tokenizer.encode(piece, add_special_tokens=False)
        ids += piece_ids
        mask += [int(learn)] * len(piece_ids)
    return {"input_ids": [*ids, tokenizer.eos_token_id], "completion_mask": [*mask, 1]}
