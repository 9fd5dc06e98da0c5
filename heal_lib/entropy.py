"""Token and step uncertainty: pure functions on arrays, in nats (docs/method.md, section 0).

    H_t   = -sum_v p(v) ln p(v),  p = softmax(raw logits), full vocabulary     token entropy [P/R]
    NLL_t = -ln p(token drawn)                                                 surprisal, which is no entropy
    D_k   = mean H over step k - mean H over step k-1                          surge [R]
    PPL_k = exp(mean NLL over step k)                                          step perplexity [S]

Token entropy asks how undecided the model was *before* it drew; it does not depend on the token drawn. Take
the logits raw: before temperature, top-k and top-p, and never cut to the top few.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import special

from heal_lib.errors import HealError, as_floats

if TYPE_CHECKING:
    import torch
    from numpy.typing import ArrayLike


def _torch_of(x):
    """The torch module if `x` is a torch tensor, else None. A tensor implies that torch is already loaded."""
    torch = sys.modules.get("torch")
    return torch if torch is not None and isinstance(x, torch.Tensor) else None


def _checked_logits(logits):
    """(array or tensor in at least float32, torch or None); -inf is a legal logit, NaN and +inf are not."""
    torch = _torch_of(logits)
    if torch:
        wide = logits.dtype in (torch.float32, torch.float64)
        x = logits if wide else logits.float()
    else:
        x = np.asarray(logits)
        if x.dtype.kind not in "fiu":
            raise HealError(f"logits: dtype {x.dtype} is not real numbers; pass raw logits [..., V]")
        narrow = x.dtype.kind == "f" and x.dtype.itemsize <= 4
        x = x.astype(np.float32 if narrow else np.float64, copy=False)
    if x.ndim == 0 or x.shape[-1] == 0:
        raise HealError("logits: no vocabulary axis; pass raw logits of shape [..., V] with V >= 1")
    # One look at each row's maximum finds NaN (it propagates), +inf, and rows that are -inf throughout.
    top = x.amax(-1) if torch else x.max(-1)
    if not (torch or np).isfinite(top).all():
        raise HealError("logits: a row holds NaN or +inf, or is -inf throughout; mask padding rows out first")
    return x, torch


def token_entropy(logits: ArrayLike | torch.Tensor) -> Any:
    """Full-vocabulary entropy of the next-token distribution [P; full vocabulary and raw logits R].

    `logits`: numpy array (or nested list) or torch tensor [..., V]; a logit may be -inf (0 ln 0 = 0).
    Returns [...] in nats, 0 to ln V, as the same kind, on the same device, in float32, or float64 if that
    was given. Working memory is about twice the logits: slice long sequences. HealError on NaN, +inf, an
    all -inf row or V = 0.
    """
    x, torch = _checked_logits(logits)
    if torch:
        return torch.special.entr(torch.softmax(x, -1)).sum(-1)
    return special.entr(special.softmax(x, axis=-1)).sum(-1)


def self_certainty(logits: ArrayLike | torch.Tensor) -> Any:
    """KL divergence of the uniform distribution from the next-token distribution, -ln V - mean_v ln p(v): the more,
    the surer the model (Kang et al. 2025, arXiv 2502.18581). Logits [..., V] to [...] nats; inf where a logit is -inf.
    HealError as in `token_entropy`."""
    x, torch = _checked_logits(logits)
    logp = torch.log_softmax(x, -1) if torch else special.log_softmax(x, axis=-1)
    return -math.log(x.shape[-1]) - logp.mean(-1)


def token_nll(logits: ArrayLike | torch.Tensor, ids: Any) -> Any:
    """Surprisal -ln p(id) in nats: logits [..., V], integer ids [...] to [...]; inf where the logit is -inf.

    This is what perplexity is made of, and what must not be called entropy. HealError as in
    `token_entropy`, and on ids of another shape or outside 0..V-1 (a label mask of -100 would pick a wrong
    token in silence).
    """
    x, torch = _checked_logits(logits)
    ids = torch.as_tensor(ids, device=x.device) if torch else np.asarray(ids)
    if tuple(ids.shape) != tuple(x.shape[:-1]):
        raise HealError(
            f"ids: shape {tuple(ids.shape)}; logits of shape {tuple(x.shape)} need one id per row"
        )
    whole = not (ids.is_floating_point() or ids.dtype == torch.bool) if torch else ids.dtype.kind in "iu"
    if not whole or ((ids < 0) | (ids >= x.shape[-1])).any():
        raise HealError(f"ids: need integers in 0..{x.shape[-1] - 1}; drop masked positions (-100) first")
    if torch:
        return -torch.log_softmax(x, -1).gather(-1, ids.long()[..., None])[..., 0]
    return -np.take_along_axis(special.log_softmax(x, axis=-1), ids[..., None].astype(np.intp), -1)[..., 0]


def step_means(values: ArrayLike, spans: Sequence[tuple[int, int]]) -> np.ndarray:
    """Mean of a token quantity over each step: values [T], K spans (start, end), end exclusive, to [K].

    Same unit as `values`. HealError on no spans, an empty span, or a span that runs over the end of `values`.
    """
    values = as_floats(values, "token values")
    if values.ndim != 1:
        raise HealError(f"token values: shape {values.shape}; pass one trajectory at a time, shape [T]")
    if len(spans) == 0:
        raise HealError("spans: no steps; leave out trajectories without tokens")
    for start, end in spans:
        if not 0 <= start < end <= len(values):
            raise HealError(f"spans: ({start}, {end}) is empty or outside 0..{len(values)}; use step_spans")
    return np.array([values[start:end].mean() for start, end in spans])


def surge(step_entropy: ArrayLike, kind: str = "difference") -> np.ndarray:
    """How sharply uncertainty rises at each step: [K] nats to [K] nats.

    "difference" [R]: D_k, with NaN at the first step (none before it). "value" [R]: the entropy itself.
    """
    h = as_floats(step_entropy, "step entropy")
    if h.ndim != 1:
        raise HealError(f"step entropy: shape {h.shape}; pass one trajectory at a time, shape [K]")
    if kind == "difference":
        return np.diff(h, prepend=np.nan)
    if kind == "value":
        return h
    raise HealError(f"surge: unknown kind {kind!r}; use 'difference' or 'value'")


def step_perplexity(nll: ArrayLike, spans: Sequence[tuple[int, int]]) -> np.ndarray:
    """PPL_k = exp(mean NLL of the step) >= 1: token NLL [T] in nats, **no hint in context**, to [K]."""
    with np.errstate(over="ignore"):  # a (nearly) impossible token makes the step's perplexity inf
        return np.exp(step_means(nll, spans))
