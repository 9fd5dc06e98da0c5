"""Where trained weights come from and go to: transformers with peft ("hf"), or Unsloth on a CUDA GPU ("unsloth").

    load(base, how) -> training.fit on the model, stage by stage -> save(model): plain safetensors, adapters merged

Unsloth patches transformers and TRL for the whole process when it is imported, and has to come before them: a student
that it trains is trained in a process of its own (`training.train`)."""

from __future__ import annotations

import copy
import importlib.util
import os
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

from heal_lib.engines import device
from heal_lib.errors import HealError

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# What LoRA adapts, by the names that Qwen, Llama and their kin share.
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True)
class Finetune:
    """How a student is trained. method: full, lora, or qlora (the base in 4 bits). max_length: tokens of the longest
    row; `training.train` sets it."""

    backend: str = "hf"
    method: str = "full"
    rank: int = 32  # of LoRA; its alpha is the same, so that adapters weigh 1
    max_length: int = 8192
    processes: int = 1  # that share every batch, under `accelerate launch`


def check(how: Finetune) -> None:
    """Raises HealError, one line, for a backend or a method that is not known or cannot run here."""
    import torch

    if how.backend not in ("hf", "unsloth") or how.method not in ("full", "lora", "qlora"):
        raise HealError(f"backend '{how.backend}' with '{how.method}': use hf or unsloth, with full, lora or qlora")
    if how.backend == "unsloth" and not torch.cuda.is_available():
        raise HealError("BACKEND=unsloth needs a CUDA GPU, and this torch sees none; BACKEND=hf works here")
    if how.method == "qlora" and not torch.cuda.is_available():
        raise HealError("qlora needs a CUDA GPU, and this torch sees none; use lora or full")
    asked = {"unsloth": how.backend == "unsloth", "bitsandbytes": how.method == "qlora"}
    for package in (name for name, wanted in asked.items() if wanted):
        if device() != "cuda":
            raise HealError(f"{package} trains on a GPU; set DEVICE=cuda")
        if importlib.util.find_spec(package) is None:  # hours would pass before it is imported
            raise HealError(f"{package} is not installed; run: pip install '.[gpu]'")
    if how.processes > 1 and (how.backend, how.method) != ("hf", "full"):
        raise HealError(f"{how.processes} processes train with backend hf and finetune full; {how.backend} with "
                        f"{how.method} runs on one GPU")


def load(base: str, how: Finetune, seed: int = 0) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """(model, tokenizer) in train mode, ready for `training.fit`; `base` is a folder of safetensors."""
    check(how)
    return (_unsloth if how.backend == "unsloth" else _hf)(os.path.abspath(base), how, seed)


def save(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path | str, how: Finetune) -> None:
    """Writes the whole model to a folder, adapters merged, in the type of the folder that it came from, and leaves
    `model` as it was for the next stage."""
    stored = getattr(model, "stored_dtype", model.dtype)
    if how.backend == "unsloth" and how.method != "full":
        model.save_pretrained_merged(str(folder), tokenizer, save_method="merged_16bit")
    elif how.method != "full":
        _merged(model).save_pretrained(folder)
    elif stored == model.dtype:
        model.save_pretrained(folder)
    else:
        copy.deepcopy(model).to(stored).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _merged(model):
    """The model that it started from, read anew (its copy here may be in 4 bits), with the adapters in its weights."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    with tempfile.TemporaryDirectory() as adapters:
        model.save_pretrained(adapters)
        base = model.get_base_model().name_or_path
        whole = AutoModelForCausalLM.from_pretrained(base, local_files_only=True, use_safetensors=True)
        return PeftModel.from_pretrained(whole, adapters).merge_and_unload()


def _hf(base: str, how: Finetune, seed: int):
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, set_seed

    from heal_lib.engines import cache

    config = AutoConfig.from_pretrained(base, local_files_only=True)
    cache.check(config)  # or its student could never be read
    set_seed(seed)  # of the adapters' first weights
    options: dict = {"local_files_only": True, "use_safetensors": True}
    if how.method == "qlora":
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16)
    if how.method == "full":
        options["dtype"] = torch.float32  # 16 bits would round most of an update away
    model = AutoModelForCausalLM.from_pretrained(base, **options)
    if how.method == "full":
        model.stored_dtype = config.dtype or torch.float32
    else:
        from peft import LoraConfig, get_peft_model

        there = {name.rpartition(".")[2] for name, _ in model.named_modules()}  # some models join q, k and v
        model = get_peft_model(model, LoraConfig(
            r=how.rank, lora_alpha=how.rank, task_type="CAUSAL_LM",
            target_modules=list(TARGETS) if there.issuperset(TARGETS) else "all-linear"))
    return model.train(), AutoTokenizer.from_pretrained(base, local_files_only=True)


def _unsloth(base: str, how: Finetune, seed: int):
    os.environ.setdefault("UNSLOTH_DISABLE_STATISTICS", "1")
    from unsloth import FastLanguageModel  # before transformers
    from transformers import AutoConfig  # isort: skip

    # A longer text than the model was made for would make Unsloth stretch its positions, for shorter ones, too; one
    # longer than it is told here, it would cut.
    most = AutoConfig.from_pretrained(base, local_files_only=True).max_position_embeddings
    if how.max_length > most:
        raise HealError(f"a row of {how.max_length} tokens, and the student reads {most}; lower max_new_tokens")
    model, tokenizer = FastLanguageModel.from_pretrained(
        base, max_seq_length=how.max_length, load_in_4bit=how.method == "qlora", load_in_16bit=how.method == "lora",
        full_finetuning=how.method == "full", float32_mixed_precision=how.method == "full" or None,
        use_exact_model_name=True, trust_remote_code=False, random_state=seed)
    if how.method != "full":
        model = FastLanguageModel.get_peft_model(
            model, r=how.rank, lora_alpha=how.rank, target_modules=list(TARGETS), random_state=seed,
            use_gradient_checkpointing="unsloth")
    return model, tokenizer
