"""Worlds: where problems come from. `get(name)` gives one; each is a file of this folder (CONTRIBUTING), or comes from
another package through the entry point group `heal_lib.worlds`:

    [project.entry-points."heal_lib.worlds"]
    chess = "my_package:Chess"           # a subclass of World; get("chess")

A name may have a part after a colon, which the class is then called with: get("gym:chain_sum") is Gym("chain_sum")."""

import difflib
import functools
import importlib
import pkgutil
import sys
from importlib.metadata import entry_points
from types import ModuleType

from heal_lib.errors import HealError
from heal_lib.worlds.base import StepReport, StepVerdict, World
from heal_lib.worlds.countdown import Countdown
from heal_lib.worlds.equations import Equations
from heal_lib.worlds.gym import Gym
from heal_lib.worlds.mathematics import Mathematics
from heal_lib.worlds.paths import Paths

_EMBEDDED = (Equations(), Paths(), Countdown())
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


@functools.cache
def _from_elsewhere(name: str, task: str | None = None) -> World | None:
    """The world that another package has registered under a name; None where there is none."""
    for point in entry_points(group="heal_lib.worlds"):
        if point.name == name:
            try:
                return point.load()(*[] if task is None else [task])
            except HealError:
                raise
            except Exception as error:  # whatever the other package's code may raise
                raise HealError(f"world '{name}' of {point.value} cannot be made ({error!r}); mend it there") from error
    return None


@functools.cache
def _gym(task: str) -> World:
    return Gym(task)


def get(name: str) -> World:
    """The world of that name. Raises HealError naming the known ones."""
    if name in _WORLDS:
        return _WORLDS[name]
    kind, colon, task = name.partition(":")
    if kind == "gym":
        return _gym(task)
    if world := _from_elsewhere(kind, task if colon else None):
        return world
    known = [*_WORLDS, *(point.name for point in entry_points(group="heal_lib.worlds")), "gym:<task of reasoning-gym>"]
    near = "".join(f"; did you mean '{one}'?" for one in difflib.get_close_matches(name, known, 1))
    raise HealError(f"unknown world '{name}'; choose one of {', '.join(known)}{near}")


def names() -> list[str]:
    """Names of the worlds that the embedded models know."""
    return [world.name for world in _EMBEDDED]


def every() -> list[str]:
    """Names of all worlds of this folder."""
    return list(_WORLDS)


def code(chosen: tuple[str, ...]) -> list[ModuleType]:
    """The modules of those among these worlds that did not come with this project: what they draw depends on them."""
    return [sys.modules[type(get(name)).__module__] for name in chosen if name not in _OURS]


__all__ = ["StepReport", "StepVerdict", "World", "code", "every", "get", "names"]
