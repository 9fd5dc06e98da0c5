"""HEAL (Hindsight Entropy-Assisted Learning, arXiv 2603.10359), reconstructed.

`import heal_lib` is cheap: submodules, and torch with them, load on first use (`heal_lib.gear`).
"""

import importlib
import importlib.util
from typing import Any

__version__ = "0.1.0"


def load_model(name: str = "teacher") -> tuple[Any, Any]:
    """(model, tokenizer) of `"teacher"`, `"student"` or a folder; HealError if missing or altered."""
    return importlib.import_module("heal_lib.embedded").load(name)


def __getattr__(name: str) -> Any:
    full = f"{__name__}.{name}"
    if not name.startswith("_") and importlib.util.find_spec(full):
        return importlib.import_module(full)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
