"""A teacher of `registers` that has read on, text written with another habit; of other worlds: `variants.teacher`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from heal_lib import embedded
from heal_lib.embedded import corpus, variants
from heal_lib.worlds.registers import Habit

if TYPE_CHECKING:
    from pathlib import Path


def teacher(*, model: str, habit: dict[str, Any], n_texts: int, folder: Path) -> None:
    """The teacher after some more programs; `habit`: the fields of `Habit` that differ from the shipped one's."""
    recipe = replace(corpus.REGISTERS_TEACHER, habit=Habit(**habit))
    variants._read(*embedded.load(model), "registers", recipe, n_texts, variants.TEACHER, folder)
