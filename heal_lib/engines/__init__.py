"""Engines draw and score text. One protocol; `hf` is the default. No engine knows a world.

Token entropy is over the full vocabulary, from raw logits, in nats. An engine that cannot give that must score
in a second pass instead (docs/method.md, section 0)."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from heal_lib.errors import HealError


def device() -> str:
    """Where models run: the variable DEVICE, "cpu" (the default) or "cuda". Raises HealError for what is not there."""
    name = os.environ.get("DEVICE") or "cpu"
    if name not in ("cpu", "cuda"):
        raise HealError(f"DEVICE={name}: use cpu or cuda")
    if name == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise HealError("DEVICE=cuda: this torch sees no CUDA GPU; leave DEVICE out to run on the CPU")
    return name


def one_thread() -> None:
    """On a CPU, torch computes with one thread from now on: with more, sums are rounded in another order, and the last
    bits of a result would tell how many cores the machine has. Processes share the work instead."""
    import torch

    if device() == "cpu":
        torch.set_num_threads(1)


def needs(package: str) -> None:
    """Raises HealError where the package of an engine is not installed; the extra is called as the package."""
    if importlib.util.find_spec(package) is None:
        raise HealError(f"engine '{package}' needs a package that is not here; run: pip install '.[{package}]'")


@dataclass(frozen=True)
class SamplingParams:
    """How tokens are drawn. top_k = 0 and top_p = 1 leave the distribution whole. max_new_tokens in tokens."""

    max_new_tokens: int
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0


@dataclass(frozen=True)
class Sample:
    """One draw. token_ids [T] with EOS if `finished`; entropy [T] in nats; text without EOS."""

    token_ids: list[int]
    text: str
    entropy: np.ndarray
    finished: bool


@dataclass(frozen=True)
class Score:
    """Teacher-forced reading of a completion: nll, entropy and self-certainty, [T] each, in nats."""

    nll: np.ndarray
    entropy: np.ndarray
    self_certainty: np.ndarray


class Engine(Protocol):
    """What GEAR, PURE and evaluation ask of a model. tokenizer: that of `transformers`; vocabulary: its fingerprint."""

    @property
    def tokenizer(self) -> Any: ...

    @property
    def vocabulary(self) -> str: ...

    def encode(self, text: str) -> list[int]:
        """Token ids of a text that goes on from another, no special tokens."""

    def prompt(self, question: str) -> list[int]:
        """Token ids of a question as the model expects it, up to where the model goes on: an open assistant turn if
        the tokenizer has a chat template, else the text itself, after BOS if the tokenizer adds one."""

    def pieces(self, token_ids: Sequence[int]) -> list[str]:
        """Text of each token; joined they are the text. EOS and pad give ""."""

    def sample(self, prompts: Sequence[Sequence[int]], n: int, params: SamplingParams, seed: int,
               keys: Sequence[str] | None = None) -> list[list[Sample]]:
        """n draws per prompt. A draw depends on (seed, key, its index) alone, not on the batch around it;
        keys default to the prompt's position."""

    def score(self, prompts: Sequence[Sequence[int]], completions: Sequence[Sequence[int]]) -> list[Score]:
        """One pass over prompt + completion."""

    def tail_nll(self, prompts: Sequence[Sequence[int]], completions: Sequence[Sequence[int]],
                 ends: Sequence[Sequence[int]], tails: Sequence[Sequence[int]]) -> list[np.ndarray]:
        """For each row, nll [len(ends), len(tail)] of its `tail` placed after the first `end` tokens of its completion,
        for each of its ends."""
