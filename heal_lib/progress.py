"""How far a long stage is, at what rate, and how long it still takes: tqdm, set up for where its lines go.

    a terminal                            one line that is written over
    a notebook in JupyterLab              a bar, gone when it is done
    a log, or a notebook of the driver's  a whole line, at most one in 10 s, on stderr and never in the notebook
    a worker process                      nothing: who started it counts what is done

What takes less than 2 seconds shows nothing. tqdm is imported when the first bar is made."""

from __future__ import annotations

import contextlib
import functools
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from heal_lib import watch

if TYPE_CHECKING:
    import numpy as np
    from transformers import Trainer

    from heal_lib.engines import Engine, Sample, SamplingParams, Score

IN_WORKER = "HEAL_IN_WORKER"  # set in worker processes
told: Callable[[str], None] | None = None  # in a worker: tells who started it how far it is
DELAY, EVERY = 2, 10  # seconds before anything is shown; between two lines of a log
FORMAT = "{desc}: {n_fmt}/{total_fmt} {unit}s, {pace}{postfix}; about {remaining} left"
_CLEAR = "\r\x1b[K"  # takes an unfinished line off a terminal
_open: list = []  # (words, bar) of the bars that are being shown, the innermost last


def clock(seconds: float) -> str:
    """Seconds as 1:02 or 1:02:03."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


@contextlib.contextmanager
def bar(what: str, total: int, unit: str) -> Iterator[Any]:
    """A bar, as tqdm has it; `unit` in the singular. Inside another one it tells that one's place, and is shown instead
    of it."""
    if told:
        it = _Told(what, total, unit)
        _open.append((f"{unit}s", it))
        try:
            yield it
        finally:
            _open.pop()
        return
    kind, options = _look()
    place = "".join(f"{it.n}/{it.total} {words}, " for words, it in _open)
    if _open:
        _open[-1][1].clear()
    it = kind(desc=place + what, total=total, unit=unit, leave=False, delay=DELAY, smoothing=0, miniters=1,
              position=0, **options)
    _open.append((f"{unit}s", it))
    try:
        yield it
    finally:
        _open.pop()
        it.close()


def tick(n: int = 1) -> None:
    """n more of what the innermost bar counts are done, if there is one."""
    if _open:
        it = _open[-1][1]
        it.update(max(0, min(n, it.total - it.n)))


def tell(name: str, words: str) -> None:
    """How far a worker is with what it makes, beside the innermost bar until the next is done."""
    if _open:
        _open[-1][1].set_postfix_str(f"{name}: {words}", refresh=True)
        _open[-1][1].set_postfix_str("", refresh=False)


class _Told:
    """A bar of a worker: it goes to who started it, at most once in two seconds."""

    disable = False

    def __init__(self, what: str, total: int, unit: str):
        self.what, self.total, self.unit, self.n, self.initial = what, total, unit, 0, 0
        self.begun = self.last = time.monotonic()

    @property
    def format_dict(self) -> dict:
        return {"elapsed": time.monotonic() - self.begun}

    def set_postfix_str(self, words: str, refresh: bool = True) -> None:
        """Not shown: the count says enough."""

    def update(self, n: int) -> None:
        self.n += n
        if told and time.monotonic() - self.last >= DELAY and self.n < self.total:
            self.last = time.monotonic()
            left = (self.last - self.begun) * (self.total - self.n) / max(self.n, 1)
            told(f"{self.what}, {self.n}/{self.total} {self.unit}s, about {left:.0f} s left")


def say(line: str) -> None:
    """A whole line on stdout; a bar on the same terminal makes room for it."""
    shared = (_open or IN_WORKER in os.environ) and sys.stdout.isatty()
    print(f"{_CLEAR * bool(shared)}{line}\n", end="", flush=True)  # in one piece: workers write beside each other


def _look() -> tuple:
    """The kind of bar for where this process writes, and its options."""
    if IN_WORKER in os.environ or os.environ.get("RANK", "0") != "0":
        return _kinds()[0], {"disable": True}
    kernel = "ipykernel" in sys.modules and type(sys.stderr).__module__.startswith("ipykernel")
    if kernel and "HEAL_EVENTS" not in os.environ:
        from tqdm.notebook import tqdm

        return tqdm, {}
    stream = sys.__stderr__ if kernel else sys.stderr  # the kernel's own stderr is a part of the notebook
    if not kernel and stream and stream.isatty():
        return _kinds()[0], {"file": stream, "mininterval": 0.5, "bar_format": FORMAT, "dynamic_ncols": True}
    return _kinds()[1], {"file": stream, "mininterval": EVERY, "bar_format": FORMAT}


@functools.cache
def _kinds() -> tuple:
    from tqdm import tqdm

    class Line(tqdm):
        """tqdm without its thread and its lock between processes, which a killed worker would leave behind."""

        monitor_interval = 0

        @property
        def format_dict(self):
            facts = super().format_dict
            rate = (facts["n"] - facts["initial"]) / max(facts["elapsed"], 1e-9)
            pace = f"{rate:,.1f} {self.unit}s/s" if rate >= 1 or not rate else f"{1 / rate:,.1f} s each"
            return {**facts, "pace": pace}

    class Lines(Line):
        """The same as whole lines."""

        @staticmethod
        def status_printer(file):
            def write(text):
                if text.strip():
                    file.write(f"{_CLEAR * file.isatty()}{text.strip()}\n")
                    file.flush()

            return write

        def clear(self, nolock=False):
            pass

        def close(self):
            self.delay = math.inf  # there is nothing to take away
            super().close()

    Line.set_lock(threading.RLock())
    return Line, Lines


class Watched:
    """An engine whose long calls show how far they are; otherwise the engine itself."""

    def __init__(self, engine: Engine):
        self._engine = engine

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def sample(self, prompts: Sequence[Sequence[int]], n: int, params: SamplingParams, seed: int,
               keys: Sequence[str] | None = None) -> list[list[Sample]]:
        """See `Engine.sample`."""
        with _rows("sampling", len(prompts) * n, "sample", self._engine, n):
            return self._engine.sample(prompts, n, params, seed, keys)

    def score(self, prompts: Sequence[Sequence[int]], completions: Sequence[Sequence[int]]) -> list[Score]:
        """See `Engine.score`."""
        with _rows("scoring", len(prompts), "row", self._engine):
            return self._engine.score(prompts, completions)

    def tail_nll(self, prompts: Sequence[Sequence[int]], completions: Sequence[Sequence[int]],
                 ends: Sequence[Sequence[int]], tails: Sequence[Sequence[int]]) -> list[np.ndarray]:
        """See `Engine.tail_nll`."""
        with _rows("scoring answers", len(prompts), "row", self._engine):
            return self._engine.tail_nll(prompts, completions, ends, tails)


@contextlib.contextmanager
def _rows(what: str, total: int, unit: str, engine, each: int = 1) -> Iterator[None]:
    """A bar over rows. Of a local model, a batch is done when the next one is read; other engines `tick`.

    A batch shows as a forward pass over more than one column: a step of decoding has one. `each`: rows made of a
    prompt."""
    begun = 0

    def reads(module, given, named):
        nonlocal begun
        ids = named.get("input_ids")
        if ids is not None and ids.shape[1] > 1:
            tick(begun)
            begun = len(ids) * each

    with bar(what, total, unit), contextlib.ExitStack() as stack:
        model = getattr(engine, "model", None)
        if model is not None and hasattr(model, "register_forward_pre_hook"):
            stack.callback(model.register_forward_pre_hook(reads, with_kwargs=True).remove)
        yield


@contextlib.contextmanager
def updates(trainer: Trainer, what: str, tokens: int = 0) -> Iterator[None]:
    """A bar over the updates of a `transformers` trainer; `tokens`: of its whole data set, for the rate."""
    from transformers import TrainerCallback

    with bar(what, 1, "update") as it:
        class Shown(TrainerCallback):
            def on_train_begin(self, args, state, control, **others):
                it.total = state.max_steps
                it.initial = it.n = state.global_step

            def on_step_end(self, args, state, control, **others):
                if tokens and not it.disable and (seconds := it.format_dict["elapsed"]) > 0:
                    done = (state.global_step - it.initial) / state.max_steps
                    it.set_postfix_str(f"{tokens * done / seconds:,.0f} tokens/s", refresh=False)
                it.update(state.global_step - it.n)

        trainer.add_callback(Shown)
        yield


watch.engine, watch.tick, watch.updates = Watched, tick, updates
