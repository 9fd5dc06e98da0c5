"""The GPU's checks, as far as a CPU goes: what is measured is measured, and a missing GPU is said."""

import tomllib

import pandas as pd
import pytest
import torch

from heal_lib import gpu_check, scales
from heal_lib.errors import HealError
from heal_lib.files import ROOT


@pytest.fixture
def tiny(monkeypatch, tmp_path):
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    for name, value in (("SIZES", {"0.1B": shape}), ("VOCABULARY", 1000), ("ROWS", 4), ("LENGTHS", (16,)),
                        ("OUT", tmp_path)):
        monkeypatch.setattr(gpu_check, name, value)
    return tmp_path


def test_training_speed_is_measured(tiny):
    speed, peak = gpu_check.measure("0.1B", 16, "hf")
    assert speed > 0 and peak != peak  # no number where there is no card


def test_a_cell_that_failed_is_missing_and_one_that_is_there_is_not_measured_again(tiny, monkeypatch):
    calls = []

    def run(command, **_):
        calls.append(command[-3:])
        fine = command[-1] == "hf"
        return type("Ran", (), {"returncode": 0 if fine else 1, "stdout": "a warning\n12.5 3.0\n",
                                "stderr": "" if fine else "Traceback\nError: out of memory. Tried to allocate\n"})

    monkeypatch.setattr(gpu_check.subprocess, "run", run)
    gpu_check.bench()
    gpu_check.bench()
    table = pd.read_csv(tiny / "training.csv").set_index("backend")
    assert calls == [["0.1B", "16", "hf"], ["0.1B", "16", "unsloth"]]
    assert table.loc["hf", "tokens_per_second"] == 12.5 and pd.isna(table.loc["unsloth", "peak_gib"])
    assert pd.isna(table.loc["hf", "failed"]) and table.loc["unsloth", "failed"] == "Error: out of memory"


@pytest.fixture
def trained(monkeypatch, tiny, words):
    """What is trained on: (model, rows, how) of each call; Unsloth's losses are off by `gaps["unsloth"]`, those without
    bf16 by `gaps["fp32"]`."""
    calls, gaps = [], {"unsloth": 0.0, "fp32": 0.0}

    def train(base, stages, configs, folder, how):
        calls.append((base, stages[0], how))
        which = how.backend if torch.cuda.is_bf16_supported() else "fp32"
        return [[{"loss": 1 + gaps.get(which, 0.0)}] * gpu_check.STEPS]

    monkeypatch.setattr(gpu_check.training, "train", train)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    return calls, gaps


def test_parity_compares_both_backends_on_the_same_rows(trained, tiny, words, monkeypatch, capsys):
    calls, gaps = trained
    monkeypatch.setattr(gpu_check, "PARITY", {"student": "equations", "nowhere": "stories"})
    gpu_check.parity()
    assert "no nowhere, so it is left out; make smollm fetches it" in capsys.readouterr().out
    assert [(how.backend, how.method) for _, _, how in calls] == [
        (backend, method) for method in ("full", "lora") for backend in ("hf", "unsloth", "hf")]
    first, *others = [rows for _, rows, _ in calls]
    assert all(rows == first for rows in others) and len(first) == 8 * gpu_check.STEPS
    row = first[0]
    said = [i for i, on in zip(row["input_ids"], row["completion_mask"], strict=True) if on]
    assert said[-1] == words.eos_token_id and "\\boxed{" in words.decode(said)
    assert words.decode(row["input_ids"]).startswith("equation") and not words.decode(said).startswith("equation")
    gaps["unsloth"] = 0.1
    with pytest.raises(HealError, match=r"student, full: 0.100 nats, 0.000 between bf16 and fp32; student, lora"):
        gpu_check.parity()
    gaps["fp32"] = 0.11  # as far as rounding alone parts them
    gpu_check.parity()
    table = pd.read_csv(tiny / "parity.csv")
    assert len(table) == 2 * gpu_check.STEPS and (table["hf_fp32"] - table["hf"]).round(9).eq(0.11).all()


def test_smollm_is_taught_stories(words):
    from heal_lib.worlds import get

    assert list(gpu_check.PARITY.values()) == ["equations", "stories"] and get("stories").routine(None) == []


def test_notebook_08_teaches_smollm_with_lora_and_in_full_beside_the_rest(tiny, monkeypatch):
    """Each folder is named as the driver would name it, but for what both change."""
    ran = []
    monkeypatch.setattr(gpu_check, "_run", lambda *command, **variables: ran.append((command, variables)))
    monkeypatch.setattr(gpu_check.embedded, "check", lambda name: None)
    gpu_check.llm()
    gpu_check.full()
    usual = ("heal_lib.reproduce", "--scale")
    more = [word for pair in gpu_check.MORE.items() for word in ("-p", *pair)]
    scales.get("llm", **gpu_check.MORE)  # these are settings
    assert [command for command, _ in ran] == [
        (*usual, "llm", *more), (*usual, "llm", *more, "-p", "finetune", "full", "-p", "learning_rates", "[5e-05]"),
        (*usual, "full")]
    monkeypatch.delenv("HEAL_RESULTS", raising=False)
    in_full = scales.get("llm", finetune="full", learning_rates=(5e-5,)).results_dir.name
    assert [variables for _, variables in ran] == [
        {"DEVICE": "cuda", "HEAL_RESULTS": str(tiny / folder)} for folder in ("llm", in_full, "full")]


def test_smollm_that_is_missing_is_one_line(tiny, monkeypatch, tmp_path):
    monkeypatch.setattr(gpu_check.embedded, "ROOT", tmp_path)
    monkeypatch.setattr(gpu_check, "_run", None)
    with pytest.raises(HealError, match="run: make smollm") as caught:
        gpu_check.llm()
    assert "\n" not in str(caught.value)


def test_all_parts_are_in_the_makefile_and_versions_are_of_all_that_trains():
    assert f"PART={'|'.join(gpu_check.PARTS)})" in (ROOT / "Makefile").read_text()
    extra = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["gpu"]
    assert {pin.partition("==")[0] for pin in extra} <= set(gpu_check.LIBRARIES)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_said(capsys):
    assert gpu_check.main(["--part", "bench"]) == 2
    assert capsys.readouterr().err == (
        "heal: BACKEND=unsloth needs a CUDA GPU, and this torch sees none; BACKEND=hf works here\n")
