"""Who is told how far a long call is: nobody, until `heal_lib.progress` is imported. What computes results calls these,
so that how progress is shown is no part of what the results depend on."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any


def _nobody(n: int = 1) -> None:
    pass


def _same(engine: Any) -> Any:
    return engine


def _unseen(trainer, what: str, tokens: int = 0) -> contextlib.AbstractContextManager:
    return contextlib.nullcontext()


engine: Callable[[Any], Any] = _same  # (engine): the same, its long calls watched
tick: Callable[..., None] = _nobody  # (n=1): n more rows are done
updates: Callable[..., contextlib.AbstractContextManager] = _unseen  # (trainer, what, tokens=0): around its updates
