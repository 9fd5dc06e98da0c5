"""Engines that only draw: a server or vLLM. All that is read from a text comes from a local copy of the model.

    prompts as token ids, a seed for each draw -> token ids, drawn elsewhere
    entropy of what was drawn <- one teacher-forced pass here, over the full vocabulary

What was drawn may bring its entropies along where they are of the whole vocabulary (`whole_entropy`); of the top few
they would be a bound, and are not taken."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from heal_lib.engines import Sample, SamplingParams, Score
from heal_lib.errors import HealError
from heal_lib.trajectory import seed_of

if TYPE_CHECKING:
    from heal_lib.engines.hf import HFEngine


class Drawn(NamedTuple):
    """One draw: token ids, whether it ended by itself, and its entropies [T] in nats if they came with it."""

    token_ids: list[int]
    finished: bool
    entropy: Any = None


class DrawnElsewhere:
    """scorer: a local `HFEngine` of the model that draws. `drawn` counts the tokens drawn."""

    where = "elsewhere"  # named in errors
    # What a local copy of the model does:
    tokenizer: Any
    vocabulary: str
    opens_thought: bool
    encode: Callable[[str], list[int]]
    prompt: Callable[[str], list[int]]
    pieces: Callable[[Sequence[int]], list[str]]
    score: Callable[..., list[Score]]
    tail_nll: Callable[..., list[np.ndarray]]

    def __init__(self, scorer: HFEngine):
        self.scorer: HFEngine
        self.drawn: int
        self.scorer, self.drawn = scorer, 0
        for name in ("encode", "prompt", "pieces", "score", "tail_nll", "vocabulary", "tokenizer", "opens_thought"):
            setattr(self, name, getattr(scorer, name))

    def answers(self, prompts: Sequence[Sequence[int]], params: SamplingParams,
                seeds: list[int]) -> Sequence[tuple[Any, ...]]:
        """One draw for each prompt and seed, as `Drawn` has it: (token ids, whether it ended by itself)."""
        raise NotImplementedError

    def sample(self, prompts: Sequence[Sequence[int]], n: int, params: SamplingParams, seed: int,
               keys: Sequence[str] | None = None) -> list[list[Sample]]:
        """See `Engine.sample`. Raises HealError for draws that this model's tokenizer cannot have given."""
        keys = keys or [str(i) for i in range(len(prompts))]
        seeds = [seed_of(seed, key, j) for _, key in zip(prompts, keys, strict=True) for j in range(n)]
        flat = [prompt for prompt in prompts for _ in range(n)]
        answers = [self._whole(*answer) for answer in self.answers(flat, params, seeds)]
        self.drawn += sum(len(answer.token_ids) for answer in answers)
        unread = [i for i, answer in enumerate(answers) if answer.entropy is None]
        scores = self.scorer.score([flat[i] for i in unread], [answers[i].token_ids for i in unread])
        read = dict(zip(unread, (score.entropy for score in scores), strict=True))
        draws = [Sample(ids, "".join(self.pieces(ids)), np.asarray(read.get(i, known), np.float32), finished)
                 for i, (ids, finished, known) in enumerate(answers)]
        return [draws[i : i + n] for i in range(0, len(draws), n)]

    def _whole(self, ids, finished: bool, entropy=None) -> Drawn:
        """A draw with its end, checked."""
        size = len(self.tokenizer)
        if not all(isinstance(token, int) and 0 <= token < size for token in ids):
            raise HealError(f"{self.where}: token ids beyond this tokenizer's {size}; is the same model drawing there?")
        if finished and not (ids and ids[-1] in self.scorer.eos):
            ids = [*ids, self.tokenizer.eos_token_id]
        if not ids:
            raise HealError(f"{self.where}: an empty completion that did not end; raise max_new_tokens")
        return Drawn(list(ids), finished, entropy if entropy is not None and len(entropy) == len(ids) else None)

    @property
    def width(self) -> int:
        """How many tokens the model chooses from: the width of its logits."""
        return self.scorer.model.config.get_text_config(decoder=True).vocab_size


def untouched(params: SamplingParams) -> bool:
    """Whether a draw is from the model's own distribution, so that any log-probabilities told are the raw ones."""
    return params.temperature == 1 and params.top_p == 1 and not params.top_k


def whole_entropy(rows: Sequence[Sequence[float]], width: int) -> np.ndarray | None:
    """Entropy [T] in nats from log-probabilities, one row a token; None unless each row is of all `width` tokens."""
    if not rows or any(len(row) != width for row in rows):
        return None
    logp = np.asarray(rows, dtype=np.float64)
    p = np.exp(logp)
    if not np.allclose(p.sum(1), 1, atol=1e-3):
        return None
    return -np.where(p > 0, p * np.maximum(logp, -1e9), 0).sum(1)
