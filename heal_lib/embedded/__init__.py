"""The shipped teacher and student, and other models: where they are, and loading them after checking their sha256.

HEAL_MODELS names another folder with `teacher` and `student` in it (what `FROM_SCRATCH=1` uses)."""

from __future__ import annotations

import functools
import json
import os
import re
from pathlib import Path
from typing import Any

from heal_lib.errors import HealError
from heal_lib.places import ROOT

WEIGHTS = Path(__file__).parent / "weights"
SHIPPED = ("teacher", "student", "registers-teacher", "registers-student")
SMOLLM = "smollm2-135m-instruct"  # made by `make smollm`, which needs no hub
# What makes a model besides its weights: a changed activation function or template is another model.
BESIDES = ("config.json", "generation_config.json", "tokenizer*", "*tokens*.json", "vocab*", "merges.txt", "*.model",
           "*.tiktoken", "chat_template*", "additional_chat_templates/*")


def folder(name: str) -> Path:
    """Where one of `SHIPPED`, or SMOLLM, lies, the given folder, or the files of a model on the hub
    ("Qwen/Qwen3-0.6B")."""
    if name == SMOLLM:
        return ROOT / ".cache" / "heal" / "models" / name
    if name in SHIPPED:
        return Path(os.environ.get("HEAL_MODELS") or WEIGHTS) / name
    on_hub = re.fullmatch(r"[\w-]+/[\w.-]+", name) and not Path(name).exists()
    return _fetched(name) if on_hub else Path(name)


@functools.cache
def _fetched(name: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=["*.safetensors", "*.json", "*.txt", "*.jinja", "*.model"]))
    except Exception as error:  # the hub raises a family of its own for what is not to be had
        why = str(error).strip().splitlines()[0][:120]
        mend = "check the name and the network"
        raise HealError(f"{name}: no such folder, and the hub does not give it ({why}); {mend}") from None


@functools.cache
def model_hash(name: str) -> str:
    """sha256 of all that makes a model what it is: weights, checked against its card, configuration, tokenizer and
    chat template. Raises HealError for a missing or altered file."""
    from heal_lib.files import file_hash, hash_of

    home = folder(name)
    mend = (f"restore it from git, or run: make {name}" if name in SHIPPED else "run: make smollm" if name == SMOLLM
            else "check the folder's name")
    shards, card = _shards(home, name, mend), home / "card.json"
    hashes, others = [file_hash(path) for path in shards], besides(home)
    found = hashes[0] if len(hashes) == 1 else hash_of(hashes)
    try:
        told: dict[str, Any] = json.loads(card.read_text()) if card.is_file() else {"sha256": found}
        promised: dict[str, Any] = {shards[0].name: told["sha256"], **told.get("files", {})}
    except (ValueError, LookupError, TypeError):
        raise HealError(f"{home.name}/card.json is damaged; {mend}") from None
    for file, sha256 in promised.items():
        if {**others, shards[0].name: found}.get(file) != sha256:
            raise HealError(f"{home.name}/{file} does not match the sha256 on its card; {mend}")
    return hash_of([found, others])


def besides(home: Path) -> dict[str, str]:
    """{file: sha256} of what makes a model besides its weights."""
    from heal_lib.files import file_hash

    others = {path for pattern in BESIDES for path in home.glob(pattern)}
    return {path.relative_to(home).as_posix(): file_hash(path) for path in sorted(others)}


def _shards(home: Path, name: str, mend: str) -> list[Path]:
    """The files that hold the weights: those that the index names, else every model*.safetensors."""
    index = home / "model.safetensors.index.json"
    if not index.is_file():
        if shards := sorted(home.glob("model*.safetensors")):
            return shards
        if any(home.glob("pytorch_model*.bin")):
            raise HealError(f"{home.name} holds pickled weights only, which may run code when they are read; save the "
                            "model anew with save_pretrained, which writes safetensors")
        raise HealError(f"no weights at {home.name}/model.safetensors for '{name}'; {mend}")
    try:
        shards = [home / file for file in sorted(set(json.loads(index.read_text())["weight_map"].values()))]
    except (ValueError, LookupError, TypeError, AttributeError):
        raise HealError(f"{home.name}/{index.name} is damaged; {mend}") from None
    for path in shards:
        if not path.is_file():
            raise HealError(f"no weights at {home.name}/{path.name} for '{name}', which its index names; {mend}")
    return shards


def dtype() -> str:
    """What a CPU computes in: the variable DTYPE, "float32" (the default) or "bfloat16", which is faster for pretrained
    models and rounds more: samples differ, so it belongs to what a result depends on."""
    chosen = os.environ.get("DTYPE") or "float32"
    if chosen not in ("float32", "bfloat16"):
        raise HealError(f"DTYPE={chosen}: use float32 or bfloat16")
    return chosen


def computed() -> dict[str, str]:
    """Where models run, and in what: on a GPU in the type that their configuration names; whether they may think."""
    from heal_lib.engines import device

    quiet = {"thinking": "off"} if os.environ.get("HEAL_THINKING") == "0" else {}
    return {"device": device(), "dtype": dtype() if device() == "cpu" else "as stored", **quiet}


def check(name: str) -> None:
    """Raises HealError, one line, for a model without weights, with pickled ones only, or without a tokenizer."""
    model_hash(name)
    home = folder(name)
    if not any(found for like in ("tokenizer*", "vocab*", "*.model") for found in home.glob(like)):
        raise HealError(f"{name}: its folder holds no tokenizer; save one there")  # transformers makes up an empty one


def load(name: str = "teacher") -> tuple[Any, Any]:
    """(model, tokenizer) of "teacher", "student", a folder or a model on the hub, checked, on `engines.device()`: in
    `dtype()` on the CPU, on a GPU as config.json says (4-bit ones too). Raises HealError for one that no engine
    reads."""
    import torch
    import transformers

    from heal_lib.engines import cache, device

    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    check(name)
    path, where = str(folder(name)), device()
    try:
        cache.check(transformers.AutoConfig.from_pretrained(path, local_files_only=True))
    except (OSError, ValueError, KeyError) as error:  # as transformers says that it does not know a model
        why = str(error).strip().partition("\n")[0][:160]
        raise HealError(f"{name}: transformers cannot read its config.json ({why}); use a model that it knows"
                        ) from error
    options = {"local_files_only": True, "use_safetensors": True, **({} if where == "cpu" else {"device_map": where})}
    model = transformers.AutoModelForCausalLM.from_pretrained(path, **options)
    tokenizer = transformers.AutoTokenizer.from_pretrained(path, local_files_only=True)
    return (model.to(getattr(torch, dtype())) if where == "cpu" else model).eval(), tokenizer
