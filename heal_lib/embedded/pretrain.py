"""Pretrains the embedded models: `make teacher`, `make student`. About an hour for the teacher on one CPU core."""

from __future__ import annotations

import argparse
import shutil
import time
from pathlib import Path

from heal_lib import training
from heal_lib.embedded import WEIGHTS, card, corpus, models, muon, tokenizer
from heal_lib.files import write_json

RECIPES = {"teacher": corpus.TEACHER, "student": corpus.STUDENT}
LOOKUPS = {"teacher": 26_000, "student": 28_000}  # texts of the first phase
TEXTS = {"teacher": (46_000, 46_000, 110_000, 46_000), "student": (45_000, 45_000, 110_000)}  # the others; each anneals
CONFIG = {
    "teacher": training.TrainConfig(learning_rate=1e-2, batch_size=12, warmup=0.02),
    "student": training.TrainConfig(learning_rate=1e-2, batch_size=8, warmup=0.02),
}


def pretrain(name: str, out: Path, *, size: float = 1.0, seed: int = 0, shape: str | None = None) -> None:
    """Generates the corpus, trains in phases, and writes model, tokenizer and training record to out/name.

    `size` scales the number of texts, `shape` is another of `models.SIZES`. Takes up where it was stopped. The first
    phase reads lookups only."""
    start, words = time.time(), tokenizer.build()
    model, folder = models.new_model(shape or name, words, seed), out / name
    lookups, *rounds = (round(size * n) for n in (LOOKUPS[name], *TEXTS[name]))
    phases = [corpus.lookups(lookups, seed), *(corpus.texts(RECIPES[name], n, seed + i) for i, n in enumerate(rounds))]
    rows, curve = [], []
    for phase, texts in enumerate(phases, 1):
        rows.append([corpus.encode(words, text) for text in texts])
        checkpoints = folder / f"checkpoints-{phase}"
        checkpoints.mkdir(parents=True, exist_ok=True)
        log = training.fit(model, words, rows[-1], CONFIG[name], checkpoints=str(checkpoints),
                           optimizer=muon.Muon(model, CONFIG[name].learning_rate))
        curve.append([[entry["step"], round(float(entry["loss"]), 4)] for entry in log])
    read = [row for part in rows for row in part]
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    record = {
        "recipe": vars(RECIPES[name]), "lookups": lookups, "texts": rounds, "seed": seed,
        "parameters": model.num_parameters(),
        "tokens": sum(len(row["input_ids"]) for row in read),
        "tokens_learned": sum(sum(row["completion_mask"]) for row in read),
        "training": vars(CONFIG[name]), "seconds": round(time.time() - start),
        "loss_curves": curve,
    }
    write_json(record, folder / "pretraining.json")
    for checkpoints in folder.glob("checkpoints-*"):
        shutil.rmtree(checkpoints)


def both(*, folder: Path) -> None:
    """Teacher and student, as they are shipped, into `folder`."""
    for name in RECIPES:
        pretrain(name, folder)
        card.write(folder / name)


def main(argv: list[str] | None = None) -> None:
    """Command line: which models, where to, how much text."""
    parser = argparse.ArgumentParser(prog="python -m heal_lib.embedded.pretrain", description=__doc__)
    parser.add_argument("model", choices=[*RECIPES, "all"])
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="folder to write to")
    parser.add_argument("--size", type=float, default=1.0, help="share of the shipped models' texts (default: 1)")
    parser.add_argument("--shape", choices=models.SIZES, help="architecture (default: the model's own)")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    for name in RECIPES if args.model == "all" else [args.model]:
        pretrain(name, args.out, size=args.size, seed=args.seed, shape=args.shape)
        card.write(args.out / name)


if __name__ == "__main__":
    main()
