"""Comparing answers in a process of its own: sympy can take for ever, and what stops it is a signal.

    equal(right, said) -> a line of JSON to `serve` in another Python, which answers with a line of JSON

A plain process over a pipe: it needs no main guard in the caller's script, and ends when its input does, however its
caller ended. A comparison that cannot be made is an error, never a verdict."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import select
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

SECONDS = 10  # for one comparison
START = 120  # seconds until the first answer may come: sympy is loaded by then on a busy machine
_LOCK = threading.Lock()


def equal(right: str, said: str) -> bool:
    """Whether two answers are equal (answers/verdict.py).

    What takes more than `SECONDS` is not equal. Raises HealError if comparisons cannot be made at all."""
    with _LOCK:
        for _ in range(2):  # a process that was killed from outside is started once more
            process = _process(os.getpid())
            line = json.dumps([right, said]) + "\n"
            try:
                process.stdin.write(line)
                process.stdin.flush()
                if not select.select([process.stdout], [], [], SECONDS + 5)[0]:
                    _end(process)
                    return False
                if answer := process.stdout.readline():
                    return json.loads(answer)
            except (BrokenPipeError, json.JSONDecodeError):
                pass
            _end(process)
    from heal_lib.errors import HealError

    raise HealError(f"answers cannot be compared: the process for it ends with code {process.returncode}; is "
                    "sympy installed, and is there memory left?")


@functools.cache
def _process(of: int) -> Any:
    """The process that compares for the process `of`; it has said that it is ready."""
    root = str(Path(__file__).parents[2])  # this very package, installed or not
    code = f"import sys; sys.path.insert(0, {root!r}); from heal_lib.worlds import compare; compare.serve()"
    process: Any = subprocess.Popen([sys.executable, "-P", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                    text=True, start_new_session=True)  # an interrupt is for the caller
    if select.select([process.stdout], [], [], START)[0]:
        process.stdout.readline()
    return process


def _end(process: Any) -> None:
    _process.cache_clear()
    process.kill()
    process.wait()


def serve() -> None:
    """Answers lines of [right, said] until the input ends."""
    from heal_lib.worlds.answers import verdict

    def stop(*_: object) -> None:
        raise TimeoutError

    signal.signal(signal.SIGALRM, stop)
    with contextlib.suppress(BrokenPipeError, KeyboardInterrupt):
        print("ready", flush=True)
        for line in sys.stdin:
            right, said = json.loads(line)
            signal.alarm(SECONDS)
            try:
                same = verdict.equal(right, said)
            except TimeoutError:
                same = False
            signal.alarm(0)
            print(json.dumps(same), flush=True)
