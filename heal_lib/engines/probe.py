"""Whether a model can be read as the engines read it: tried once on a dozen tokens, against plain forward passes.

A class of models may ignore positions, build its own masks, or look at what comes after: only its logits say so."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from heal_lib.engines import cache
from heal_lib.errors import HealError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

TOKENS, CUT = 12, 5


@torch.inference_mode()
def side_by_side(model: PreTrainedModel, tails: Callable[..., torch.Tensor]) -> bool:
    """Whether answers can be read side by side (`tails` does so, see `Reader.tail_nll`); if not, one by one is right.

    Raises HealError for a model that would be drawn from, or scored, wrongly."""
    config = model.config
    settings = config.get_text_config(decoder=True).to_dict()
    draw = torch.Generator().manual_seed(0)
    ids = torch.randint(settings["vocab_size"], (1, TOKENS), generator=draw).to(model.device)
    try:
        alike = _decodes(model, ids)
    except (AttributeError, IndexError, KeyError, NotImplementedError, RuntimeError, TypeError, ValueError) as error:
        why = str(error).strip().partition("\n")[0][:120]
        raise HealError(f"a model of type '{config.model_type}' cannot be read as the engines do ({why}); "
                        "use a causal language model that takes a cache and positions") from error
    if not alike:
        raise HealError(f"a model of type '{config.model_type}' reads otherwise in a padded batch, or with a cache, "
                        "than alone, so its draws would be wrong; use a causal language model that takes positions")
    if any(value for name, value in settings.items() if name.endswith("window_size")):
        return False  # a window within the layers (GPT-Neo): wider than what is tried here
    return _answers(model, ids, tails)


def _plain(model, ids):
    return model(input_ids=ids, use_cache=False).logits


def _decodes(model, ids) -> bool:
    """A text alone in two slices; and with its own ending, padded on the left, in one batch, token by token."""
    read = cache.empty(model)
    alone = [model(input_ids=part, past_key_values=read, use_cache=True).logits for part in ids.split(CUT, 1)]
    short = ids[:, CUT:]
    pad = torch.zeros_like(ids[:, :CUT])
    both, mask = torch.cat([ids, torch.cat([pad, short], 1)]), torch.ones_like(ids).repeat(2, 1)
    mask[1, :CUT] = 0
    positions, read, found = (mask.cumsum(-1) - 1).clamp(min=0), cache.empty(model), []
    for start, end in ((0, 8), (8, 9), (9, 10), (10, TOKENS)):
        found.append(model(input_ids=both[:, start:end], attention_mask=mask[:, :end], past_key_values=read,
                           position_ids=positions[:, start:end]).logits)
    long, padded = torch.cat(found, 1)
    whole, ending = _plain(model, ids)[0], _plain(model, short)[0]
    return all(_same(found, plain, 0.15) for found, plain in (
        (torch.cat(alone, 1)[0], whole), (long, whole), (padded[CUT:], ending)))


def _answers(model, ids, tails) -> bool:
    """Two answers of three tokens, each after its own prefix of a text of seven."""
    text, answer, seen = ids[:, :7], ids[0, 7:10].tolist(), [3, 6]
    read = cache.empty(model)
    model(input_ids=text, past_key_values=read, use_cache=True)
    try:
        found = tails(read, [(seen, answer)])[0]
    except (RuntimeError, TypeError, ValueError):  # takes no mask of this form
        return False
    alone = [_plain(model, torch.cat([ids[:, :n], ids[:, 7:9]], 1))[0, n:] for n in seen]
    return _same(found, torch.cat(alone), 0.03)  # where in doubt, the slower way


def _same(found, plain, half: float) -> bool:
    """Whether logits [T, V] agree up to rounding, measured by how much those of a token differ among themselves. In
    half precision, where rounding may send a token to another expert, most tokens have to: by less than `half`."""
    whole = found.dtype in (torch.float32, torch.float64)
    found, plain = found.float(), plain.float()
    spread = (plain - plain.mean(-1, keepdim=True)).norm(dim=-1)
    off = (found - plain).norm(dim=-1) > spread * (1e-3 if whole else half)
    return off.float().mean().item() < (1e-9 if whole else 0.5)
