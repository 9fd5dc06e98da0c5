"""Training backends: transformers with and without adapters; what Unsloth needs is said where it is missing."""

import shutil
import sys
import types

import pytest
import torch
from safetensors.torch import load_file

from heal_lib import backends, training
from heal_lib.backends import Finetune
from heal_lib.errors import HealError

LORA = Finetune(method="lora", rank=4)


def row(words):
    prompt, rest = (words.encode(part) for part in ("equation x*3+2=23\n\n", "23-2=21\n\n21/3=7\n\n\\boxed{7}"))
    ids = [*prompt, *rest, words.eos_token_id]
    return {"input_ids": ids, "completion_mask": [int(i >= len(prompt)) for i in range(len(ids))]}


@pytest.fixture
def base(models_folder):
    torch.set_num_threads(1)
    return str(models_folder / "student")


def train(base, words, folder, how, n_stages=2):
    configs = [training.TrainConfig(learning_rate=1e-2, batch_size=4, seed=i) for i in range(n_stages)]
    logs = training.train(base, [[row(words)] * 16] * n_stages, configs, folder, how)
    weights = [load_file(folder / f"stage-{i + 1}" / "model.safetensors") for i in range(n_stages)]
    return logs, weights


@pytest.mark.parametrize("how", [Finetune(), LORA])
def test_stages_go_on_on_the_same_weights_and_each_is_a_whole_model(base, words, tmp_path, how):
    logs, (first, second) = train(base, words, tmp_path, how)
    assert logs[0][0]["loss"] > logs[0][-1]["loss"] > logs[1][-1]["loss"]
    start = load_file(f"{base}/model.safetensors")
    assert first.keys() == second.keys() == start.keys()  # no adapter in it
    changed = {name for name in start if not torch.equal(start[name], first[name])}
    assert changed and any(not torch.equal(first[name], second[name]) for name in changed)
    if how is LORA:
        assert {name.split(".")[-2] for name in changed} == set(backends.TARGETS)
    assert not list(tmp_path.rglob("adapter*"))


def test_adapters_are_merged_to_what_they_gave(base, words, tmp_path):
    """To 1e-5, computed in 64 bits: in 32, logits of 30 are themselves 2e-5 off, and the two 2e-5 apart."""
    def told(model):
        with torch.inference_mode():
            return model.eval()(input_ids=torch.tensor([row(words)["input_ids"]])).logits

    model, tokenizer = backends.load(base, LORA)
    training.fit(model, tokenizer, [row(words)] * 8, training.TrainConfig(1e-2, 4))
    before = told(model)
    backends.save(model, tokenizer, tmp_path, LORA)
    assert torch.equal(told(model), before)  # the model is as it was
    merged, _ = backends.load(str(tmp_path), Finetune())
    torch.testing.assert_close(told(merged), before, atol=5e-5, rtol=0)
    torch.testing.assert_close(told(merged.double()), told(model.double()), atol=1e-5, rtol=0)


def test_a_model_in_sixteen_bits_is_trained_in_full_in_thirty_two_and_saved_as_it_came(base, words, tmp_path):
    """Steps of a thousandth of a weight vanish when added in bf16, which holds three digits."""
    from transformers import AutoModelForCausalLM

    half, config = tmp_path / "half", training.TrainConfig(1e-4, 4)
    AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16).save_pretrained(half)
    words.save_pretrained(half)
    model, tokenizer = backends.load(str(half), Finetune())
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    training.fit(model, tokenizer, [row(words)] * 8, config)
    moved = [(p - before[name]).abs().ne(0).float().mean() for name, p in model.named_parameters()]
    assert min(moved[-3:]) > 0.9
    backends.save(model, tokenizer, tmp_path / "stage-1", Finetune())
    assert {w.dtype for w in load_file(tmp_path / "stage-1" / "model.safetensors").values()} == {torch.bfloat16}
    assert model.dtype == torch.float32  # and goes on as it was
    again, _ = backends.load(str(tmp_path / "stage-1"), Finetune())
    torch.testing.assert_close(again.state_dict(), model.state_dict(), atol=1e-2, rtol=1e-2)


def test_adapters_of_a_model_in_sixteen_bits_learn_in_thirty_two(base, words, tmp_path):
    from transformers import AutoModelForCausalLM

    half = tmp_path / "half"
    AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16).save_pretrained(half)
    words.save_pretrained(half)
    model, tokenizer = backends.load(str(half), LORA)
    assert {p.dtype for p in model.parameters() if p.requires_grad} == {torch.float32}
    backends.save(model, tokenizer, tmp_path / "merged", LORA)
    assert {w.dtype for w in load_file(tmp_path / "merged" / "model.safetensors").values()} == {torch.bfloat16}


def test_a_model_that_joins_its_projections_is_adapted_in_all_of_them(words, tmp_path):
    from transformers import Phi3Config, Phi3ForCausalLM

    shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
             "num_key_value_heads": 2, "vocab_size": len(words), "pad_token_id": 0}
    Phi3ForCausalLM(Phi3Config(**shape)).save_pretrained(tmp_path)
    words.save_pretrained(tmp_path)
    model, _ = backends.load(str(tmp_path), LORA)
    adapted = {name.split(".lora_A")[0].rpartition(".")[2] for name, _ in model.named_parameters() if "lora_A" in name}
    assert adapted == {"qkv_proj", "o_proj", "gate_up_proj", "down_proj"}


@pytest.mark.parametrize("how", [Finetune(), LORA])
def test_computing_activations_again_changes_no_update(base, words, tmp_path, monkeypatch, how):
    kept, _ = train(base, words, tmp_path / "kept", how, n_stages=1)
    monkeypatch.setattr(training, "_recomputes", lambda model: True)
    again, _ = train(base, words, tmp_path / "again", how, n_stages=1)
    assert [e["loss"] for e in again[0]] == pytest.approx([e["loss"] for e in kept[0]], rel=1e-6)


def test_unsloth_is_told_the_longest_row_and_no_more_than_the_model_reads(base, words, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(backends, "check", lambda how: None)
    monkeypatch.setattr(training, "_attempt", lambda base, stages, configs, folder, how, *rest: asked.append(how))
    training.train(base, [[row(words)] * 2], [training.TrainConfig(1e-3, 2)], tmp_path, Finetune("unsloth"))
    assert asked[0].max_length == len(row(words)["input_ids"])
    monkeypatch.setitem(sys.modules, "unsloth", types.SimpleNamespace(FastLanguageModel=None))
    with pytest.raises(HealError, match="a row of 99999 tokens"):
        backends.load(base, Finetune("unsloth", max_length=99_999))


@pytest.mark.parametrize(("how", "said"), [(Finetune("unsloth"), "unsloth is not installed"),
                                           (Finetune(method="qlora"), "bitsandbytes is not installed")])
def test_what_is_not_installed_is_said_before_anything_is_drawn(monkeypatch, how, said):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(backends.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(HealError, match="set DEVICE=cuda"):
        backends.check(how)
    monkeypatch.setenv("DEVICE", "cuda")
    with pytest.raises(HealError, match=said):
        backends.check(how)


@pytest.mark.parametrize(("how", "said"), [
    (Finetune("unsloth"), "BACKEND=hf works here"), (Finetune(method="qlora"), "use lora or full"),
    (Finetune("axolotl"), "use hf or unsloth"), (Finetune(method="prefix"), "full, lora or qlora")])
def test_what_cannot_run_here_is_one_line(base, words, tmp_path, monkeypatch, how, said):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for call in (lambda: backends.load(base, how), lambda: train(base, words, tmp_path, how)):
        with pytest.raises(HealError, match=said) as caught:
            call()
        assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("method", "bits"), [("full", None), ("lora", "16bit"), ("qlora", "4bit")])
def test_unsloth_is_asked_for_the_method_and_nothing_remote(base, monkeypatch, method, bits):
    asked = []

    class Fast:
        @staticmethod
        def from_pretrained(path, **options):
            asked.append((path, options))
            return types.SimpleNamespace(dtype=torch.float32), "tokenizer"

        @staticmethod
        def get_peft_model(model, **options):
            asked.append(options)
            return "adapted"

    monkeypatch.setattr(backends, "check", lambda how: None)
    monkeypatch.setitem(sys.modules, "unsloth", types.SimpleNamespace(FastLanguageModel=Fast))
    model, _ = backends.load(base, Finetune("unsloth", method, rank=8, max_length=64))
    path, options = asked[0]
    assert path == base and options["use_exact_model_name"] and not options["trust_remote_code"]
    assert options["full_finetuning"] == (method == "full")
    assert [name for name in ("4bit", "16bit") if options[f"load_in_{name}"]] == [bits] * bool(bits)
    assert model.stored_dtype == torch.float32 if method == "full" else model == "adapted"
    assert method == "full" or asked[1]["r"] == asked[1]["lora_alpha"] == 8


def test_unsloth_s_student_in_full_is_saved_as_it_came(base, words, tmp_path, monkeypatch):
    """Unsloth trains it in 32 bits, and does not say what it was in."""
    from transformers import AutoModelForCausalLM

    half, how = tmp_path / "half", Finetune("unsloth", max_length=64)
    AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16).save_pretrained(half)
    fast = types.SimpleNamespace(from_pretrained=lambda path, **options: (
        AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32), words))
    monkeypatch.setattr(backends, "check", lambda how: None)
    monkeypatch.setitem(sys.modules, "unsloth", types.SimpleNamespace(FastLanguageModel=fast))
    model, tokenizer = backends.load(str(half), how)
    backends.save(model, tokenizer, tmp_path / "stage-1", how)
    assert {w.dtype for w in load_file(tmp_path / "stage-1" / "model.safetensors").values()} == {torch.bfloat16}
    assert model.dtype == torch.float32


# --- killed
@pytest.mark.parametrize("how", [Finetune(), pytest.param(LORA, marks=pytest.mark.slow)])
def test_a_run_of_stages_that_was_killed_ends_with_the_same_bits(base, words, tmp_path, monkeypatch, how):
    monkeypatch.setattr(training, "SAVE_EVERY", 1)
    stages, configs = [[row(words)] * 40] * 2, [training.TrainConfig(1e-2, 4, seed=i) for i in range(2)]
    ran, begun, fit = {}, [], training.fit
    for name, checkpoints in (("whole", None), ("first", tmp_path), ("again", tmp_path)):
        logs = training.train(base, stages, configs, tmp_path / name, how, checkpoints)
        losses = [[entry["loss"] for entry in log] for log in logs]
        ran[name] = losses, [load_file(tmp_path / name / f"stage-{i}" / "model.safetensors") for i in (1, 2)]
        if name == "first":
            shutil.rmtree(tmp_path / "stage-2" / "checkpoint-10")
            monkeypatch.setattr(training, "fit", lambda *given, **more: begun.append(len(list(
                (tmp_path / "stage-2").glob("checkpoint-*")))) or fit(*given, **more))
    assert begun == [1, 1]  # in the middle of the second stage
    for name in ("first", "again"):
        assert ran[name][0] == ran["whole"][0]
        for found, known in zip(ran[name][1], ran["whole"][1], strict=True):
            assert all(torch.equal(found[key], known[key]) for key in known)


# --- memory and losses
def test_a_batch_that_does_not_fit_is_read_in_halves_and_trains_the_same_student(base, words, tmp_path, monkeypatch):
    config = training.TrainConfig(1e-3, batch_size=4, in_order=True)
    rows, fit, asked = [row(words)] * 16, training.fit, []
    (whole,) = training.train(base, [rows], [config], tmp_path / "whole", Finetune())

    def narrow(*given, parts, **more):
        asked.append(parts)
        if parts < 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return fit(*given, parts=parts, **more)

    monkeypatch.setattr(training, "fit", narrow)
    with pytest.warns(UserWarning, match="memory is full: training starts again with each batch in 4 parts"):
        (parted,) = training.train(base, [rows], [config], tmp_path / "parted", Finetune())
    assert asked == [1, 2, 4]
    assert [e["loss"] for e in parted] == pytest.approx([e["loss"] for e in whole], rel=1e-3)
    files = [load_file(tmp_path / name / "stage-1" / "model.safetensors") for name in ("whole", "parted")]
    torch.testing.assert_close(*files, atol=1e-4, rtol=1e-3)


def test_a_row_that_does_not_fit_is_the_end(base, words, tmp_path, monkeypatch):
    def full(*given, **more):
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")

    monkeypatch.setattr(training, "fit", full)
    with pytest.warns(UserWarning), pytest.raises(HealError, match="1 rows at a time do not fit"):
        training.train(base, [[row(words)]], [training.TrainConfig(1e-3, 2)], tmp_path, Finetune())


def test_a_loss_that_is_no_number_stops_training(base, words, tmp_path):
    model, tokenizer = backends.load(base, Finetune())
    with torch.no_grad():
        model.get_output_embeddings().weight.fill_(float("nan"))
    with pytest.raises(HealError, match="the loss is nan at step 1; lower the learning rate"):
        training.fit(model, tokenizer, [row(words)] * 8, training.TrainConfig(1e-3, 4))
