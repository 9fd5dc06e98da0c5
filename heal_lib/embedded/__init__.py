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

WEIGHTS = Path(__file__).parent / "weights"
SHIPPED = ("teacher", "student", "registers-teacher", "registers-student")


def folder(name: str) -> Path:
    """Where one of `SHIPPED` lies, the given folder, or the files of a model on the hub ("Qwen/Qwen3-0.6B")."""
    if name in SHIPPED:
        return Path(os.environ.get("HEAL_MODELS") or WEIGHTS) / name
    on_hub = re.fullmatch(r"[\w-]+/[\w.-]+", name) and not Path(name).exists()
    return _fetched(name) if on_hub else Path(name)


@functools.cache
def _fetched(name: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=["*.safetensors", "*.json", "*.txt", "*.jinja"]))
    except Exception as error:  # the hub raises a family of its own for what is not to be had
        why = str(error).strip().splitlines()[0][:120]
        mend = "check the name and the network"
        raise HealError(f"{name}: no such folder, and the hub does not give it ({why}); {mend}") from None


@functools.cache
def weights_hash(name: str) -> str:
    """sha256 of the weights, checked against the model's card. Raises HealError for a missing or altered file."""
    from heal_lib.store import file_hash, hash_of

    home = folder(name)
    shards, card = sorted(home.glob("model*.safetensors")), home / "card.json"
    mend = f"restore it from git, or run: make {name}" if name in SHIPPED else "check the folder's name"
    if not shards:
        raise HealError(f"no weights at {home.name}/model.safetensors for '{name}'; {mend}")
    hashes = [file_hash(path) for path in shards]
    found = hashes[0] if len(hashes) == 1 else hash_of(hashes)
    try:
        promised = json.loads(card.read_text())["sha256"] if card.is_file() else found
    except (ValueError, LookupError, TypeError):
        raise HealError(f"{home.name}/card.json is damaged; {mend}") from None
    if promised != found:
        raise HealError(f"{home.name}/{shards[0].name} does not match the sha256 on its card; {mend}")
    return found


def load(name: str = "teacher") -> tuple[Any, Any]:
    """(model, tokenizer) of "teacher", "student", a folder or a model on the hub, checked, on `engines.device()`: fp32
    on the CPU, on a GPU as the weights are stored (4-bit ones too)."""
    import transformers

    from heal_lib.engines import device

    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    weights_hash(name)
    path, where = str(folder(name)), device()
    if not any(found for like in ("tokenizer*", "vocab*", "*.model") for found in Path(path).glob(like)):
        raise HealError(f"{name}: its folder holds no tokenizer; save one there")  # transformers makes up an empty one
    options = {"local_files_only": True, "use_safetensors": True, **({} if where == "cpu" else {"device_map": where})}
    model = transformers.AutoModelForCausalLM.from_pretrained(path, **options)
    tokenizer = transformers.AutoTokenizer.from_pretrained(path, local_files_only=True)
    return (model.float() if where == "cpu" else model).eval(), tokenizer
