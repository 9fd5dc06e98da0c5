"""Seconds and memory of a function, for benchmarks (`bench`, `scaling`, `overheads`)."""

from __future__ import annotations

import gc
import statistics
import threading
import time
from collections.abc import Callable
from typing import Any

REPEATS = 5


def in_turn(**ways: Callable[..., Any]) -> dict[str, float]:
    """{name: median seconds} of functions that are run one after the other, `REPEATS` times, after a first time."""
    seconds: dict[str, list] = {name: [] for name in ways}
    for lap in range(REPEATS + 1):
        for name, run in ways.items():
            start = time.perf_counter()
            run()
            if lap:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(found) for name, found in seconds.items()}


def peak(run: Callable[[], Any]) -> float:
    """MiB that a function adds to this process's memory at its peak."""
    import ctypes

    import psutil

    if hasattr(libc := ctypes.CDLL(None), "malloc_trim"):  # what was freed before would be used again, unseen
        gc.collect()
        libc.malloc_trim(0)

    process, most, done = psutil.Process(), [0], threading.Event()

    def watch():
        while not done.wait(0.005):
            most[0] = max(most[0], process.memory_info().rss)

    before, watcher = process.memory_info().rss, threading.Thread(target=watch)
    watcher.start()
    run()
    done.set()
    watcher.join()
    return (most[0] - before) / 2**20
