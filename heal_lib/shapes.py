"""The sizes of models, computed from their configurations: weights, adapters, bytes of the cache.

A model is one of MODELS, or a local folder; `transformers` builds it without memory to count its weights."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from heal_lib.errors import HealError

# Shapes of the Qwen3 family, as on its model cards; everything else is computed from them.
_SMALL = {"num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151_936}
MODELS = {
    "Qwen3-0.6B": {**_SMALL, "hidden_size": 1024, "num_hidden_layers": 28, "num_attention_heads": 16,
                   "intermediate_size": 3072, "tie_word_embeddings": True},
    "Qwen3-1.7B": {**_SMALL, "hidden_size": 2048, "num_hidden_layers": 28, "num_attention_heads": 16,
                   "intermediate_size": 6144, "tie_word_embeddings": True},
    "Qwen3-4B": {**_SMALL, "hidden_size": 2560, "num_hidden_layers": 36, "num_attention_heads": 32,
                 "intermediate_size": 9728, "tie_word_embeddings": True},
    "Qwen3-8B": {**_SMALL, "hidden_size": 4096, "num_hidden_layers": 36, "num_attention_heads": 32,
                 "intermediate_size": 12_288, "tie_word_embeddings": False},
    "Qwen3-14B": {**_SMALL, "hidden_size": 5120, "num_hidden_layers": 40, "num_attention_heads": 40,
                  "intermediate_size": 17_408, "tie_word_embeddings": False},
    "Qwen3-32B": {**_SMALL, "hidden_size": 5120, "num_hidden_layers": 64, "num_attention_heads": 64,
                  "intermediate_size": 25_600, "tie_word_embeddings": False},
}
# Bytes per weight. 4-bit (NF4): half a byte, block scales, and embeddings left in 16 bits.
FOUR_BIT = 0.5 + 4.5 / 64


@cache
def _config(name: str):
    from transformers import AutoConfig, Qwen3Config

    if name in MODELS:
        return Qwen3Config(**MODELS[name])
    with _readable(name):
        found = AutoConfig.from_pretrained(name, local_files_only=True, trust_remote_code=False)
        return found.get_text_config(decoder=True)  # of a model that sees as well, the part that writes


@contextlib.contextmanager
def _readable(name: str) -> Iterator[None]:
    """What cannot be read of a model is one line. The library has many kinds of errors for it, some of its own."""
    try:
        yield
    except Exception as error:
        what, why = f"unknown model '{name}'", str(error).partition("\n")[0][:80]
        if Path(name).is_dir():
            what = f"{name}: its config.json is of no model to plan with ({why})"
        raise HealError(f"{what}; choose one of {', '.join(MODELS)}, or a local folder") from None


@cache
def shape(name: str) -> tuple[int, int, int, int, int, int]:
    """(layers, vocabulary, width of a layer's input, of its inner layer, of all its queries, of all its keys). Many
    configurations leave out what follows from the rest."""
    c = _config(name)
    with _readable(name):
        heads = c.num_attention_heads
        width = getattr(c, "head_dim", None) or c.hidden_size // heads
        keys = getattr(c, "num_key_value_heads", None) or heads
        inner = getattr(c, "intermediate_size", None) or 4 * c.hidden_size
        sizes = c.num_hidden_layers, c.vocab_size, c.hidden_size, inner, heads * width, keys * width
    return sizes


@cache
def parameters(name: str) -> tuple[int, int]:
    """(all weights, those of embedding and output) of a model, counted on the library's own modules."""
    import torch
    from transformers import AutoModelForCausalLM

    config = _config(name)
    with _readable(name), torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
        shared = {id(p): p.numel() for p in model.parameters()}
        ends = {id(p): p.numel() for m in (model.get_input_embeddings(), model.get_output_embeddings())
                for p in m.parameters()}
    return sum(shared.values()), sum(ends.values())


def weights(name: str, bits: int) -> float:
    """Bytes of the weights; in 4 bits all but embedding and output."""
    every, ends = parameters(name)
    if bits not in (4, 16, 32):
        raise HealError(f"{bits} bits per weight; choose 4, 16 or 32")
    return (every - ends) * FOUR_BIT + ends * 2 if bits == 4 else every * bits / 8


def cache_per_token(name: str) -> int:
    """Bytes of keys and values that one token leaves in the cache, in 16 bits."""
    layers, *_, keys = shape(name)
    return 2 * layers * keys * 2


def lora_parameters(name: str, rank: int) -> int:
    """Weights of adapters on all seven projections of every layer."""
    layers, _, h, m, q, kv = shape(name)
    pairs = [(h, q), (h, kv), (h, kv), (q, h), (h, m), (h, m), (m, h)]
    return layers * rank * sum(a + b for a, b in pairs)
