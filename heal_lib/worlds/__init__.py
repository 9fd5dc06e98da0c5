"""Worlds: where problems come from. `get(name)` gives one; a new world is one file and one line here."""

from heal_lib.errors import HealError
from heal_lib.worlds.base import StepReport, StepVerdict, World
from heal_lib.worlds.countdown import Countdown
from heal_lib.worlds.equations import Equations
from heal_lib.worlds.mathematics import Mathematics
from heal_lib.worlds.paths import Paths

_EMBEDDED = (Equations(), Paths(), Countdown())
_WORLDS = {world.name: world for world in (*_EMBEDDED, Mathematics())}


def get(name: str) -> World:
    """The world of that name. Raises HealError naming the known ones."""
    if name not in _WORLDS:
        raise HealError(f"unknown world '{name}'; choose one of {', '.join(_WORLDS)}")
    return _WORLDS[name]


def names() -> list[str]:
    """Names of the worlds that the embedded models know."""
    return [world.name for world in _EMBEDDED]


__all__ = ["StepReport", "StepVerdict", "World", "get", "names"]
