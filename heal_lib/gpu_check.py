"""What a CUDA GPU has to show: `make gpu-check WHEELS=folder PART=parity|bench|llm|full|big` (all by default).

    parity  Unsloth and TRL train the embedded student and SmolLM2 alike: losses of 20 steps, LoRA and full, differ by
            0.02 nats at most, or by no more than TRL's own in bf16 and in fp32 do
    bench   tokens/s and peak memory of training, HF against Unsloth: three sizes of Qwen3 x 2k and 8k tokens
    llm     notebook 08 on SmolLM2 at scale `llm`, with more tests and tokens, with LoRA and in full
    full    the embedded pipeline at scale `full` on the GPU
    big     a teacher of about 34 M and a student of about 5 M parameters through the whole pipeline, at scale `demo`

Run on one H100 80 GB: parity, but for the embedded student in full; bench, but for hf at 1.7 B and 2k; llm in full,
with fewer tests; of `full` the first four minutes (pools, hints, readings, repairs: no student). On one H200: llm with
LoRA. Not `big`. See FINDINGS.md.

Everything goes to results/gpu/. `llm`, `full` and `big` go on where they were stopped; `bench`
leaves out what its table already holds."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

from heal_lib import backends, console, embedded, smollm, training, worlds
from heal_lib.backends import Finetune
from heal_lib.engines.words import Words
from heal_lib.errors import HealError
from heal_lib.files import ROOT, write_json, write_table
from heal_lib.stage import versions
from heal_lib.worlds.base import box

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

OUT = ROOT / "results" / "gpu"
STEPS, TOLERANCE = 20, 0.02  # of parity: updates, and nats per token
PARITY = {"student": "equations", str(ROOT / smollm.OUT): "stories"}  # models, and the world whose text each is taught
SIZES = {  # Qwen3 with its own vocabulary, weights drawn at random
    "0.1B": {"hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 6, "intermediate_size": 1152},
    "0.6B": {"hidden_size": 1024, "num_hidden_layers": 28, "num_attention_heads": 16, "intermediate_size": 3072},
    "1.7B": {"hidden_size": 2048, "num_hidden_layers": 28, "num_attention_heads": 16, "intermediate_size": 6144},
}
LENGTHS, VOCABULARY, ROWS = (2048, 8192), 151_936, 24
MORE = {"n_test": "50", "k_eval": "4", "train_tokens": "60000"}  # than scale `llm` has: minutes on a card
STUDENTS: dict[str, dict[str, str]] = {  # folder of a run of 08: what it changes of the scale
    "llm": MORE,
    "llm+finetune=full+learning_rates=5e-05": {**MORE, "finetune": "full", "learning_rates": "[5e-05]"}}
LIBRARIES = ("torch", "transformers", "trl", "peft", "unsloth", "unsloth_zoo", "bitsandbytes")


def parity() -> None:
    """Losses of both backends on the same rows in the same order, and of TRL once more in fp32: rounding alone parts
    runs, and those of two backends may part as far."""
    import pandas as pd
    import torch

    table, off = [], []
    for name, world in PARITY.items():
        if not embedded.folder(name).is_dir():
            print(f"gpu-check: no {name}, so it is left out; make smollm fetches it")
            continue
        rows = texts(embedded.load(name)[1], world, 8 * STEPS)
        for method in ("full", "lora"):
            losses = {backend: _losses(name, rows, Finetune(backend, method)) for backend in ("hf", "unsloth")}
            with mock.patch.object(torch.cuda, "is_bf16_supported", return_value=False):
                losses["hf_fp32"] = _losses(name, rows, Finetune("hf", method))
            found = pd.DataFrame(losses)
            gap, rounding = ((found["hf"] - found[other]).abs().max() for other in ("unsloth", "hf_fp32"))
            if gap > max(TOLERANCE, rounding):
                off.append(f"{os.path.basename(name)}, {method}: {gap:.3f} nats, {rounding:.3f} between bf16 and fp32")
            found = found.assign(model=os.path.basename(name), method=method, step=range(1, len(found) + 1))
            table.append(found[["model", "method", "step", "hf", "hf_fp32", "unsloth"]])
            write_table(pd.concat(table), OUT / "parity.csv")
    if off:
        raise HealError(f"parity: losses differ ({'; '.join(off)}); see results/gpu/parity.csv")


def _losses(name, rows, how) -> list[float]:
    config = training.TrainConfig(1e-3, batch_size=8, in_order=True)
    with tempfile.TemporaryDirectory() as folder:
        (log,) = training.train(str(embedded.folder(name)), [rows], [config], folder, how)
    return [entry["loss"] for entry in log]


def texts(tokenizer: PreTrainedTokenizerBase, name: str, n: int) -> list[dict[str, Any]]:
    """n training rows of a world's own derivations, over and over where there are fewer."""
    words, world = Words(tokenizer), worlds.get(name)
    rows = []
    for problem in world.problems("distil", min(n, 40), 0, list(world.difficulties)[1]):
        prompt = words.prompt(world.prompt(problem))
        text = words.encode("\n\n".join([*world.routine(problem), *world.derivation(problem), box(problem.answer)]))
        rows.append({"input_ids": [*prompt, *text, tokenizer.eos_token_id],
                     "completion_mask": [0] * len(prompt) + [1] * (len(text) + 1)})
    return (rows * n)[:n]


def bench() -> None:
    """One process for each cell, so that peaks are its own."""
    import pandas as pd

    path = OUT / "training.csv"
    done = pd.read_csv(path).to_dict("records") if path.is_file() else []
    for size in SIZES:
        for length in LENGTHS:
            for backend in ("hf", "unsloth"):
                cell = {"size": size, "length": length, "backend": backend}
                if any(cell.items() <= row.items() for row in done):
                    continue
                ran = subprocess.run([sys.executable, "-m", "heal_lib.gpu_check", "--cell", size, str(length), backend],
                                     capture_output=True, text=True)
                found = ran.stdout.split()[-2:] if ran.returncode == 0 else [None, None]  # missing, never zero
                why = (ran.stderr.strip() or "killed").splitlines()[-1].partition(". ")[0] if ran.returncode else ""
                done.append({**cell, "tokens_per_second": found[0], "peak_gib": found[1], "failed": why})
                write_table(pd.DataFrame(done), path)


def measure(size: str, length: int, backend: str) -> tuple[float, float]:
    """(tokens per second, peak GiB) of training a random model of that size with LoRA, two updates to warm up.

    Setting up the trainer counts. That is seconds, more of them with Unsloth, and outweighs 12 updates of 2k tokens."""
    if backend == "unsloth":
        import unsloth  # noqa: F401  it has to come before transformers
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    cuda, how = torch.cuda.is_available(), Finetune(backend, "lora", max_length=length)
    with tempfile.TemporaryDirectory() as folder:
        shape = {**SIZES[size], "num_key_value_heads": SIZES[size]["num_attention_heads"] // 2}
        torch.manual_seed(0)
        shape = Qwen3Config(**shape, head_dim=64 if size == "0.1B" else 128, vocab_size=VOCABULARY,
                            max_position_embeddings=length, tie_word_embeddings=True)
        with torch.device("cuda" if cuda else "cpu"):  # on one core, drawing the weights takes longer than the bench
            model = Qwen3ForCausalLM(shape)
        (model.to(torch.bfloat16) if cuda else model).save_pretrained(folder)
        embedded.load("student")[1].save_pretrained(folder)
        del model
        if cuda:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        model, words = backends.load(folder, how)
        row = {"input_ids": [5] * length, "completion_mask": [1] * length}
        config = training.TrainConfig(1e-4, batch_size=2)
        training.fit(model, words, [row] * 4, config)
        start = time.perf_counter()
        training.fit(model, words, [row] * ROWS, config)
        seconds = time.perf_counter() - start
    peak = torch.cuda.max_memory_reserved() / 2**30 if cuda else float("nan")
    return ROWS * length / seconds, peak


def llm() -> None:
    """Scale `llm`: one teacher, whose texts both runs share, and each kind of student."""
    embedded.check(embedded.SMOLLM)
    for folder, changes in STUDENTS.items():
        pairs = [word for pair in changes.items() for word in ("-p", *pair)]
        _reproduce("llm", *pairs, HEAL_RESULTS=str(OUT / folder))


def full() -> None:
    """Scale `full`."""
    _reproduce("full", HEAL_RESULTS=str(OUT / "full"))


def big() -> None:
    """Pretrains larger embedded models, once, and runs the pipeline on them."""
    from heal_lib.embedded import pretrain

    folder = Path(os.environ.get("HEAL_CACHE") or ROOT / ".cache" / "heal") / "big"
    for name in pretrain.PLANS:
        if not (folder / name / "card.json").is_file():
            shape = f"big-{name.rpartition('-')[2]}"
            _run("heal_lib.embedded.pretrain", name, "--out", str(folder), "--shape", shape)
    _reproduce("demo", HEAL_MODELS=str(folder), HEAL_RESULTS=str(OUT / "big"))


def _reproduce(scale: str, *arguments: str, **variables):
    _run("heal_lib.reproduce", "--scale", scale, *arguments, DEVICE="cuda", **variables)


def _run(module: str, *arguments: str, **variables):
    if subprocess.run([sys.executable, "-m", module, *arguments], env={**os.environ, **variables}).returncode:
        raise HealError(f"gpu-check: {module} failed; mend what it says above, run again")


PARTS = {"parity": parity, "bench": bench, "llm": llm, "full": full, "big": big}


def main(argv: list[str] | None = None) -> int:
    """Runs the parts asked for, and notes hardware and versions; exit code 2 where something is missing or differs."""
    import torch

    parser = console.Parser("gpu_check", __doc__.splitlines()[0])
    parser.add_argument("--part", choices=PARTS, help="one part; all by default")
    parser.add_argument("--cell", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.cell:
        print(*measure(args.cell[0], int(args.cell[1]), args.cell[2]))
        return 0
    try:
        backends.check(Finetune("unsloth"))
        card = torch.cuda.get_device_properties(0)
        write_json({"card": card.name, "gib": round(card.total_memory / 2**30, 1), "cuda": torch.version.cuda,
                    "versions": versions(LIBRARIES)}, OUT / "hardware.json")
        for name in [args.part] if args.part else PARTS:
            print(f"gpu-check: {name}", flush=True)
            PARTS[name]()
    except HealError as error:
        print(f"heal: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
