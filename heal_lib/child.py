"""A process that ends with the one that started it: `python -m heal_lib.child MODULE ARGUMENTS` runs that module.

Whatever ends the driver, `kill -9` too, the kernel that it drives must not go on for hours, and hold its memory."""

from __future__ import annotations

import contextlib
import ctypes
import os
import runpy
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterator

PARENT = "HEAL_PARENT"  # the variable that holds the number of the process that started this one
_PR_SET_PDEATHSIG = 1


def end_with_parent() -> None:
    """Asks Linux to kill this process when its parent ends; elsewhere a kernel polls for that by itself.

    A signal that the parent ignores would be ignored here too: SIGTERM is set back, for what is started here. SIGINT
    is not heard until there is somebody to handle it, as a kernel does while a cell runs."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(os.environ.pop(PARENT, os.getppid())):  # it ended before it could be watched
        os._exit(1)


@contextlib.contextmanager
def ending_with_input(last: Callable[[], None]) -> Iterator[None]:
    """Around what takes long: ends this process, after `last`, as soon as its standard input ends or is written to."""
    def watch():
        while not done.wait(0.1):
            if select.select([0], [], [], 0)[0]:
                last()
                os._exit(0)

    done, thread = threading.Event(), threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()  # who forks has no other thread


if __name__ == "__main__":
    end_with_parent()
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
