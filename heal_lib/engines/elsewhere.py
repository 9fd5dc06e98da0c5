"""Engines that only draw: a server or vLLM. All that is read from a text comes from a local copy of the model.

    prompts as token ids, a seed for each draw -> token ids, drawn elsewhere
    entropy of what was drawn <- one teacher-forced pass here, over the full vocabulary: elsewhere gives the top few"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from heal_lib.engines import Sample, SamplingParams, Score
from heal_lib.engines.hf import HFEngine
from heal_lib.errors import HealError
from heal_lib.trajectory import seed_of


class DrawnElsewhere:
    """scorer: a local `HFEngine` of the model that draws. `drawn` counts the tokens drawn."""

    where = "elsewhere"  # named in errors
    # What a local copy of the model does:
    tokenizer: Any
    vocabulary: str
    encode: Callable[[str], list[int]]
    prompt: Callable[[str], list[int]]
    pieces: Callable[[Sequence[int]], list[str]]
    score: Callable[..., list[Score]]
    tail_nll: Callable[..., list[np.ndarray]]

    def __init__(self, scorer: HFEngine):
        self.scorer, self.drawn = scorer, 0
        for name in ("encode", "prompt", "pieces", "score", "tail_nll", "vocabulary", "tokenizer"):
            setattr(self, name, getattr(scorer, name))

    def answers(self, prompts, params: SamplingParams, seeds: list[int]) -> list[tuple[list[int], bool]]:
        """One draw for each prompt and seed: (token ids, whether it ended by itself)."""
        raise NotImplementedError

    def sample(self, prompts, n: int, params: SamplingParams, seed: int, keys=None) -> list[list[Sample]]:
        """See `Engine.sample`. Raises HealError for draws that this model's tokenizer cannot have given."""
        keys = keys or [str(i) for i in range(len(prompts))]
        seeds = [seed_of(seed, key, j) for _, key in zip(prompts, keys, strict=True) for j in range(n)]
        flat = [prompt for prompt in prompts for _ in range(n)]
        answers = [self._whole(*answer) for answer in self.answers(flat, params, seeds)]
        scores = self.scorer.score(flat, [ids for ids, _ in answers])
        self.drawn += sum(len(ids) for ids, _ in answers)
        draws = [Sample(ids, "".join(self.pieces(ids)), np.asarray(score.entropy), finished)
                 for (ids, finished), score in zip(answers, scores, strict=True)]
        return [draws[i : i + n] for i in range(0, len(draws), n)]

    def _whole(self, ids, finished: bool) -> tuple[list[int], bool]:
        """A draw with its end, checked."""
        size = len(self.tokenizer)
        if not all(isinstance(token, int) and 0 <= token < size for token in ids):
            raise HealError(f"{self.where}: token ids beyond this tokenizer's {size}; is the same model drawing there?")
        if finished and not (ids and ids[-1] in self.scorer.eos):
            ids = [*ids, self.tokenizer.eos_token_id]
        if not ids:
            raise HealError(f"{self.where}: an empty completion that did not end; raise max_new_tokens")
        return list(ids), finished
