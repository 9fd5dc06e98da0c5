"""Worlds: where problems come from. `get(name)` gives one; each is a file of this folder (CONTRIBUTING), or comes from
another package through the entry point group `heal_lib.worlds`:

    [project.entry-points."heal_lib.worlds"]
    chess = "my_package:Chess"           # a subclass of World; get("chess")

A name may have a part after a colon, which the class is then called with: get("gym:chain_sum") is Gym("chain_sum")."""

import difflib
import functools
import importlib
import pkgutil
from importlib.metadata import entry_points

from heal_lib.errors import HealError
from heal_lib.worlds.base import StepReport, StepVerdict, World

_EMBEDDED = {"": ("equations", "paths", "countdown"), "registers": ("registers",)}  # by family: who has read them
_FILES = {"math": "mathematics"}  # of worlds whose file is called otherwise


@functools.cache
def _of_folder(name: str) -> World | None:
    """The world of that name in this folder. Only its own file is imported: a stage rests on the worlds that it asks
    for, and its key names them (`teacher.benchmark`)."""
    file = _FILES.get(name, name)
    if file not in {found.name for found in pkgutil.iter_modules(__path__)}:
        return None
    module = importlib.import_module(f"{__name__}.{file}")
    return next((kind() for kind in vars(module).values() if isinstance(kind, type) and issubclass(kind, World)
                 and kind.__module__ == module.__name__ and getattr(kind, "name", None) == name), None)


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
    return importlib.import_module(f"{__name__}.gym").Gym(task)


def get(name: str) -> World:
    """The world of that name. Raises HealError naming the known ones."""
    kind, colon, task = name.partition(":")
    if kind == "gym":
        return _gym(task)
    if world := _of_folder(name) or _from_elsewhere(kind, task if colon else None):
        return world
    known = [*every(), *(point.name for point in entry_points(group="heal_lib.worlds")), "gym:<task of reasoning-gym>"]
    near = "".join(f"; did you mean '{one}'?" for one in difflib.get_close_matches(name, known, 1))
    raise HealError(f"unknown world '{name}'; choose one of {', '.join(known)}{near}")


def names(family: str = "") -> list[str]:
    """Names of the worlds that the embedded models of a family know."""
    return list(_EMBEDDED[family])


def every() -> list[str]:
    """Names of all worlds of this folder."""
    of_file = {file: name for name, file in _FILES.items()}
    found = [of_file.get(found.name, found.name) for found in pkgutil.iter_modules(__path__)]
    first = names()
    return [*first, *(name for name in found if name not in (*first, "gym") and _of_folder(name))]


__all__ = ["StepReport", "StepVerdict", "World", "every", "get", "names"]
