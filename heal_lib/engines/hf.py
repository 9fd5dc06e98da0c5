"""The default engine: any `transformers` causal language model, exact entropy per token while decoding.

Decoding keeps one entropy per token, never the logits: O(batch x length) memory. Rows that have ended leave the
batch, the prompt of n samples is read once, and the cache grows by blocks instead of being copied at each token."""

from __future__ import annotations

import functools
import time
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from transformers import LogitsProcessorList, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from heal_lib.engines import Sample, SamplingParams, cache
from heal_lib.engines.reading import Reader, only_memory
from heal_lib.entropy import token_entropy
from heal_lib.errors import HealError
from heal_lib.files import hash_of, left_by_stage, read_json, write_json
from heal_lib.trajectory import seed_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

WORTH = 20.0  # seconds that a batch takes to be kept for a next attempt, where a stage is being made


class HFEngine(Reader):
    """model: a causal LM in eval mode; batch_rows: sequences decoded together; batch_tokens: tokens scored together.

    Where memory does not suffice, both are halved, which changes no draw. A stage that is killed goes on from the
    batches that it has drawn."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, *, batch_rows: int = 256,
                 batch_tokens: int = 8192):
        super().__init__(model, tokenizer, batch_tokens=batch_tokens)
        self.batch_rows: int
        self.eos: set[int]
        self.batch_rows, self.eos = batch_rows, _eos(model, tokenizer)

    def sample(self, prompts: Sequence[Sequence[int]], n: int, params: SamplingParams, seed: int,
               keys: Sequence[str] | None = None) -> list[list[Sample]]:
        """See `Engine.sample`. Prompts of similar length are decoded together."""
        if any(not prompt for prompt in prompts):
            raise HealError("an empty prompt; give at least one token")
        keys = keys or [str(i) for i in range(len(prompts))]
        out: list = [None] * len(prompts)
        order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
        while order:
            step = max(1, self.batch_rows // n)
            chosen, order = order[:step], order[step:]
            drawn = self._kept([prompts[i] for i in chosen], n, params, seed, [keys[i] for i in chosen])
            for k, i in enumerate(chosen):
                out[i] = drawn[k * n : (k + 1) * n]
        return out

    def _kept(self, prompts, n: int, params: SamplingParams, seed: int, keys: Sequence[str]) -> list[Sample]:
        """The draws of a batch: what an attempt before this one left of them, or new ones, left for the next."""
        left = left_by_stage()
        asked = hash_of([self._weights, prompts, n, params, seed, keys])[:32] if left else ""
        path = left / "draws" / f"{asked}.json" if left else None
        if path and path.is_file():
            return [self._as_sample(ids, np.array(entropy, np.float32)) for ids, entropy in read_json(path)]
        start = time.perf_counter()
        noise = np.stack([np.random.default_rng(seed_of(seed, key, j)).random(params.max_new_tokens)
                          for key in keys for j in range(n)])
        drawn = self._in_room(prompts, n, noise, params)
        if path and time.perf_counter() - start > WORTH:
            write_json([[sample.token_ids, sample.entropy] for sample in drawn], path)
        return drawn

    @functools.cached_property
    def _weights(self) -> list[float]:
        """The first of each matrix: enough to tell models of one stage apart."""
        return [float(weight.flatten()[0]) for weight in self.model.parameters()]

    def _in_room(self, prompts, n: int, noise: np.ndarray, params: SamplingParams) -> list[Sample]:
        """`_decode`, in halves where these are more rows than fit into the memory."""
        if len(noise) <= self.batch_rows:
            try:
                return self._decode(prompts, n, noise, params)
            except (RuntimeError, MemoryError) as error:
                only_memory(error, len(noise) > 1, f"one row of {params.max_new_tokens} new tokens", "max_new_tokens")
            self.batch_rows = len(noise) // 2
            warnings.warn(f"memory is full: {self.batch_rows} rows are decoded together from now on", stacklevel=2)
        if (half := len(prompts) // 2) >= 1:
            return (self._in_room(prompts[:half], n, noise[: half * n], params)
                    + self._in_room(prompts[half:], n, noise[half * n :], params))
        return (self._in_room(prompts, n // 2, noise[: n // 2], params)
                + self._in_room(prompts, n - n // 2, noise[n // 2 :], params))

    @torch.inference_mode()
    def _decode(self, prompts, n: int, noise: np.ndarray, params: SamplingParams) -> list[Sample]:
        """Draws n rows per prompt by inverse transform: row r at step t uses noise[r, t] in [0, 1)."""
        device, width = self.model.device, max(map(len, prompts))
        ids = torch.tensor([[self.pad] * (width - len(p)) + list(p) for p in prompts], device=device)
        mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=device)
        read = cache.empty(self.model)
        logits = self._forward(ids, mask, (mask.cumsum(-1) - 1).clamp(min=0), read)
        read.batch_repeat_interleave(n)
        logits, mask = logits.repeat_interleave(n, 0), mask.repeat_interleave(n, 0)
        noise_t, rows = torch.tensor(noise, device=device), torch.arange(len(noise), device=device)
        tokens = torch.full(noise.shape, self.pad, device=device)
        entropies = torch.zeros(noise.shape, device=device)
        alive = torch.ones_like(rows, dtype=torch.bool)
        warp, stops = _warpers(params), torch.tensor(sorted(self.eos), device=device)
        for t in range(params.max_new_tokens):
            entropies[rows, t] = token_entropy(logits.float()).to(entropies)  # raw: before any warping
            probs = torch.softmax(warp(None, logits.float()).double(), -1).cumsum(-1)
            drawn = (probs < noise_t[rows, t, None] * probs[:, -1:]).sum(-1).clamp(max=probs.shape[-1] - 1)
            tokens[rows, t] = drawn
            alive &= ~torch.isin(drawn, stops)
            if t + 1 == params.max_new_tokens or not alive.any():
                break
            if alive.float().mean() < 0.75:  # leaving the batch copies the cache: not worth it for each row
                left = alive.nonzero()[:, 0]
                rows, drawn, mask, alive = rows[left], drawn[left], mask[left], alive[left]
                read.batch_select_indices(left)
            mask = torch.cat([mask, mask.new_ones(len(rows), 1)], 1)
            logits = self._forward(drawn[:, None], mask, mask.sum(-1, keepdim=True) - 1, read)
        return [self._as_sample(row, h) for row, h in zip(tokens.tolist(), entropies.cpu().numpy(), strict=True)]

    def _forward(self, ids, mask, positions, read):
        """Logits [batch, V] after the last token."""
        full = None if bool(mask.all()) else mask  # without padding the mask only costs time
        return self.model(input_ids=ids, attention_mask=full, position_ids=positions, past_key_values=read,
                          logits_to_keep=1).logits[:, -1]

    def _as_sample(self, row: list[int], entropy: np.ndarray) -> Sample:
        length = next((t + 1 for t, token in enumerate(row) if token in self.eos), len(row))
        ids = row[:length]
        return Sample(ids, "".join(self.pieces(ids)), entropy[:length].copy(), ids[-1] in self.eos)


def _eos(model, tokenizer) -> set[int]:
    """Every token that ends a text: the tokenizer's and those of the model's generation settings."""
    more = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    found = {tokenizer.eos_token_id, *(more if isinstance(more, list) else [more])} - {None}
    if not found:
        raise HealError("the tokenizer has no end-of-text token; give it one (eos_token)")
    return found


def _warpers(params: SamplingParams) -> LogitsProcessorList:
    """transformers' own warpers, in its own order."""
    warpers = LogitsProcessorList()
    if params.temperature != 1.0:
        warpers.append(TemperatureLogitsWarper(params.temperature))
    if params.top_k:
        warpers.append(TopKLogitsWarper(params.top_k))
    if params.top_p < 1.0:
        warpers.append(TopPLogitsWarper(params.top_p))
    return warpers
