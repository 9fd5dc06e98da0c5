"""A teacher of `registers` without a model: an engine that writes exactly as a `Habit` says, with exact entropies.

What a trained teacher is an approximation of. It costs nothing, so the knobs of a teacher can be swept with it: when is
the break where the entropy is?"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.special import entr

from heal_lib.embedded import tokenizer
from heal_lib.engines import Sample, SamplingParams
from heal_lib.trajectory import STEP_DELIMITER, Problem, rng_of, split_steps
from heal_lib.worlds import programs
from heal_lib.worlds.base import ANSWER_OPENING, HINT
from heal_lib.worlds.programs import CONTEXTS, GLYPHS, parity, told_values
from heal_lib.worlds.registers import Habit, Registers, weights


class Writer:
    """Draws only (`sample`): prompts are a program, perhaps some steps, perhaps a hint. After a hint entropies are 0,
    for nothing reads them."""

    vocabulary = "registers"

    def __init__(self, how: Habit):
        self.how: Habit
        self.tokenizer: Any
        self.how, self.tokenizer = how, tokenizer.build("registers")
        self.eos: int = self.tokenizer.eos_token_id
        self._pieces = ["" if i == self.eos else piece
                        for i, piece in enumerate(self.tokenizer.convert_ids_to_tokens(range(len(self.tokenizer))))]
        self._encode = functools.cache(lambda step: self.tokenizer.encode(step, add_special_tokens=False))

    def encode(self, text: str) -> list[int]:
        first, *others = map(self._encode, text.split(STEP_DELIMITER))
        return [*first, *(i for step in others for i in [*self._encode(STEP_DELIMITER), *step])]

    prompt = encode

    def pieces(self, token_ids: Sequence[int]) -> list[str]:
        return [self._pieces[i] for i in token_ids]

    def sample(self, prompts: Sequence[Sequence[int]], n: int, params: SamplingParams, seed: int,
               keys: Sequence[str] | None = None) -> list[list[Sample]]:
        """n draws per prompt, seeded by (seed, key, index); keys default to the prompt's position."""
        return [[self._draw("".join(self.pieces(prompt)), rng_of(seed, key, j)) for j in range(n)]
                for prompt, key in zip(prompts, keys or map(str, range(len(prompts))), strict=True)]

    def _draw(self, prompt: str, rng) -> Sample:
        question, *before = split_steps(prompt)
        told = next((told_values(s.removeprefix(HINT)) for s in before if s.startswith(HINT)), {})
        before = [s for s in before if not s.startswith(HINT)]
        steps = Registers().go_on(Problem("", "registers", "", question, ""), before, told, rng, self.how)
        values = self._entropies(question, before, steps) if not told else []
        text = "\n\n".join(steps)
        ids = [*self.encode(text), self.eos]
        return Sample(ids, text, np.resize(np.array(values or [0.0], np.float32), len(ids)), True)

    def _entropies(self, question: str, before: list[str], steps: list[str]) -> list[float]:
        """Nats at each token: a register is chosen at a step's first token, an operation at a fork's last but one."""
        state, values, last = programs.parse(question), [], ""
        for i, step in enumerate([*before, *steps]):
            own = [0.0] * (len(self.encode(step)) + 1)  # the delimiter, or EOS
            if not step.startswith(ANSWER_OPENING):
                open_ones = [r for r in state.values() if r.left]
                each = np.array(weights(open_ones, self.how))
                stays = np.array([r.name == last for r in open_ones])
                chances = each / each.sum() * (1 - self.how.stay * stays.any()) + self.how.stay * stays
                own[0] = float(entr(chances).sum())
                own[-2] = self._undecided(state[step[0]])
                programs.read(state, step)
                last = step[0]
            values += own if i >= len(before) else []
        return values

    def _undecided(self, r: programs.Register) -> float:
        """Entropy of the operation that is said next, in nats; 0 where the program names it."""
        symbol = r.left[0][0]
        if symbol not in GLYPHS or r.said:
            return 0.0
        right = self.how.chances[CONTEXTS.index((symbol, parity(r.value)))]
        return float(entr([right, (1 - right) * self.how.confident, (1 - right) * (1 - self.how.confident)]).sum())
