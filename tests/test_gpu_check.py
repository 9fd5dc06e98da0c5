"""The GPU's checks, as far as a CPU goes: what is measured is measured, and a missing GPU is said."""

import pandas as pd
import pytest
import torch

from heal_lib import gpu_check
from heal_lib.errors import HealError


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
    """What is trained on: (model, rows, how) of each call; Unsloth's losses are off by `gap`."""
    calls, gap = [], [0.0]

    def train(base, stages, configs, folder, how):
        calls.append((base, stages[0], how))
        return [[{"loss": 1 + gap[0] * (how.backend == "unsloth")}] * gpu_check.STEPS]

    monkeypatch.setattr(gpu_check.training, "train", train)
    return calls, gap


def test_parity_compares_both_backends_on_the_same_rows(trained, tiny, words, monkeypatch, capsys):
    calls, gap = trained
    monkeypatch.setattr(gpu_check, "PARITY", {"student": "equations", "nowhere": "stories"})
    gpu_check.parity()
    assert "no nowhere, so it is left out; make smollm fetches it" in capsys.readouterr().out
    assert [(how.backend, how.method) for _, _, how in calls] == [
        ("hf", "full"), ("unsloth", "full"), ("hf", "lora"), ("unsloth", "lora")]
    first, *others = [rows for _, rows, _ in calls]
    assert all(rows == first for rows in others) and len(first) == 8 * gpu_check.STEPS
    row = first[0]
    said = [i for i, on in zip(row["input_ids"], row["completion_mask"], strict=True) if on]
    assert said[-1] == words.eos_token_id and "\\boxed{" in words.decode(said)
    assert words.decode(row["input_ids"]).startswith("equation") and not words.decode(said).startswith("equation")
    gap[0] = 0.1
    with pytest.raises(HealError, match="losses differ by 0.100 nats"):
        gpu_check.parity()


def test_smollm_is_taught_stories(words):
    from heal_lib.worlds import get

    assert list(gpu_check.PARITY.values()) == ["equations", "stories"] and get("stories").routine(None) == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_said(capsys):
    assert gpu_check.main(["--part", "bench"]) == 2
    assert capsys.readouterr().err == (
        "heal: BACKEND=unsloth needs a CUDA GPU, and this torch sees none; BACKEND=hf works here\n")
