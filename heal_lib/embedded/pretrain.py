"""Pretrains the embedded models: `make teacher`, `make student`. About an hour for the teacher on one CPU core."""

from __future__ import annotations

import argparse
import shutil
import time
from pathlib import Path

from heal_lib import training
from heal_lib.embedded import WEIGHTS, card, corpus, models, muon, tokenizer
from heal_lib.store import write_json

RECIPES = {"teacher": corpus.TEACHER, "student": corpus.STUDENT}
TEXTS = {"teacher": 46_000, "student": 45_000}
ROUNDS = {"teacher": 3, "student": 3}  # how often new text of that size is read, each time from full learning rate
LOOKUPS = {"teacher": 26_000, "student": 28_000}  # texts of the first phase
CONFIG = {
    "teacher": training.TrainConfig(learning_rate=1e-2, batch_size=24, warmup=0.02),
    "student": training.TrainConfig(learning_rate=1e-2, batch_size=16, warmup=0.02),
}


def pretrain(name: str, out: Path, *, n_texts: int, seed: int) -> None:
    """Generates the corpus, trains in phases, and writes model, tokenizer and training record to out/name.

    Takes up where it was stopped. The first phase reads lookups only, the others all text."""
    start, words = time.time(), tokenizer.build()
    model, folder = models.new_model(name, words, seed), out / name
    phases = [corpus.lookups(LOOKUPS[name], seed),
              *(corpus.texts(RECIPES[name], n_texts, seed + i) for i in range(ROUNDS[name]))]
    rows, curve = [], []
    for phase, texts in enumerate(phases, 1):
        rows.append([corpus.encode(words, text) for text in texts])
        checkpoints = folder / f"checkpoints-{phase}"
        checkpoints.mkdir(parents=True, exist_ok=True)
        log = training.fit(model, words, rows[-1], CONFIG[name], checkpoints=str(checkpoints),
                           optimizer=muon.Muon(model, CONFIG[name].learning_rate))
        curve.append([[entry["step"], round(float(entry["loss"]), 4)] for entry in log])
    rows = sum(rows, [])
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    record = {
        "recipe": vars(RECIPES[name]), "lookups": LOOKUPS[name], "texts": n_texts,
        "rounds": ROUNDS[name], "seed": seed, "parameters": model.num_parameters(),
        "tokens": sum(len(row["input_ids"]) for row in rows),
        "tokens_learned": sum(sum(row["completion_mask"]) for row in rows),
        "training": vars(CONFIG[name]), "seconds": round(time.time() - start),
        "loss_curves": curve,
    }
    write_json(record, folder / "pretraining.json")
    for checkpoints in folder.glob("checkpoints-*"):
        shutil.rmtree(checkpoints)


def main(argv: list[str] | None = None) -> None:
    """Command line: which models, where to, how much text."""
    parser = argparse.ArgumentParser(prog="python -m heal_lib.embedded.pretrain", description=__doc__)
    parser.add_argument("model", choices=[*RECIPES, "all"])
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="folder to write to")
    parser.add_argument("--texts", type=int, help="number of training texts (default: as shipped)")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    for name in RECIPES if args.model == "all" else [args.model]:
        pretrain(name, args.out, n_texts=args.texts or TEXTS[name], seed=args.seed)
        card.write(args.out / name)


if __name__ == "__main__":
    main()
