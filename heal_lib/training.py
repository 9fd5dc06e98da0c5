"""The one supervised fine-tuning path: TRL's SFTTrainer on token ids, loss on the completion only."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass

from heal_lib.errors import HealError


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


def fit(model, tokenizer, rows: list[dict], config: TrainConfig, *, optimizer=None,
        checkpoints: str | None = None) -> list[dict]:
    """Trains `model` in place on rows {input_ids, completion_mask} in one pass; returns the log (step, loss).

    The mask decides what is learned: prompts and hints carry 0. `optimizer` replaces AdamW; `checkpoints` is a folder
    to save to and resume from.
    Raises HealError for no rows, or where the pad token would be learned as the end of text."""
    if not rows:
        raise HealError("nothing to train on: the data set is empty; check the stage before "
                        "(a filter may have dropped all)")
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id == tokenizer.eos_token_id:
        raise HealError("the tokenizer's pad token is missing or is EOS; give it a pad token of its own")
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
    from datasets import Dataset
    from transformers import PrinterCallback, set_seed
    from trl import SFTTrainer

    set_seed(config.seed)
    with tempfile.TemporaryDirectory() as scratch:
        trainer = SFTTrainer(model=model, args=_arguments(config, len(rows), checkpoints or scratch, bool(checkpoints)),
                             train_dataset=Dataset.from_list(rows), processing_class=tokenizer,
                             optimizers=(optimizer, None))
        trainer.remove_callback(PrinterCallback)
        found = checkpoints and any(name.startswith("checkpoint-") for name in os.listdir(checkpoints))
        trainer.train(resume_from_checkpoint=True if found else None)
    return [entry for entry in trainer.state.log_history if "loss" in entry]


def fit_to_logits(model, tokenizer, teacher, prompts: list[str], config: TrainConfig,
                  max_new_tokens: int) -> list[dict]:
    """Logit distillation with TRL's DistillationTrainer: the student writes, and learns the teacher's distribution at
    each of its own tokens (reverse KL, TRL's default). Changes `model` in place; returns the log."""
    if not prompts:
        raise HealError("nothing to train on: no prompts; check the stage before")
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
    from datasets import Dataset
    from transformers import PrinterCallback, set_seed
    from trl import DistillationConfig, DistillationTrainer

    set_seed(config.seed)
    with tempfile.TemporaryDirectory() as scratch:
        arguments = DistillationConfig(
            output_dir=scratch, per_device_train_batch_size=config.batch_size, num_train_epochs=1,
            learning_rate=config.learning_rate, lr_scheduler_type=config.schedule, warmup_steps=config.warmup,
            weight_decay=config.weight_decay, max_grad_norm=1.0, seed=config.seed, data_seed=config.seed,
            max_completion_length=max_new_tokens, save_strategy="no",
            **_common(-(-len(prompts) // config.batch_size)))
        trainer = DistillationTrainer(model=model, teacher_model=teacher, args=arguments, processing_class=tokenizer,
                                      train_dataset=Dataset.from_dict({"prompt": prompts}))
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return [entry for entry in trainer.state.log_history if "loss" in entry]


def _arguments(config: TrainConfig, n_rows: int, folder: str, save: bool):
    """TRL's settings for one pass in fp32; everything that TRL turns on by itself and we do not want is off."""
    from trl import SFTConfig

    updates = -(-n_rows // config.batch_size)
    return SFTConfig(
        output_dir=folder, per_device_train_batch_size=config.batch_size, num_train_epochs=1,
        learning_rate=config.learning_rate, lr_scheduler_type=config.schedule, warmup_steps=config.warmup,
        weight_decay=config.weight_decay, max_grad_norm=1.0, seed=config.seed, data_seed=config.seed,
        train_sampling_strategy="sequential" if config.in_order else "group_by_length", completion_only_loss=True,
        max_length=None, packing=False, save_strategy="steps" if save else "no", save_steps=max(1, updates // 10),
        save_total_limit=1, **_common(updates),
    )


def _common(updates: int) -> dict:
    import torch

    return {"bf16": False, "gradient_checkpointing": False, "use_cpu": not torch.cuda.is_available(),
            "logging_steps": max(1, updates // 50), "report_to": "none", "disable_tqdm": True,
            "dataloader_pin_memory": False}
