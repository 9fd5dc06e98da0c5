"""What a model remembers of the tokens it has read: keys and values that grow in place, and who may see which."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from transformers import Cache, DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from heal_lib.errors import HealError

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel


def check(config: PreTrainedConfig) -> None:
    """Raises HealError for a model that remembers by other means: a recurrent state cannot go back to a prefix."""
    use = "use one whose every layer is attention"
    try:
        layers = DynamicCache(config=config).layers
    except (AttributeError, KeyError, TypeError) as error:
        raise HealError(f"a model of type '{config.model_type}': transformers makes no cache for it ({error}); "
                        f"{use}") from error
    if not {type(layer) for layer in layers} <= {DynamicLayer, DynamicSlidingWindowLayer}:
        raise HealError(f"a model of type '{config.model_type}' is recurrent, a hybrid, or keeps more than keys and "
                        f"values, which the engines cannot take back to a prefix; {use}")


def empty(model: PreTrainedModel) -> Cache:
    """A cache for that model with nothing in it. All layers keep every token: the masks know of windows."""
    return Cache(layers=[BlockLayer() for _ in DynamicCache(config=model.config).layers])


def masks(model: PreTrainedModel, seen: torch.Tensor, queries: torch.Tensor,
          keys: torch.Tensor) -> torch.Tensor | dict[str, torch.Tensor]:
    """`seen` [batch, Q, K], who may see whom, for a model's layers: additive [batch, 1, Q, K], one for each kind of
    attention if there are several. queries [batch, Q] and keys [batch, K] are positions; a window is one of positions,
    where transformers takes a token's place in the cache."""
    config = model.config.get_text_config(decoder=True)
    window, chunk = (getattr(config, name, None) for name in ("sliding_window", "attention_chunk_size"))
    at, of = queries[..., None], keys[:, None]
    kinds = getattr(config, "layer_types", None) or [
        "sliding_attention" if window else "chunked_attention" if chunk else "full_attention"]

    def additive(kind):
        left = seen
        if kind == "sliding_attention":
            left = seen & (of > at - window)
        elif kind == "chunked_attention":
            left = seen & (of // chunk == at // chunk)
        mask = torch.zeros(seen[:, None].shape, dtype=model.dtype, device=seen.device)
        return mask.masked_fill_(~left[:, None], torch.finfo(mask.dtype).min)

    found = {kind: additive(kind) for kind in set(kinds)}
    return found if len(found) > 1 else found.popitem()[1]


class BlockLayer(DynamicLayer):
    """A cache layer that reserves room for `block` tokens at a time (DynamicLayer copies itself at each token)."""

    block = 64

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any,
               **kwargs: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """Appends [batch, heads, new, width] states; returns all of them."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self._rooms = {}
        self.keys: torch.Tensor = self._append("keys", self.keys, key_states)
        self.values: torch.Tensor = self._append("values", self.values, value_states)
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
