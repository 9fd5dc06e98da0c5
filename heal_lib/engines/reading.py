"""Reading with a `transformers` model: texts as they are (`score`), and answers after many of their prefixes at once
(`tail_nll`). A text is read in slices: the logits of a large vocabulary never stand side by side for all of it."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from heal_lib.engines import Score, cache, one_thread, probe
from heal_lib.engines.words import Words
from heal_lib.entropy import self_certainty, token_entropy, token_nll
from heal_lib.errors import HealError, out_of_memory

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

SLICE = 2**27  # bytes of logits that stand side by side


class Reader(Words):
    """model: a causal LM in eval mode; batch_tokens: tokens read together, halved where memory does not suffice."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, *, batch_tokens: int = 8192):
        super().__init__(tokenizer)
        one_thread()
        cache.check(model.config)
        self.model: Any
        self.batch_tokens: int
        self.model, self.batch_tokens = model.eval(), batch_tokens
        self.pad: int = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
        self.side_by_side: bool = probe.side_by_side(self.model, self._tails)

    def score(self, prompts: Sequence[Sequence[int]], completions: Sequence[Sequence[int]]) -> list[Score]:
        """See `Engine.score`. Right-padded, so causal attention needs no mask."""
        if any(not p for p in prompts) or any(not c for c in completions):
            raise HealError("nothing to score: a prompt or a completion is empty; drop empty trajectories first")
        rows = [[*p, *c] for p, c in zip(prompts, completions, strict=True)]

        def read(chosen):
            ids, found = self._padded([rows[i] for i in chosen]), [[] for _ in chosen]
            for start, logits in self._slices(ids):
                for k, i in enumerate(chosen):
                    first, end = max(start, len(prompts[i]) - 1), min(start + logits.shape[1], len(rows[i]) - 1)
                    if first < end:
                        mine, target = logits[k, first - start : end - start].float(), ids[k, first + 1 : end + 1]
                        parts = token_nll(mine, target), token_entropy(mine), self_certainty(mine)
                        found[k].append(torch.stack(parts))
            yield from (Score(*torch.cat(parts, 1).cpu().numpy()) for parts in found)

        return self._in_batches([len(row) for row in rows], read)

    def tail_nll(self, prompts: Sequence[Sequence[int]], completions: Sequence[Sequence[int]],
                 ends: Sequence[Sequence[int]], tails: Sequence[Sequence[int]]) -> list[np.ndarray]:
        """See `Engine.tail_nll`. A text is read once; then its tails are, side by side, each after its own prefix."""
        if not all(map(len, tails)):
            raise HealError("the answer has no tokens; check that the problem's answer is not empty")
        if not all(map(len, prompts)):
            raise HealError("an empty prompt; give at least one token")
        if not self.side_by_side:
            return [np.reshape([score.nll for score in self.score([[*p, *c[:end]] for end in e], [t] * len(e))],
                               (len(e), len(t))) for p, c, e, t in zip(prompts, completions, ends, tails, strict=True)]
        sizes = [len(p) + len(c) + len(e) * len(t)
                 for p, c, e, t in zip(prompts, completions, ends, tails, strict=True)]

        def answered(chosen):
            body = self._padded([[*prompts[i], *completions[i]] for i in chosen])
            seen = [[len(prompts[i]) + end for end in ends[i]] for i in chosen]  # tokens before each tail
            read, nll = cache.empty(self.model), [np.zeros((len(ends[i]), len(tails[i])), np.float32) for i in chosen]
            for start, logits in self._slices(body, read):
                for k, i in enumerate(chosen):  # a tail's first token is foretold by the text itself
                    here = [e for e, n in enumerate(seen[k]) if start < n <= start + logits.shape[1]]
                    if here:
                        mine = logits[k, [seen[k][e] - 1 - start for e in here]].float()
                        nll[k][here, 0] = token_nll(mine, [tails[i][0]] * len(here)).cpu().numpy()
            longest = max(len(tails[i]) for i in chosen) - 1
            step = max(1, self._slice(len(chosen)) // max(longest, 1))
            for first in range(0, max(map(len, seen)) if longest else 0, step):
                after = [(n[first : first + step], tails[i]) for n, i in zip(seen, chosen, strict=True)]
                logits = self._tails(read, after)
                read.crop(body.shape[1])
                for k, i in enumerate(chosen):
                    found, rest = nll[k][first : first + step, 1:], tails[i][1:]
                    if found.size:
                        mine = token_nll(logits[k, : found.size].float(), list(rest) * len(found))
                        found[:] = mine.cpu().numpy().reshape(found.shape)
            yield from nll

        return self._in_batches(sizes, answered)

    def _tails(self, read, rows) -> torch.Tensor:
        """Logits [batch, tokens, V] after all but the last token of every tail, for rows of (tokens before each tail,
        tail): a token sees those before its tail, and its tail."""
        flat = [[(n, n + j, e, token) for e, n in enumerate(seen) for j, token in enumerate(tail[:-1])]
                for seen, tail in rows]
        filler = (1, 0, -1, self.pad)  # sees something, so that no row of the softmax is empty
        width = max(map(len, flat))
        n, positions, owner, ids = torch.tensor([row + [filler] * (width - len(row)) for row in flat],
                                                device=self.model.device).unbind(-1)
        text = torch.arange(read.get_seq_length(), device=ids.device).expand(len(rows), -1)
        seen = torch.cat([text[:, None] < n[..., None], (owner[:, :, None] == owner[:, None]).tril()], -1)
        mask = cache.masks(self.model, seen, positions, torch.cat([text, positions], -1))
        return self.model(input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=read).logits

    def _padded(self, rows) -> torch.Tensor:
        width = max(map(len, rows))
        return torch.tensor([[*row, *[self.pad] * (width - len(row))] for row in rows], device=self.model.device)

    def _slice(self, n_rows: int) -> int:
        """Tokens of each of so many rows whose logits may stand side by side."""
        return max(1, SLICE // (4 * n_rows * self.model.config.get_text_config(decoder=True).vocab_size))

    def _slices(self, ids, read=None):
        """(start, logits [batch, slice, V]) along texts; the cache `read`, if any, remembers them."""
        size = self._slice(len(ids))
        if read is None and size < ids.shape[1]:
            read = cache.empty(self.model)
        for start in range(0, ids.shape[1], size):
            yield start, self.model(input_ids=ids[:, start : start + size], past_key_values=read,
                                    use_cache=read is not None).logits

    @torch.inference_mode()
    def _in_batches(self, sizes: list[int], read) -> list:
        """What `read(indices)` yields for rows of these sizes (tokens), the longest first, in batches that fit."""
        order, out = sorted(range(len(sizes)), key=lambda i: sizes[i]), [None] * len(sizes)
        while order:
            longest = sizes[order[-1]]
            take = max(1, self.batch_tokens // longest)
            try:
                for i, found in zip(order[-take:], list(read(order[-take:])), strict=True):
                    out[i] = found
            except (RuntimeError, MemoryError) as error:
                only_memory(error, min(take, len(order)) > 1, f"one row of {longest} tokens", "max_new_tokens")
                self.batch_tokens = min(take, len(order)) // 2 * longest
                warnings.warn(f"memory is full: {self.batch_tokens} tokens are read together from now on", stacklevel=2)
                continue
            del order[-take:]
        return out


def only_memory(error: Exception, divisible: bool, what: str, knob: str) -> None:
    """Raises what is no lack of memory, and a HealError where there is nothing left to divide."""
    if not out_of_memory(error):
        raise error
    if not divisible:
        raise HealError(f"{what} does not fit into memory; lower {knob} or use a smaller model") from None
    torch.cuda.empty_cache()
