"""The hf engine on tiny random models of many classes, against plain forward passes; others are refused by name.

Their weights are enlarged, so that a token sees far: a wrong mask, position or cache changes what comes out."""

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from heal_lib import backends, embedded
from heal_lib.engines import SamplingParams, reading
from heal_lib.engines.hf import HFEngine
from heal_lib.errors import HealError

SHAPE = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4, "head_dim": 8,
         "num_key_value_heads": 2, "intermediate_size": 48, "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2}
WINDOW, EXPERTS = {"sliding_window": 5}, {"num_local_experts": 4, "num_experts_per_tok": 2}
MIXED = {**WINDOW, "layer_types": ["sliding_attention", "full_attention"] * 2}
CHUNKED = {"attention_chunk_size": 5, "layer_types": ["chunked_attention", "full_attention"] * 2}
BESIDE = {  # answers are read side by side, each behind its own prefix
    "llama": {}, "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4}, "mistral": WINDOW, "mixtral": {**WINDOW, **EXPERTS},
    "phi3": WINDOW, "starcoder2": WINDOW, "qwen2": {**WINDOW, "use_sliding_window": True, "max_window_layers": 2},
    "qwen3": {**MIXED, "use_sliding_window": True}, "gemma2": MIXED, "gemma3_text": MIXED, "olmo3": MIXED,
    "cohere2": MIXED, "gpt_oss": {**MIXED, **EXPERTS}, "llama4_text": {**CHUNKED, **EXPERTS},
    "gemma3n_text": {**MIXED, "num_kv_shared_layers": 2, "hidden_size_per_layer_input": 8,
                     "vocab_size_per_layer_input": 64, "activation_sparsity_pattern": [0.0] * 4},
}
ALONE = {  # positions are no argument, or a window is hidden within the layers: one by one
    "bloom": {"n_layer": 2, "n_head": 4}, "mpt": {"d_model": 32, "n_layers": 2, "n_heads": 4},
    "falcon": {"alibi": True, "head_dim": None},
    "gpt_neo": {"window_size": 16, "attention_types": [[["global", "local"], 2]]},
}
REFUSED = {
    "mamba": {"state_size": 4}, "mamba2": {"num_heads": 8, "state_size": 4, "n_groups": 1}, "rwkv": {},
    "lfm2": {"layer_types": ["conv", "full_attention"] * 2}, "recurrent_gemma": {"lru_width": 32},
    "qwen3_next": {"layer_types": ["linear_attention", "full_attention"] * 2, "num_experts": 4},
    "bert": {}, "bart": {"d_model": 32, "decoder_layers": 2, "decoder_attention_heads": 4, "decoder_ffn_dim": 48},
}
PROMPTS = [[5, 9, 33], [7, 40, 21, 8, 60, 11, 29, 30, 12], [50, 6, 6, 17, 23, 48]]


class Numbers:
    """A tokenizer that needs no text: 64 numbers."""

    pad_token_id, eos_token_id, unk_token_id, all_special_ids, chat_template = 0, 1, None, [0, 1], None

    def decode(self, ids, **_):
        return "".join(f" {i}" for i in ids)

    def get_vocab(self):
        return {f" {i}": i for i in range(64)}


def made(kind, extra):
    settings = {name: value for name, value in {**SHAPE, **extra}.items() if value is not None}
    config = AutoConfig.for_model(kind, **settings)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for values in model.parameters():
            if values.ndim > 1:
                torch.nn.init.normal_(values, std=0.25)
    return model


@pytest.fixture(scope="module", params=[*BESIDE, *ALONE])
def engine(request):
    torch.set_num_threads(1)
    out = HFEngine(made(request.param, {**BESIDE, **ALONE}[request.param]), Numbers())
    out.eos = {-1}
    assert out.side_by_side == (request.param in BESIDE)
    return out


def plain(engine, ids):
    """[T, V] log-probabilities after each token, of one forward pass without a cache or a mask."""
    with torch.inference_mode():
        logits = engine.model(input_ids=torch.tensor([ids]), use_cache=False).logits[0]
    return torch.log_softmax(logits.double(), -1).numpy()


def completions():
    rng = np.random.default_rng(0)
    return [rng.integers(3, 64, n).tolist() for n in (12, 22, 7)]


def test_answers_are_scored_as_if_each_were_read_alone(engine):
    ends, tails = [[0, 4, 12], [0, 3, 11, 17, 22], [7]], [[5, 6, 7], [9, 10, 11, 12, 13, 14], [4]]
    said = completions()
    found = engine.tail_nll(PROMPTS, said, ends, tails)
    for prompt, completion, its, tail, nll in zip(PROMPTS, said, ends, tails, found, strict=True):
        assert nll.shape == (len(its), len(tail))
        for end, row in zip(its, nll, strict=True):
            seen = [*prompt, *completion[:end]]
            alone = -plain(engine, [*seen, *tail])[range(len(seen) - 1, len(seen) + len(tail) - 1), tail]
            np.testing.assert_allclose(row, alone, atol=1e-3)


@pytest.mark.parametrize("tokens", [2**20, 3])
def test_texts_are_scored_as_one_forward_pass_scores_them(engine, monkeypatch, tokens):
    monkeypatch.setattr(reading, "SLICE", 4 * 64 * len(PROMPTS) * tokens)
    said = completions()
    for prompt, completion, score in zip(PROMPTS, said, engine.score(PROMPTS, said), strict=True):
        ids = [*prompt, *completion]
        nll = -plain(engine, ids)[range(len(prompt) - 1, len(ids) - 1), completion]
        np.testing.assert_allclose(score.nll, nll, atol=1e-3)


def test_draws_have_the_entropies_of_one_forward_pass(engine):
    for prompt, draws in zip(PROMPTS, engine.sample(PROMPTS, 2, SamplingParams(14), 0), strict=True):
        for draw in draws:
            logp = plain(engine, [*prompt, *draw.token_ids])[len(prompt) - 1 : -1]
            np.testing.assert_allclose(draw.entropy, -(np.exp(logp) * logp).sum(-1), atol=1e-3)


@pytest.mark.parametrize("kind", ["llama", "gemma2", "mixtral", "mpt", "falcon", "bart", "bert"])
def test_half_precision_changes_no_verdict(kind):
    model = made(kind, {**BESIDE, **ALONE, **REFUSED}[kind]).bfloat16()
    if kind in REFUSED:
        with pytest.raises(HealError, match=f"a model of type '{kind}' reads otherwise"):
            HFEngine(model, Numbers())
    else:
        assert HFEngine(model, Numbers()).side_by_side == (kind in BESIDE)


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_read_rightly_is_refused_by_name(kind, tmp_path, words):
    """When an engine is made; and where its layers already tell, when it is loaded to be read or trained."""
    model = made(kind, REFUSED[kind])
    with pytest.raises(HealError, match=f"a model of type '{kind}' .*; use ") as caught:
        HFEngine(model, Numbers())
    assert "\n" not in str(caught.value)
    if kind in ("lfm2", "qwen3_next", "mamba"):
        model.save_pretrained(tmp_path)
        words.save_pretrained(tmp_path)
        for load in (embedded.load, lambda folder: backends.load(folder, backends.Finetune())):
            with pytest.raises(HealError, match=f"a model of type '{kind}' is recurrent"):
                load(str(tmp_path))


def test_a_class_that_transformers_does_not_know_is_one_line(models_folder, tmp_path):
    model, words = embedded.load(str(models_folder / "student"))
    model.save_pretrained(tmp_path)
    words.save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(path.read_text().replace('"qwen3"', '"qwen99"'))
    with pytest.raises(HealError, match="transformers cannot read its config.json .*qwen99.*use a model that it knows"):
        embedded.load(str(tmp_path))
