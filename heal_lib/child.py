"""A process that ends with the one that started it: `python -m heal_lib.child MODULE ARGUMENTS` runs that module.

Whatever ends the driver, `kill -9` too, the kernel that it drives must not go on for hours, and hold its memory."""

from __future__ import annotations

import ctypes
import os
import runpy
import signal
import sys

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


if __name__ == "__main__":
    end_with_parent()
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
