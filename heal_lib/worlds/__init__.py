"""Worlds: where problems come from. `get(name)` gives one; each is a file of this folder (CONTRIBUTING)."""

import importlib
import pkgutil
import sys
from types import ModuleType

from heal_lib.errors import HealError
from heal_lib.worlds.base import StepReport, StepVerdict, World
from heal_lib.worlds.countdown import Countdown
from heal_lib.worlds.equations import Equations
from heal_lib.worlds.mathematics import Mathematics
from heal_lib.worlds.paths import Paths
from heal_lib.worlds.registers import Registers

_EMBEDDED = (Equations(), Paths(), Countdown(), Registers())
_WORLDS: dict[str, World] = {world.name: world for world in (*_EMBEDDED, Mathematics())}
_OURS = tuple(_WORLDS)


def _others() -> None:
    """Whatever other file of this folder defines a world is one."""
    for found in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f"{__name__}.{found.name}")
        for kind in vars(module).values():
            if isinstance(kind, type) and issubclass(kind, World) and kind.__module__ == module.__name__ \
                    and hasattr(kind, "name"):
                _WORLDS.setdefault(kind.name, kind())


_others()


def get(name: str) -> World:
    """The world of that name. Raises HealError naming the known ones."""
    if name not in _WORLDS:
        raise HealError(f"unknown world '{name}'; choose one of {', '.join(_WORLDS)}")
    return _WORLDS[name]


def names(family: str = "") -> list[str]:
    """Names of the worlds that the embedded models of a family know."""
    return [world.name for world in _EMBEDDED if world.family == family]


def every() -> list[str]:
    """Names of all worlds."""
    return list(_WORLDS)


def code(chosen: tuple[str, ...]) -> list[ModuleType]:
    """The modules of those among these worlds that did not come with this project: what they draw depends on them."""
    return [sys.modules[type(get(name)).__module__] for name in chosen if name not in _OURS]


__all__ = ["StepReport", "StepVerdict", "World", "code", "every", "get", "names"]
