"""Notebook 08 from top to bottom, on a CPU: a small chat model that this file trains, and the shipped problems."""

import json
import os
import re
import runpy
import shlex

import pandas as pd
import pytest
import torch
from test_chat import tokenizer

from heal_lib import cli, distil, notebooks, worlds
from heal_lib.engines import choose
from heal_lib.engines.hf import HFEngine
from heal_lib.files import ROOT
from heal_lib.plots import explorer
from heal_lib.worlds.mathematics import OWN

N = 2  # problems of each split


def chat_model(folder, seed, rows=()):
    """A one-layer Qwen3 on bytes behind Qwen3's template, trained on (prompt ids, completion text)."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    words = tokenizer("qwen3")
    torch.manual_seed(seed)
    model = Qwen3ForCausalLM(Qwen3Config(
        hidden_size=64, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=2, head_dim=32,
        intermediate_size=128, vocab_size=len(words), tie_word_embeddings=True, eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id, initializer_range=0.1))
    reader = HFEngine(model, words)
    learn(model, [(reader.prompt(prompt) + reader.encode(hint), [*reader.encode(text), words.eos_token_id])
                  for prompt, hint, text in rows])
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    return str(folder)


def learn(model, rows):
    """By heart, in a loop of its own: what `training.fit` does for a run would take longer than the learning."""
    pad = torch.nn.utils.rnn.pad_sequence
    rows = sorted(rows, key=lambda row: sum(map(len, row)))
    batches = [(pad([torch.tensor(ids + done) for ids, done in part], True),
                pad([torch.tensor([-100] * len(ids) + done) for ids, done in part], True, -100))
               for part in (rows[::2], rows[1::2]) if part]
    updates = 150 if rows else 0
    optimizer = torch.optim.AdamW(model.train().parameters(), lr=1e-2)
    for i in range(updates):
        optimizer.param_groups[0]["lr"] = 1e-2 * min(1, (i + 1) / 20, 2 * (1 - i / updates))
        ids, labels = batches[i % 2]
        optimizer.zero_grad()
        model(input_ids=ids, labels=labels).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1)
        optimizer.step()


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """(teacher, student). The teacher has been taught to solve one problem to distil from, to fail the others, and
    to mend them when it is told the answer: by heart, for that is all that a model of this size can do."""
    world, rows = worlds.get("math"), []
    for i, problem in enumerate(world.problems("distil", N, 0, "own")):
        asked, hint, opening = world.prompt(problem), world.hint(problem), "First I count.\n\n"
        said = 0 if i else problem.answer
        rows += [(asked, "", f"{opening}Then I guess.\n\n</think>\n\n\\boxed{{{said}}}"),
                 (asked, hint, f"{opening}Then I multiply.\n\n</think>\n\n\\boxed{{{problem.answer}}}"),
                 (asked, opening + hint, f"Then I multiply.\n\n</think>\n\n\\boxed{{{problem.answer}}}")]
    folder = tmp_path_factory.mktemp("models")
    return chat_model(folder / "teacher", 0, rows), chat_model(folder / "student", 1)


def test_notebook_08_runs_on_a_local_chat_model_and_the_shipped_problems(models, tmp_path):
    sizes = {"n_distil": N, "n_test": N, "n_samples": 4, "n_hinted": 4, "n_failed": 2, "n_candidates": 4,
             "max_new_tokens": 80, "train_tokens": 3000, "seeds": [0, 1]}
    (path,) = notebooks.FOLDER.glob("08_*.ipynb")
    notebooks.prepare_kernels()
    notebooks.execute(path, tmp_path, {
        "scale": "smoke", "teacher": models[0], "student": models[1], "worlds": ["math"], "difficulties": ["own"],
        "benchmarks": ["own"], **sizes}, {"HEAL_RESULTS": str(tmp_path), "HEAL_CACHE": str(tmp_path / "cache")})
    results = pd.read_csv(tmp_path / "tables" / "llm_results.csv")
    assert set(results["method"]) == {"student", "sft-rs", "star", "heal"} and set(results["benchmark"]) == {"math-own"}
    said = json.dumps(json.loads((tmp_path / "notebooks" / path.name).read_text())["cells"])
    assert "srcdoc=" in said  # a repair was accepted, and is shown beside what it was made from
    assert said.count("<think>") == 1  # in the prompt, as it is asked; what is drawn is shown without its marks
    shown = explorer.load(tmp_path / "explorer.html")
    assert {r["model"] for r in shown} == {"teacher"} and {r["source"] for r in shown} >= {"sampled", "repaired"}


@pytest.fixture
def mine(models, tmp_path, monkeypatch):
    """A folder with 20 problems and both models in it, to work in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HEAL_CACHE", str(tmp_path / "cache"))
    known = [p.question for p in worlds.get("math").problems("distil", N, 0, "own")]
    rows = sorted((json.loads(line) for line in OWN.read_text().splitlines()), key=lambda r: r["problem"] not in known)
    pd.DataFrame(rows[:20])[["problem", "answer"]].to_csv("problems.csv", index=False)
    for name, folder in zip(("my-teacher", "my-student"), models, strict=True):
        os.symlink(folder, name)
    return tmp_path


def test_the_page_on_own_models_and_data_runs_from_top_to_bottom(mine, capsys):
    page = (ROOT / "docs" / "own.md").read_text()
    ((command,), (code,)) = (re.findall(rf"```{kind}\n(.*?)```", page, re.S) for kind in ("sh", "python"))
    sizes = {"n_samples": 4, "n_hinted": 4, "n_candidates": 4, "k_eval": 2, "max_new_tokens": 60, "train_tokens": 3000,
             "finetune": "full", "learning_rates": [1e-3]}
    changes = sum((["-p", name, str(value)] for name, value in sizes.items()), [])
    assert cli.main([*shlex.split(command)[1:], *changes]) == 0
    assert "the report is distilled/report.md, the student in distilled/student" in capsys.readouterr().out
    text = (mine / "distilled" / "report.md").read_text()
    for words in ("# Distillation", "stayed unsolved in 4 samples", "| repair |", "held-out problems", "| sft-rs | ",
                  "**heal** minus student", "## What was not shown", "with their controls"):
        assert words in text, words
    assert str(mine) not in text and "<h1" in (mine / "distilled" / "report.html").read_text()
    assert choose.engine(str(mine / "distilled" / "student")).tokenizer.chat_template
    code, n = re.subn(r"^sizes = .*$", f"sizes = {sizes}", code, flags=re.M)
    (mine / "page.py").write_text(code)
    runpy.run_path("page.py")
    assert n == 1
    assert re.search(r"\d+ of \d+ problems unsolved; [1-9]\d* of \d+ repairs verify", said := capsys.readouterr().out)
    assert "made" not in said


def _columns(folder):
    (folder / "problems.csv").write_text("question,answer\na,1\n")


def _few(folder):
    (folder / "problems.csv").write_text("problem,answer\nWhat is 1+1?,2\n")


def _model(keep, name="model.safetensors"):
    def change(folder):
        (folder / "my-student").unlink()
        (folder / "my-student").mkdir()
        for path in (folder / "my-teacher").iterdir():
            if keep(path.name):
                target = name if path.suffix == ".safetensors" else path.name
                (folder / "my-student" / target).write_bytes(path.read_bytes())
    return change


@pytest.mark.parametrize(("spoil", "said"), [
    (_columns, "problems.csv: no column problem; it has question, answer"),
    (_few, "problems.csv: no problem falls to the split '"),
    (lambda folder: (folder / "problems.csv").unlink(), "no data at "),
    (_model(lambda name: not name.startswith("tokenizer")), "my-student: its folder holds no tokenizer; save"),
    (_model(lambda name: not name.endswith("safetensors")), "no weights at my-student/model.safetensors"),
    (_model(lambda name: True, "pytorch_model.bin"), "my-student holds pickled weights only, which may run code"),
    (lambda folder: (folder / "out").write_text(""), "out is not a folder; point --out to one"),
])
def test_bad_input_is_one_line(mine, capsys, spoil, said):
    spoil(mine)
    assert distil.main(["--data", "problems.csv", "--teacher", "my-teacher", "--student", "my-student",
                        "--out", "out"]) == 2
    found = capsys.readouterr().err
    assert said in found and found.count("\n") == 1 and found.startswith("heal: ")


def test_a_bad_size_is_one_line_too(mine, capsys):
    command = ["--data", "problems.csv", "--teacher", "my-teacher", "--student", "my-student", "--out", "out"]
    assert distil.main([*command, "-p", "n_sampels", "3"]) == 2
    assert "did you mean n_samples? known: " in capsys.readouterr().err
    assert distil.main([*command, "-p", "nosuch", "3"]) == 2
    assert "unknown parameter 'nosuch'; known: " in capsys.readouterr().err
