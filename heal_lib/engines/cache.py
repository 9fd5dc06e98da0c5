"""What a model remembers of the tokens it has read: keys and values that grow in place."""

from __future__ import annotations

from transformers import Cache
from transformers.cache_utils import DynamicLayer


def empty(model) -> Cache:
    """A cache for that model with nothing in it."""
    return Cache(layers=[BlockLayer() for _ in range(model.config.num_hidden_layers)])


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
