"""The one supervised fine-tuning path: TRL's SFTTrainer on token ids, loss on the completion only.

    train(base, stages) = backends.load -> fit(stage) -> backends.save, for each stage in turn, on the same weights
"""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heal_lib import backends, watch
from heal_lib.backends import Finetune
from heal_lib.engines import device, one_thread
from heal_lib.errors import HealError, out_of_memory
from heal_lib.files import facts_of, hash_of, read_json, write_json

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase
    from trl import SFTTrainer

SAVE_EVERY = 100  # updates, at least
LARGE = 100_000_000  # weights of a model whose activations are computed again on a GPU rather than kept
SEAL = "sealed.json"  # the last file of a checkpoint: without it, the process was killed while it wrote


@dataclass(frozen=True)
class TrainConfig:
    """learning_rate is the peak after a linear warm-up; batch_size in sequences."""

    learning_rate: float
    batch_size: int = 32
    warmup: float = 0.05  # share of the updates
    schedule: str = "cosine"
    weight_decay: float = 0.01
    seed: int = 0
    in_order: bool = False  # rows as given, rather than shuffled with like lengths together


def train(base: str, stages: list[list[dict[str, Any]]], configs: list[TrainConfig], folder: Path | str, how: Finetune,
          checkpoints: Path | str | None = None, heldout: Sequence[dict[str, Any]] = ()) -> list[list[dict[str, Any]]]:
    """Trains the model in `base` on one stage after the other; folder/stage-1 .. stage-n hold the weights after each,
    or those of the least loss on rows `heldout` (`fit`).

    Returns the log of each stage. With Unsloth all of it happens in a process of its own; more than one process share
    every batch (`heal_lib.distributed`), and these start anew when killed. Otherwise a killed run goes on from what it
    left in the folder `checkpoints`, and ends with the same weights."""
    backends.check(how)
    longest = max((len(row["input_ids"]) for rows in (*stages, heldout) for row in rows), default=0)
    how = replace(how, max_length=longest)
    if how.processes > 1:
        from heal_lib import distributed

        return distributed.train(base, stages, configs, str(folder), how, heldout)
    parts = 1
    while True:
        try:
            return _attempt(base, stages, configs, str(folder), how, checkpoints, heldout, parts)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            parts *= 2
            if size := next((c.batch_size for c in configs if c.batch_size % parts), 0):
                less = ("finetune='lora'" if how.method == "full" else "backend='unsloth'" if how.backend == "hf"
                        else "fewer max_new_tokens")
                raise HealError(f"training: {2 * size // parts} rows at a time do not fit into memory; use {less}, or "
                                "a smaller student") from None
        # The same updates, each from more and smaller batches; from the start, for the weights may be half updated.
        warnings.warn(f"memory is full: training starts again with each batch in {parts} parts", stacklevel=2)


def _attempt(*given):
    how = given[4]
    if how.backend != "unsloth":
        return _train(*given)
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(_train, *given).result()


def _train(base, stages, configs, folder, how, checkpoints, heldout, parts):
    model, tokenizer = backends.load(base, how, configs[0].seed)
    logs = []
    for i, (rows, config) in enumerate(zip(stages, configs, strict=True), 1):
        saved = checkpoints and os.path.join(checkpoints, f"stage-{i}")
        logs.append(fit(model, tokenizer, rows, config, checkpoints=saved, parts=parts, heldout=heldout))
        backends.save(model, tokenizer, os.path.join(folder, f"stage-{i}"), how)
    return logs


def fit(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, rows: list[dict[str, Any]], config: TrainConfig, *,
        optimizer: torch.optim.Optimizer | None = None, checkpoints: str | None = None, folder: str | None = None,
        parts: int = 1, heldout: Sequence[dict[str, Any]] = (),
        teacher: PreTrainedModel | None = None) -> list[dict[str, Any]]:
    """Trains `model` in place on rows {input_ids, completion_mask} in one pass; returns the log (step, loss).

    The mask decides what is learned: prompts and hints carry 0. `optimizer` replaces AdamW; `checkpoints` is a folder
    to save to, about ten times, and resume from: on a CPU the weights are the same, bit by bit, as without a break;
    `folder` is written by the trainer, which knows how to gather what processes share. A batch is read in `parts`.
    With rows `heldout` their loss is measured about twelve times and at the end (`eval_loss` in the log: nats per
    token, mean of batches), and `model` ends with the weights of the least, of equal ones the first. With a `teacher`
    its distribution at each token is learned, rather than the token (`_towards`): one vocabulary is asked for.
    Raises HealError for no rows, a row that teaches nothing, where the pad token would be learned as the end of text,
    and for a NaN loss."""
    _check(rows)
    _check(heldout or rows)
    check_pad(tokenizer)
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
    from datasets import Dataset
    from transformers import PrinterCallback, set_seed
    from trl import SFTTrainer

    one_thread()
    set_seed(config.seed)
    with tempfile.TemporaryDirectory() as scratch:
        arguments = _arguments(config, len(rows), checkpoints or scratch, bool(checkpoints), parts, bool(heldout),
                               _recomputes(model))
        kind = _towards(teacher.to(model.device)) if teacher is not None else SFTTrainer
        trainer = kind(model=model, args=arguments, train_dataset=Dataset.from_list(rows),
                       eval_dataset=Dataset.from_list(list(heldout)) if heldout else None,
                       processing_class=tokenizer, optimizers=(optimizer, None))
        trainer.remove_callback(PrinterCallback)
        trainer.add_callback(_finite())
        if heldout:
            trainer.add_callback(_measured_at_the_end())
        found = None
        if checkpoints:
            of = hash_of([config, rows, parts, *([heldout] if heldout else [])])
            trainer.add_callback(_sealing(of))
            found = _last_whole(checkpoints, of)
        with watch.updates(trainer, "training", sum(len(row["input_ids"]) for row in rows)):
            trainer.train(resume_from_checkpoint=found)
        if folder:
            trainer.save_model(folder)  # in fp32: the next stage goes on from it
            trainer.accelerator.wait_for_everyone()  # one process writes, all read
    return [entry for entry in trainer.state.log_history if "loss" in entry or "eval_loss" in entry]


def check_pad(tokenizer: PreTrainedTokenizerBase) -> None:
    """Raises HealError where the token that fills up a batch could not be told from the end of a text."""
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id == tokenizer.eos_token_id:
        raise HealError("the tokenizer's pad token is missing or is EOS; give it a pad token of its own")


def _recomputes(model: PreTrainedModel) -> bool:
    """Whether activations are computed again rather than kept: on a GPU of large models. Unsloth and FSDP do it in
    their own way."""
    theirs = "unsloth" in sys.modules or os.environ.get("ACCELERATE_USE_FSDP") == "true"
    return device() == "cuda" and model.num_parameters() > LARGE and not theirs


def _check(rows: Sequence[dict]) -> None:
    """Raises HealError, naming the row, where one would be trained on in full, in part by chance, or not at all."""
    if not rows:
        raise HealError("nothing to train on: the data set is empty; check the stage before "
                        "(a filter may have dropped all)")
    for i, row in enumerate(rows):
        mask, n = row.get("completion_mask"), len(row["input_ids"])
        if mask is None:
            raise HealError(f"row {i} has no completion_mask; give 1 for each token to learn, else 0")
        if len(mask) != n:
            raise HealError(f"row {i}: its completion_mask is of length {len(mask)}, for {n} tokens; give one for each")
        if not any(mask[1:]):  # nothing foretells a text's first token
            raise HealError(f"row {i}: its completion_mask lets nothing be learned; leave the row out, or set its "
                            "completion to 1")


def _sealing(of: str):
    """A callback that closes each checkpoint with the checksums of its files and what it is a checkpoint `of`."""
    from transformers import TrainerCallback

    class Sealing(TrainerCallback):
        def on_save(self, args, state, control, **others):
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            if state.is_world_process_zero:
                write_json({"of": of, "files": facts_of(folder)}, folder / SEAL)

    return Sealing()


def _measured_at_the_end():
    """A callback that has the last weights judged as well."""
    from transformers import TrainerCallback

    class Measured(TrainerCallback):
        def on_step_end(self, args, state, control, **others):
            control.should_evaluate |= state.global_step >= state.max_steps

    return Measured()


def _last_whole(folder, of: str) -> str | None:
    """The newest checkpoint that is whole and of this very run, as the one with the best weights has to be; those that
    are not are thrown away, by name."""
    found = sorted(Path(folder).glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]), reverse=True)
    for path in found:
        with contextlib.suppress(OSError, ValueError):
            best = read_json(path / "trainer_state.json")["best_global_step"]
            if all(read_json(each / SEAL) == {"of": of, "files": facts_of(each, besides=SEAL)}
                   for each in {path, path.with_name(f"checkpoint-{best}") if best else path}):
                return str(path)
        print(f"{path.parent.name}/{path.name} is not whole, or of another run; not used", file=sys.stderr)
        shutil.rmtree(path)
    return None


def _towards(teacher: PreTrainedModel) -> type[SFTTrainer]:
    """SFTTrainer whose loss is KL(teacher || student) over the vocabulary at each token that a row teaches, rather than
    the token's NLL: logit distillation at temperature 1 (Hinton et al. 2015, arXiv 1503.02531)."""
    import torch
    from torch.nn.functional import kl_div
    from trl import SFTTrainer

    class Towards(SFTTrainer):
        def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
            learned = inputs.pop("labels")[:, 1:] != -100
            outputs = model(**inputs)
            with torch.no_grad():
                wanted = teacher(**inputs).logits
            told, wanted = (torch.log_softmax(logits[:, :-1][learned].float(), -1)
                            for logits in (outputs.logits, wanted))
            loss = kl_div(told, wanted, reduction="sum", log_target=True) / (num_items_in_batch or learned.sum())
            return (loss, outputs) if return_outputs else loss

    teacher.eval()
    return Towards


def _finite():
    """A callback that stops training whose loss is no number."""
    from transformers import TrainerCallback

    class Finite(TrainerCallback):
        def on_log(self, args, state, control, logs=None, **kwargs):
            if not math.isfinite(loss := (logs or {}).get("loss", 0.0)):
                raise HealError(f"training: the loss is {loss} at step {state.global_step}; lower the learning rate")

    return Finite()


def _arguments(config: TrainConfig, n_rows: int, folder: str, save: bool, parts: int, early: bool = False,
               recompute: bool = False):
    """TRL's settings for one pass; everything that TRL turns on by itself and we do not want is off. `early`: to go
    back to the weights of the least loss on held-out rows, of which all that are measured have to be saved. On a GPU
    that has bf16, products are in bf16 (autocast), as Unsloth has them; weights and updates are as they were loaded."""
    import torch
    from trl import SFTConfig

    updates = -(-n_rows // config.batch_size)
    every = _every(updates) * (4 if early else max(5, -(-SAVE_EVERY // _every(updates))))
    measured = {"eval_strategy": "steps", "eval_steps": every, "load_best_model_at_end": True,
                "per_device_eval_batch_size": 32, "prediction_loss_only": True}
    return SFTConfig(
        output_dir=folder, gradient_accumulation_steps=parts, num_train_epochs=1,
        per_device_train_batch_size=max(1, config.batch_size // parts // int(os.environ.get("WORLD_SIZE", 1))),
        learning_rate=config.learning_rate, lr_scheduler_type=config.schedule,
        warmup_steps=config.warmup, weight_decay=config.weight_decay, max_grad_norm=1.0, seed=config.seed,
        data_seed=config.seed, completion_only_loss=True,
        train_sampling_strategy="sequential" if config.in_order else "group_by_length",
        max_length=None, packing=False, loss_type="nll", save_strategy="steps" if save or early else "no",
        save_steps=every, save_total_limit=2, **(measured if early else {}), gradient_checkpointing=recompute,
        bf16=device() == "cuda" and torch.cuda.is_bf16_supported(), use_cpu=device() == "cpu",
        logging_steps=_every(updates), report_to="none", disable_tqdm=True, dataloader_pin_memory=False,
        logging_nan_inf_filter=False,
    )


def _every(updates: int) -> int:
    """Updates between two entries of the log. A checkpoint must not part those that one is the mean of."""
    return max(1, updates // 50)
