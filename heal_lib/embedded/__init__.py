"""The shipped teacher and student: where they are, and loading them after checking their sha256.

HEAL_MODELS names another folder with `teacher` and `student` in it (what `FROM_SCRATCH=1` uses)."""

import functools
import json
import os
from pathlib import Path

from heal_lib.errors import HealError

WEIGHTS = Path(__file__).parent / "weights"


def folder(name: str) -> Path:
    """Where "teacher" or "student" lies, or the given path to a model."""
    if name in ("teacher", "student"):
        return Path(os.environ.get("HEAL_MODELS", WEIGHTS)) / name
    return Path(name)


@functools.cache
def weights_hash(name: str) -> str:
    """sha256 of the weights, checked against the model's card. Raises HealError for a missing or altered file."""
    from heal_lib.store import file_hash

    path = folder(name) / "model.safetensors"
    where, card = f"{path.parent.name}/{path.name}", path.parent / "card.json"
    mend = f"restore it from git, or run: make {name}" if name in ("teacher", "student") else "check the folder's name"
    if not path.is_file():
        raise HealError(f"no weights at {where} for '{name}'; {mend}")
    found = file_hash(path)
    try:
        promised = json.loads(card.read_text())["sha256"] if card.is_file() else found
    except (ValueError, LookupError, TypeError):
        raise HealError(f"{path.parent.name}/card.json is damaged; {mend}") from None
    if promised != found:
        raise HealError(f"{where} does not match the sha256 on its card; {mend}")
    return found


def load(name: str = "teacher"):
    """(model, tokenizer) of "teacher", "student" or a path; fp32, checked."""
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    weights_hash(name)
    path = str(folder(name))
    model = transformers.AutoModelForCausalLM.from_pretrained(path, local_files_only=True, use_safetensors=True)
    return model.float().eval(), transformers.AutoTokenizer.from_pretrained(path, local_files_only=True)
