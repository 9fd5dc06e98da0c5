"""The default engine: any `transformers` causal language model, exact entropy per token while decoding.

Decoding keeps one entropy per token, never the logits: O(batch x length) memory. Rows that have ended leave the
batch, the prompt of n samples is read once, and the cache grows by blocks instead of being copied at each token."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
import torch
from transformers import Cache, LogitsProcessorList, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper
from transformers.cache_utils import DynamicLayer

from heal_lib.engines import Sample, SamplingParams, Score
from heal_lib.entropy import self_certainty, token_entropy, token_nll
from heal_lib.errors import HealError
from heal_lib.store import hash_of
from heal_lib.trajectory import seed_of

BROKEN = "\ufffd"  # what a part of a character decodes to


class HFEngine:
    """model: a causal LM in eval mode; batch_rows: sequences decoded together; batch_tokens: tokens scored together."""

    def __init__(self, model, tokenizer, *, batch_rows: int = 256, batch_tokens: int = 8192):
        self.model, self.tokenizer = model.eval(), tokenizer
        self.batch_rows, self.batch_tokens = batch_rows, batch_tokens
        self.eos = _eos(model, tokenizer)
        self.pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id

    def encode(self, text: str) -> list[int]:
        """Token ids; raises HealError where the tokenizer has no token for a part of the text."""
        ids = self.tokenizer.encode(text, add_special_tokens=False)
        if self.tokenizer.unk_token_id is not None and self.tokenizer.unk_token_id in ids:
            raise HealError(f"the tokenizer cannot write this text: {text[:60]!r}; use a world that the model knows")
        return ids

    def prompt(self, question: str) -> list[int]:
        """See `Engine.prompt`."""
        if not self.tokenizer.chat_template:
            return self.encode(question)
        turns = [{"role": "user", "content": question}]
        return self.encode(self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))

    def pieces(self, token_ids: Sequence[int]) -> list[str]:
        """Text of each token; special tokens are empty. A character that is spread over tokens belongs to the first."""
        cache = self.__dict__.setdefault("_pieces", dict.fromkeys(self.tokenizer.all_special_ids, ""))
        for i in set(token_ids) - cache.keys():
            cache[i] = self.tokenizer.decode([i])
        out, i = [], 0
        while i < len(token_ids):
            text, end = cache[token_ids[i]], i + 1
            while text.endswith(BROKEN) and end < min(len(token_ids), i + 4):  # no character is longer than four bytes
                end += 1
                text = self.tokenizer.decode(list(token_ids[i:end]))
            if text.endswith(BROKEN):
                text, end = cache[token_ids[i]], i + 1
            out += [text, *[""] * (end - i - 1)]
            i = end
        return out

    @functools.cached_property
    def vocabulary(self) -> str:
        """Fingerprint of the tokenizer's vocabulary: engines that share it can read each other's token ids."""
        return hash_of(self.tokenizer.get_vocab())

    def sample(self, prompts, n: int, params: SamplingParams, seed: int, keys=None) -> list[list[Sample]]:
        """See `Engine.sample`. Prompts of similar length are decoded together."""
        if any(not prompt for prompt in prompts):
            raise HealError("an empty prompt; give at least one token")
        keys = keys or [str(i) for i in range(len(prompts))]
        out: list = [None] * len(prompts)
        order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
        step = max(1, self.batch_rows // n)
        for at in range(0, len(order), step):
            chosen = order[at : at + step]
            noise = np.stack([np.random.default_rng(seed_of(seed, keys[i], j)).random(params.max_new_tokens)
                              for i in chosen for j in range(n)])
            drawn = self._decode([prompts[i] for i in chosen], n, noise, params)
            for k, i in enumerate(chosen):
                out[i] = drawn[k * n : (k + 1) * n]
        return out

    @torch.inference_mode()
    def _decode(self, prompts, n: int, noise: np.ndarray, params: SamplingParams) -> list[Sample]:
        """Draws n rows per prompt by inverse transform: row r at step t uses noise[r, t] in [0, 1)."""
        device, width = self.model.device, max(map(len, prompts))
        ids = torch.tensor([[self.pad] * (width - len(p)) + list(p) for p in prompts], device=device)
        mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=device)
        cache = Cache(layers=[BlockLayer() for _ in range(self.model.config.num_hidden_layers)])
        logits = self._forward(ids, mask, (mask.cumsum(-1) - 1).clamp(min=0), cache)
        cache.batch_repeat_interleave(n)
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
                cache.batch_select_indices(left)
            mask = torch.cat([mask, mask.new_ones(len(rows), 1)], 1)
            logits = self._forward(drawn[:, None], mask, mask.sum(-1, keepdim=True) - 1, cache)
        return [self._as_sample(row, h) for row, h in zip(tokens.tolist(), entropies.cpu().numpy(), strict=True)]

    def _forward(self, ids, mask, positions, cache):
        """Logits [batch, V] after the last token."""
        full = None if bool(mask.all()) else mask  # without padding the mask only costs time
        return self.model(input_ids=ids, attention_mask=full, position_ids=positions, past_key_values=cache,
                          logits_to_keep=1).logits[:, -1]

    def _as_sample(self, row: list[int], entropy: np.ndarray) -> Sample:
        length = next((t + 1 for t, token in enumerate(row) if token in self.eos), len(row))
        ids = row[:length]
        return Sample(ids, "".join(self.pieces(ids)), entropy[:length].copy(), ids[-1] in self.eos)

    @torch.inference_mode()
    def score(self, prompts, completions) -> list[Score]:
        """See `Engine.score`. Right-padded, so causal attention needs no mask."""
        if any(not p for p in prompts) or any(not c for c in completions):
            raise HealError("nothing to score: a prompt or a completion is empty; drop empty trajectories first")
        rows = [[*p, *c] for p, c in zip(prompts, completions, strict=True)]
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        out: list = [None] * len(rows)
        while order:
            take = max(1, self.batch_tokens // len(rows[order[-1]]))
            chosen, order = order[-take:], order[:-take]
            width = len(rows[chosen[-1]])
            padded = [rows[i] + [self.pad] * (width - len(rows[i])) for i in chosen]
            ids = torch.tensor(padded, device=self.model.device)
            logits = self.model(input_ids=ids).logits
            for k, i in enumerate(chosen):
                at = slice(len(prompts[i]) - 1, len(rows[i]) - 1)
                mine, target = logits[k, at].float(), ids[k, at.start + 1 : at.stop + 1]
                out[i] = Score(*(x.cpu().numpy() for x in (token_nll(mine, target), token_entropy(mine),
                                                           self_certainty(mine))))
        return out

    @torch.inference_mode()
    def tail_nll(self, prompts, completions, ends, tails) -> list[np.ndarray]:
        """See `Engine.tail_nll`. A row's tails are all appended to it once; each sees only its prefix and itself."""
        if not all(map(len, tails)):
            raise HealError("the answer has no tokens; check that the problem's answer is not empty")
        if not all(map(len, prompts)):
            raise HealError("an empty prompt; give at least one token")
        sizes = [len(p) + len(c) + len(e) * len(t)
                 for p, c, e, t in zip(prompts, completions, ends, tails, strict=True)]
        out: list = [None] * len(sizes)
        order = sorted(range(len(sizes)), key=lambda i: sizes[i])
        while order:
            take = max(1, self.batch_tokens // sizes[order[-1]])
            chosen, order = order[-take:], order[:-take]
            rows = [_with_tails(prompts[i], completions[i], ends[i], tails[i], max(sizes[j] for j in chosen), self.pad)
                    for i in chosen]
            ids, positions, allowed = (torch.stack(part).to(self.model.device)
                                       for part in zip(*(row[:3] for row in rows), strict=True))
            mask = torch.zeros(allowed.shape, dtype=self.model.dtype, device=self.model.device)
            mask.masked_fill_(~allowed, torch.finfo(self.model.dtype).min)
            logits = self.model(input_ids=ids, attention_mask=mask[:, None], position_ids=positions).logits
            for k, i in enumerate(chosen):
                target = torch.tensor([list(tails[i])] * len(ends[i]), device=logits.device)
                out[i] = token_nll(logits[k, rows[k][3]].float(), target).cpu().numpy()
        return out


def _with_tails(prompt, completion, ends, tail, width: int, pad: int):
    """One row of `tail_nll`, padded to `width`: ids, positions, what each token may see [width, width], and the places
    [len(ends), len(tail)] whose logits predict the tails."""
    body, m = [*prompt, *completion], len(tail)
    ids, positions = body + list(tail) * len(ends), list(range(len(body)))
    allowed = torch.eye(width, dtype=torch.bool)  # padding sees itself, so that no row of the softmax is empty
    allowed[: len(body), : len(body)] = torch.ones(len(body), len(body)).tril().bool()
    places = []
    for k, end in enumerate(ends):
        seen, at = len(prompt) + end, len(body) + k * m
        allowed[at : at + m, :seen] = True
        allowed[at : at + m, at : at + m] = torch.ones(m, m).tril().bool()
        positions += range(seen, seen + m)
        places.append([seen - 1, *range(at, at + m - 1)])
    filler = width - len(ids)
    return (torch.tensor(ids + [pad] * filler), torch.tensor(positions + [0] * filler), allowed,
            torch.tensor(places, dtype=torch.long).reshape(len(ends), m))


class BlockLayer(DynamicLayer):
    """A cache layer that reserves room for `block` tokens at a time (DynamicLayer copies itself at each token)."""

    block = 64

    def update(self, key_states, value_states, *args, **kwargs):
        """Appends [batch, heads, new, width] states; returns all of them."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self._rooms = {}
        self.keys = self._append("keys", self.keys, key_states)
        self.values = self._append("values", self.values, value_states)
        return self.keys, self.values

    def _append(self, name: str, old, new):
        start = old.shape[-2] if old.numel() else 0
        end, room = start + new.shape[-2], self._rooms.get(name)
        if room is None or room.data_ptr() != old.data_ptr() or room.shape[-2] < end:
            room = self._rooms[name] = new.new_empty(*new.shape[:-2], end + self.block, new.shape[-1])
            if start:
                room[..., :start, :] = old
        room[..., start:end, :] = new
        return room[..., :end, :]


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
