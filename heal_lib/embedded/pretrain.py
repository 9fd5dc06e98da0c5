"""Pretrains the embedded models: `make teacher`, `make registers-student`. About an hour for a teacher on one core."""

from __future__ import annotations

import argparse
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from heal_lib import training
from heal_lib.embedded import WEIGHTS, card, corpus, models, muon, tokenizer
from heal_lib.engines import device
from heal_lib.files import unfinished, write_json

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Plan:
    """opening: texts of the first phase (lookups; short programs). texts: of the others, each of which anneals."""

    recipe: corpus.Recipe | corpus.Programs
    opening: int
    texts: tuple[int, ...]
    batch_size: int
    learning_rate: float = 1e-2

    @property
    def config(self) -> training.TrainConfig:
        return training.TrainConfig(self.learning_rate, self.batch_size, warmup=0.02)

    def phases(self, size: float, seed: int) -> list[Iterator[corpus.Text]]:
        """The texts of each phase, `size` times as many."""
        opening, *rounds = (round(size * n) for n in (self.opening, *self.texts))
        first = (corpus.short_programs(self.recipe, opening, seed) if isinstance(self.recipe, corpus.Programs)
                 else corpus.lookups(opening, seed))
        return [first, *(corpus.texts(self.recipe, n, seed + i) for i, n in enumerate(rounds))]


PLANS = {
    "teacher": Plan(corpus.TEACHER, 26_000, (46_000, 46_000, 110_000, 46_000), 12),
    "student": Plan(corpus.STUDENT, 28_000, (45_000, 45_000, 110_000), 8),
    "registers-teacher": Plan(corpus.REGISTERS_TEACHER, 20_000, (62_000,), 12),
    "registers-student": Plan(corpus.REGISTERS_STUDENT, 10_000, (45_000,), 8),
}


def pretrain(name: str, out: Path, *, size: float = 1.0, seed: int = 0, shape: str | None = None,
             kept: Path | None = None) -> None:
    """Generates the corpus, trains in phases, and writes model, tokenizer and training record to out/name.

    `size` scales the number of texts, `shape` is another of `models.SIZES`. Takes up where it was stopped, from what it
    left in `kept` (by default out/name). The first phase reads lookups only, or short programs."""
    start, plan, (family, _, role) = time.time(), PLANS[name], name.rpartition("-")
    words = tokenizer.build(family)
    model, folder, rows, curve = models.new_model(shape or role, words, seed), out / name, [], []
    for phase, texts in enumerate(plan.phases(size, seed), 1):
        rows.append([corpus.encode(words, text) for text in texts])
        checkpoints = (kept or folder) / f"checkpoints-{phase}"
        checkpoints.mkdir(parents=True, exist_ok=True)
        log = training.fit(model, words, rows[-1], plan.config, checkpoints=str(checkpoints),
                           optimizer=muon.Muon(model, plan.learning_rate))
        curve.append([[entry["step"], round(float(entry["loss"]), 4)] for entry in log])
    read = [row for part in rows for row in part]
    save(model, folder)
    words.save_pretrained(folder)
    record = {
        "recipe": asdict(plan.recipe), "lookups": len(rows[0]), "texts": [len(part) for part in rows[1:]], "seed": seed,
        "parameters": model.num_parameters(),
        "tokens": sum(len(row["input_ids"]) for row in read),
        "tokens_learned": sum(sum(row["completion_mask"]) for row in read),
        "training": vars(plan.config), "seconds": round(time.time() - start), "made_on": made_on(),
        "loss_curves": curve,
    }
    write_json(record, folder / "pretraining.json")
    for checkpoints in folder.glob("checkpoints-*"):
        shutil.rmtree(checkpoints)


def save(model: PreTrainedModel, folder: Path) -> None:
    """Writes the weights in 16 bits, which halves what is shipped. They are small numbers, so float16 holds them,
    and rounds an eighth as much as bfloat16. config.json goes on saying float32: as that they are loaded everywhere."""
    model.save_pretrained(folder, state_dict={name: weight.half() for name, weight in model.state_dict().items()})


def made_on() -> dict[str, str]:
    """The device, and versions of what weights depend on."""
    import torch
    import transformers
    import trl

    name = torch.cuda.get_device_name() if device() == "cuda" else "cpu"
    return {"device": name, **{library.__name__: library.__version__ for library in (torch, transformers, trl)}}


def model(*, name: str, folder: Path) -> None:
    """One of the shipped models with its card, as a stage: into folder/name."""
    pretrain(name, folder, kept=unfinished(folder))
    card.write(folder / name)


def together(*, models: dict[str, Path], folder: Path) -> None:
    """What `model` made of each name, as a stage: all in one folder, as HEAL_MODELS names it."""
    for name, made in models.items():
        shutil.copytree(made / name, folder / name)


def main(argv: list[str] | None = None) -> None:
    """Command line: which models, where to, how much text."""
    parser = argparse.ArgumentParser(prog="python -m heal_lib.embedded.pretrain", description=__doc__)
    parser.add_argument("model", choices=[*PLANS, "all"])
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="folder to write to")
    parser.add_argument("--size", type=float, default=1.0, help="share of the shipped models' texts (default: 1)")
    parser.add_argument("--shape", choices=models.SIZES, help="architecture (default: the model's own)")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    for name in PLANS if args.model == "all" else [args.model]:
        pretrain(name, args.out, size=args.size, seed=args.seed, shape=args.shape)
        card.write(args.out / name)


if __name__ == "__main__":
    main()
