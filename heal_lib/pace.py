"""PACE: Progressive Answer-guided Curriculum Evolution (docs/method.md, section 4).

    I   base     verified teacher samples, capped per problem
    II  + hint   samples drawn with the answer given, hint removed, for problems with share correct < 0.5   [S]
    III + repair GEAR's trajectories for the problems with c <= 1                                           [S]

Three sequential stages on the same weights, data cumulative [S/R]. Every stage makes the same number of passes over
its data, so a stage's share of the token budget is its share of the (cumulative) tokens [R]. So base rows come back in
II and III. Each stage starts its learning-rate schedule and its optimizer anew; one schedule for all is the other
reading (`restart`) [R]. Rows come from `baselines.training_rows`; `curriculum` orders them, `train` goes through the
stages.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from heal_lib import backends, embedded, training
from heal_lib.backends import Finetune
from heal_lib.engines import choose, device
from heal_lib.errors import HealError
from heal_lib.files import unfinished, write_json
from heal_lib.trajectory import rng_of, seed_of

if TYPE_CHECKING:
    from pathlib import Path

    from datasets import Dataset

STAGES = ("base", "hint", "repair")
GIVEN = ["input_ids", "completion_mask"]  # of a row, to training


def curriculum(sources: Mapping[str, list[Any]], *, order: str = "staged", cumulative: bool = True) -> list[list[Any]]:
    """Source name -> rows, to the list of stages' rows.

    order: staged [P], separate (staged, but never cumulative: every source weighs as much as when mixed), reversed,
    mixed (one stage, all rows alike) or interleaved (one stage, the rows of smaller sources repeated until all weigh
    the same).

    Sources without rows are left out; raises HealError where nothing is left."""
    parts = [rows for name in STAGES if (rows := sources.get(name))]
    if not parts:
        raise HealError("nothing to train on: no verified sample in any source; draw more samples, "
                        "or use easier problems")
    if order == "mixed":
        return [[row for part in parts for row in part]]
    if order == "interleaved":
        largest = max(map(len, parts))
        return [[part[i % len(part)] for i in range(largest) for part in parts]]
    if order not in ("staged", "reversed", "separate"):
        raise HealError(f"unknown curriculum order '{order}'; choose staged, separate, mixed, interleaved or reversed")
    parts = parts[::-1] if order == "reversed" else parts
    if not cumulative or order == "separate":
        return parts
    return [[row for part in parts[: i + 1] for row in part] for i in range(len(parts))]


def budgets(stages: Sequence[Sequence[Any]], total: int, length: Callable[[Any], int] = len) -> list[int]:
    """Tokens of each stage, in proportion to its data; they add up to `total`."""
    sizes = [sum(map(length, rows)) for rows in stages]
    edges = [round(total * sum(sizes[:i]) / sum(sizes)) for i in range(len(sizes) + 1)]
    return [b - a for a, b in zip(edges, edges[1:], strict=False)]


def fill(rows: Sequence[Any], budget: int, seed: int, length: Callable[[Any], int] = len) -> list[Any]:
    """Rows in shuffled passes until the budget of tokens is reached: methods differ in data, not in tokens.

    Raises HealError for rows without tokens, which would never reach it."""
    if budget > 0 and not sum(map(length, rows)):
        raise HealError("nothing to train on: the rows hold no tokens; check the stage before")
    out, spent, epoch = [], 0, 0
    while spent < budget:
        order = list(rows)
        rng_of(seed, "epoch", epoch).shuffle(order)
        for row in order:
            if spent >= budget:
                break
            out.append(row)
            spent += length(row)
        epoch += 1
    return out


def same_passes(total: int, lengths: list[int], like: list[int]) -> int:
    """Tokens that go through rows of these `lengths` as often as `total` tokens go through rows of lengths `like`, by
    the mean over their tokens [R]; `total` where there is nothing to be like."""
    return round(total * sum(lengths) / sum(like)) if like else total


def train(*, rows: Dataset, student: str, order: str, restart: bool, loss: str, cumulative: bool, n_tokens: int,
          batch_size: int, learning_rate: float, how: dict[str, Any], seed: int, folder: Path,
          like: Dataset | None = None, heldout: Dataset | None = None, teacher: str | None = None) -> None:
    """Trains a student on rows with a `stage` each; folder/stage-1 .. stage-n hold its weights after each stage.

    restart: a learning-rate schedule for each stage, or one for all. n_tokens: to train on, prompts included; with
    `like`, another method's rows, as many as make the passes that it makes with n_tokens. heldout: rows on which the
    loss is measured in each stage, to keep the weights of the least; without any the last are kept. loss: "tokens", or
    "logits": the `teacher`'s distribution at each of them. how: the fields of `backends.Finetune`.
    Leaves training.json: per stage its rows, unique texts, tokens, losses and held-out losses."""
    of: dict[str, list] = {name: [] for name in STAGES}
    for row in rows.select_columns(["stage", *GIVEN]):
        of[row.pop("stage")].append(row)
    stages = curriculum(of, order=order, cumulative=cumulative)
    if like is not None:
        n_tokens = same_passes(n_tokens, *([len(ids) for ids in part["input_ids"]] for part in (rows, like)))
    filled = [fill(stage, budget, seed_of(seed, "fill", i), length)
              for i, (stage, budget) in enumerate(zip(stages, budgets(stages, n_tokens, length), strict=True), 1)]
    if not restart:
        filled, stages = [sum(filled, [])], [sum(stages, [])]
    configs = [training.TrainConfig(learning_rate, batch_size, in_order=True,  # passes are shuffled; no like lengths
                                    seed=seed_of(seed, "stage", i) % 2**31) for i in range(1, len(filled) + 1)]
    if device() == "cuda":
        choose.release()  # its memory is for training now
    if loss == "logits":
        losses = [_to_logits(filled[0], configs[0], student, teacher, folder, Finetune(**how))]
    else:
        losses = training.train(str(embedded.folder(student)), filled, configs, folder, Finetune(**how),
                                unfinished(folder), list(heldout.select_columns(GIVEN)) if heldout else [])
    log = [{"stage": i, "rows": len(stage), "unique": len({tuple(row["input_ids"]) for row in stage}),
            "tokens": sum(map(length, given)),
            **{name: [[e["step"], e[name]] for e in found if name in e] for name in ("loss", "eval_loss")}}
           for i, (stage, given, found) in enumerate(zip(stages, filled, losses, strict=True), 1)]
    write_json({"learning_rate": learning_rate, "seed": seed, "stages": log}, folder / "training.json")


def length(row: dict[str, Any]) -> int:
    """Tokens of a training row, prompt and completion."""
    return len(row["input_ids"])


def _to_logits(rows, config, student, teacher, folder, how) -> list[dict]:
    """Trains a student towards the teacher's distribution at each token of the rows."""
    if choose.words(student).vocabulary != choose.words(teacher).vocabulary:
        raise HealError("logit distillation needs one vocabulary, and the student's is not the teacher's; take a "
                        "student of the same family, or leave the method out")
    how = replace(how, backend="hf")  # its logits are read
    model, tokenizer = backends.load(str(embedded.folder(student)), how, config.seed)
    log = training.fit(model, tokenizer, rows, config, checkpoints=str(unfinished(folder) / "stage-1"),
                       teacher=embedded.load(teacher)[0])
    backends.save(model, tokenizer, str(folder / "stage-1"), how)
    return log
