"""What can be had: a function, and all that determines what it makes. `store` has it made, or finds it.

    Stage(name, function, inputs)      a result that can be had: what `function` makes of `inputs`, and of nothing else
    determined(stage, part)            all of that as plain data, to be hashed"""

from __future__ import annotations

import functools
import importlib.metadata
import os
import platform
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from heal_lib.codehash import code_hash

LIBRARIES = ("torch", "transformers", "tokenizers", "trl", "accelerate", "numpy", "datasets", "sympy")


class Keyed(NamedTuple):
    """An input whose content counts and not its name: the function is given `value`, the key holds `by`."""

    value: Any
    by: Any


@dataclass(frozen=True, eq=False)
class Stage:
    """What `function` makes of `inputs`: plain data, `Keyed`, stages, and lists or dicts of these.

    function: of a module; given its inputs by name, and `folder`, to write to, if it has such a parameter. A stage
    among the inputs arrives as its data set if it returned one, else as its folder. What it returns is saved."""

    name: str
    function: Callable[..., Any]
    inputs: dict[str, Any] = field(default_factory=dict)

    def before(self) -> list[Stage]:
        """The stages among the inputs."""
        found: list[Stage] = []
        each(self.inputs, lambda value: found.append(value) if isinstance(value, Stage) else None)
        return found


@functools.cache
def versions(libraries: tuple[str, ...] = LIBRARIES) -> dict[str, str | None]:
    """{library: installed version or None}, without importing any, and the Python's minor version."""
    found: dict[str, str | None] = {"python": ".".join(platform.python_version_tuple()[:2])}
    for library in libraries:
        try:
            found[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            found[library] = None
    return found


def determined(stage: Stage, part: Callable[[Any], Any]) -> dict[str, Any]:
    """All that determines a stage; `part`: what counts of an input."""
    module = stage.function.__module__
    return {"name": stage.name, "function": f"{module}.{stage.function.__qualname__}",
            "inputs": each(stage.inputs, part), "versions": versions(), "code": code_hash(module),
            "device": [os.environ.get("DEVICE") or "cpu", os.environ.get("DTYPE") or "float32",
                       *["no thinking"] * (os.environ.get("HEAL_THINKING") == "0")]}


def each(value: Any, change: Callable[[Any], Any]) -> Any:
    """Inputs with what is no list and no dict changed; a tuple becomes a list."""
    if isinstance(value, dict):
        return {name: each(one, change) for name, one in value.items()}
    if isinstance(value, list | tuple) and not isinstance(value, Keyed):
        return [each(one, change) for one in value]
    return change(value)
