"""Architectures of the embedded models: Qwen3 as `transformers` has it, only small."""

SIZES = {
    "teacher": {"hidden_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 512},
    "student": {"hidden_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 256},
}
CONTEXT = 512  # tokens


def new_model(size: str, tokenizer, seed: int):
    """An untrained `Qwen3ForCausalLM` of that size, in fp32."""
    from transformers import Qwen3Config, Qwen3ForCausalLM, set_seed

    set_seed(seed)
    shape = SIZES[size]
    heads = shape["num_attention_heads"]
    config = Qwen3Config(
        **shape, vocab_size=len(tokenizer), num_key_value_heads=heads, head_dim=shape["hidden_size"] // heads,
        max_position_embeddings=CONTEXT, tie_word_embeddings=True, initializer_range=0.05, bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )
    return Qwen3ForCausalLM(config).float()
