"""Which engine runs a model: `hf`, or a file of this folder that has a function `build` (CONTRIBUTING).

    build(name)   the engine around a model
    check()       raises HealError where it cannot run; may be missing
    VARIABLES     the environment's that change what it draws or tells; may be missing
    LIKE_HF       true where its draws are those of hf, so that both share what is cached; may be missing

What says where a server or a cluster is stays in the environment: no cache key, result or notebook holds it."""

from __future__ import annotations

import functools
import gc
import importlib
import os
import pkgutil
from types import ModuleType

from heal_lib import embedded, engines
from heal_lib.codehash import code_hash
from heal_lib.engines import Engine
from heal_lib.engines.words import Words
from heal_lib.errors import HealError
from heal_lib.files import hash_of


def names() -> list[str]:
    """Names of all engines."""
    modules = (found.name for found in pkgutil.iter_modules(engines.__path__) if found.name not in ("hf", "choose"))
    return ["hf", *(name for name in modules if hasattr(_module(name), "build"))]


def check(kind: str) -> None:
    """Raises HealError, one line, for an engine that is not known or cannot run here."""
    if kind != "hf" and kind not in names():
        raise HealError(f"unknown engine '{kind}'; choose one of {', '.join(names())}")
    if kind != "hf" and hasattr(_module(kind), "check"):
        _module(kind).check()


def key(kind: str) -> str:
    """What stands for an engine among the things that determine its draws: the same where they are those of hf."""
    if kind == "hf" or getattr(_module(kind), "LIKE_HF", False):
        return "hf"
    told = [os.environ.get(name) or None for name in getattr(_module(kind), "VARIABLES", ())]
    return hash_of([code_hash(_module(kind).__name__), *told])


_held: dict[tuple[str, str], Engine] = {}


def engine(name: str, kind: str = "hf") -> Engine:
    """The engine around an embedded model, a folder or a model on the hub. A process holds those that it used last, on
    a GPU one: a card seldom has room for two."""
    if (name, kind) in _held:
        _held[name, kind] = _held.pop((name, kind))
    else:
        while len(_held) >= (1 if engines.device() == "cuda" else 4):
            release(next(iter(_held)))
        if kind != "hf":
            _held[name, kind] = _module(kind).build(name)
        else:
            from heal_lib.engines.hf import HFEngine  # seconds of torch and transformers

            _held[name, kind] = HFEngine(*embedded.load(name))
    return _held[name, kind]


def release(*which: tuple[str, str]) -> None:
    """Lets go of engines (by default of all that are held), and of the memory of a GPU that they leave."""
    for key in which or tuple(_held):
        _held.pop(key)
    if engines.device() == "cuda":
        import torch

        gc.collect()
        torch.cuda.empty_cache()


@functools.cache
def words(name: str) -> Words:
    """The tokenizer's side of a model, which needs no weights."""
    from transformers import AutoTokenizer

    embedded.check(name)
    return Words(AutoTokenizer.from_pretrained(str(embedded.folder(name)), local_files_only=True))


def _module(kind: str) -> ModuleType:
    return importlib.import_module(f"heal_lib.engines.{kind}")
