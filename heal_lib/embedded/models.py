"""Architectures of the embedded models: Qwen3 as `transformers` has it, only small."""

from __future__ import annotations

from typing import TYPE_CHECKING

from heal_lib.embedded.tokenizer import EDGES

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, Qwen3ForCausalLM

SIZES = {
    "teacher": {"hidden_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 512},
    "small": {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 160},
    "big-teacher": {"hidden_size": 512, "num_hidden_layers": 8, "num_attention_heads": 8, "intermediate_size": 2048},
    "big-student": {"hidden_size": 256, "num_hidden_layers": 6, "num_attention_heads": 4, "intermediate_size": 768},
    "student": {"hidden_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 256},
}
CONTEXT = 512  # tokens


def new_model(size: str, tokenizer: PreTrainedTokenizerBase, seed: int) -> Qwen3ForCausalLM:
    """An untrained `Qwen3ForCausalLM` of that size, in fp32."""
    from transformers import Qwen3Config, Qwen3ForCausalLM, set_seed

    from heal_lib.engines import one_thread

    one_thread()
    set_seed(seed)
    shape = SIZES[size]
    heads = shape["num_attention_heads"]
    config = Qwen3Config(
        **shape, vocab_size=len(tokenizer), num_key_value_heads=heads, head_dim=shape["hidden_size"] // heads,
        max_position_embeddings=CONTEXT, tie_word_embeddings=False, initializer_range=0.05, bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )
    model = Qwen3ForCausalLM(config).float()
    if EDGES[0] in tokenizer.get_vocab():
        _compose_edges(model, tokenizer, seed)
    return model


def _compose_edges(model, tokenizer, seed: int) -> None:
    """Lets the token of an edge start as the sum of its two letters, each turned in a way of its own, on both ends of
    the model. There are 650 of them, each read too rarely for its letters to be found out one by one."""
    import torch

    words, rng = model.get_input_embeddings().weight, torch.Generator().manual_seed(seed)
    turns = [torch.linalg.qr(torch.randn(2 * words.shape[1:], generator=rng))[0] for _ in range(2)]
    tail, head, edges = (tokenizer.convert_tokens_to_ids(tokens) for tokens in
                         ([e[1] for e in EDGES], [e[-1] for e in EDGES], EDGES))
    with torch.no_grad():
        words[edges] = (words[tail] @ turns[0] + words[head] @ turns[1]) / 2**0.5 + 0.2 * words[edges]
        model.get_output_embeddings().weight.copy_(words)
