"""Many stages on all cores: workers, and the kernels of notebooks, are forked from one process that has imported torch
and the like.

    have(store, stages, n)             makes what is missing of the stages, and of those before them, on n workers
    have(store, stages, crew=...)      the same on workers elsewhere (`cluster`)
    python -m heal_lib.workers S M..   what they are forked from, with modules M: one for each connection to socket S

The driver starts that process once for a run (HEAL_POOL names its socket); without a driver, the first call does. It
ends when its standard input does, so with whoever started it, however that ended; a worker ends with its connection."""

from __future__ import annotations

import contextlib
import functools
import gc
import importlib
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Any

from heal_lib import child
from heal_lib.errors import HealError
from heal_lib.places import PACKAGE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from heal_lib.stage import Stage
    from heal_lib.store import Store

PRELOADED = ("torch", "transformers", "datasets", "pandas", "pyarrow.parquet", "trl.trainer.sft_trainer", "peft",
             "ipykernel.kernelapp", "seaborn", "matplotlib.backends.backend_pdf", "matplotlib.backends.backend_svg")
# These import bitsandbytes where it is installed, which asks the GPU what it is: no process can be forked after that.
NOT_ON_GPU = ("trl.trainer.sft_trainer", "peft")
ONE_THREAD = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class Forked:
    """n workers on this machine. A worker is a line: a store and a task go in, ("made" or "reused", manifest) comes."""

    def __init__(self, n: int):
        self.n = n

    def size(self) -> int:
        """How many there may be."""
        return self.n

    def connect(self) -> Connection:
        """A line to a new worker, closed at the end of a `with`."""
        return _connect()

    def wait(self, lines: list[Any]) -> list[Any]:
        """The lines that have something to say; waits for the first."""
        return wait(lines)


def have(store: Store, stages: Iterable[Stage], n: int = 1, crew: Any = None) -> None:
    """Makes all that is missing; what is there is noted. With one worker, or inside one, it happens in this process.

    Raises what a function raised, or HealError for a worker that was killed. What is made until then is kept."""
    from heal_lib import progress

    left, crew = in_order(stages, store), crew or Forked(n)
    if isinstance(crew, Forked) and n <= 1 or progress.IN_WORKER in os.environ:
        with progress.bar("working", len(left), "stage"):
            for stage in left:
                store.get(stage)
                progress.tick()
        return
    absent, busy, idle = set(), {}, []
    with progress.bar("working", len(left), "stage"), contextlib.ExitStack() as lines:
        while left or busy:
            for stage in [one for one in left if all(map(store.noted, one.before()))]:
                task = store.task(stage)
                if task.key in {task.key for _, task in busy.values()}:
                    continue
                if stage not in absent and store.find(stage):
                    left.remove(stage)
                    progress.tick()
                    continue
                absent.add(stage)
                if not idle and len(busy) < crew.size():
                    idle.append(lines.enter_context(crew.connect()))
                if idle:
                    left.remove(stage)
                    busy[line := idle.pop()] = stage, task
                    line.send((str(store.root), task))
            for line in crew.wait(list(busy)) if busy else []:
                what, manifest = _received(line, busy[line][1].name)
                if what == "at":
                    progress.tell(busy[line][1].name, manifest)
                    continue
                stage, _ = busy.pop(line)
                absent.discard(stage)
                store.note(stage, what, manifest)
                idle.append(line)
                progress.tick()


def in_order(stages: Iterable[Stage], store: Store) -> list[Stage]:
    """The stages that were not yet noted, and those before them, each after what it needs."""
    found: dict = {}

    def visit(stage):
        if stage not in found and not store.noted(stage):
            for each in stage.before():
                visit(each)
            found[stage] = None

    for stage in stages:
        visit(stage)
    return list(found)


def _received(line, name):
    try:
        what, result = line.recv()
    except (EOFError, OSError):
        raise HealError(f"{name}: its worker was killed, perhaps for want of memory; "
                        "the same command goes on from here") from None
    if what == "error":
        raise result
    return what, result


# --- the process that workers are forked from
def _connect(environment: dict[str, str] | None = None, kernel: tuple | None = None) -> Connection:
    """A line to a new worker, or kernel; it has this process's environment unless another is given."""
    end = socket.socket(socket.AF_UNIX)
    try:
        end.connect(address())
    except OSError:
        raise HealError("the pool of workers was killed; run the same command again, or restart the kernel") from None
    line = Connection(end.detach())
    line.send((environment or dict(os.environ), sys.path, kernel))
    return line


class Kernel:
    """A Jupyter kernel, forked as workers are and the head of a process group, as `subprocess.Popen` would have it.

    It says its number and nothing else: when there is more to read on its line, it has ended."""

    stdin = stdout = stderr = None
    returncode: int | None = None

    def __init__(self, arguments: list[str], environment: dict[str, str], folder: str):
        self.line: Connection = _connect({**environment, "HEAL_POOL": address()}, (arguments, folder))
        self.pid: int = self.line.recv()

    def poll(self) -> int | None:
        """None as long as it runs."""
        if self.returncode is None and self.line.poll():
            self.returncode = 1
            self.line.close()
        return self.returncode

    wait = poll  # asked for when it has ended

    def send_signal(self, number: int) -> None:
        """To the kernel alone, if it still runs."""
        if self.poll() is None:
            os.kill(self.pid, number)


def address() -> str:
    """The socket that workers are had from."""
    return os.environ.get("HEAL_POOL") or _own(os.getpid())[0]


@functools.cache
def _own(of: int) -> tuple[str, subprocess.Popen]:
    """(socket, process) of a pool that ends with the process `of`."""
    return start()


def start() -> tuple[str, subprocess.Popen[bytes]]:
    """Starts what workers are forked from, which ends with its standard input and hears no interrupt; or HealError."""
    long = len(os.fsencode(tempfile.gettempdir())) > 80  # a socket's whole name has at most some hundred bytes
    name = os.path.join(tempfile.mkdtemp(prefix="heal-", dir="/tmp" if long else None), "pool")
    path = filter(None, [str(PACKAGE.parent), os.environ.get("PYTHONPATH")])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path), **dict.fromkeys(ONE_THREAD, "1")}
    modules = [m for m in PRELOADED if os.environ.get("DEVICE") != "cuda" or m not in NOT_ON_GPU]
    command = [sys.executable, "-m", "heal_lib.workers", name, *modules]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, env=environment, start_new_session=True)
    while not os.path.exists(name) and process.poll() is None:
        time.sleep(0.01)
    if process.poll():
        raise HealError(f"the pool of workers did not start (exit code {process.returncode}); mend what it says above")
    return name, process


def serve(name: str, preloaded: Iterable[str]) -> None:
    """Forks a worker for each connection, until the standard input ends; all have imported the same."""
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(name + ".")
        door.listen(64)
        os.rename(name + ".", name)  # who waits for the name finds it open
        clear = functools.partial(shutil.rmtree, os.path.dirname(name), ignore_errors=True)
        with child.ending_with_input(clear):
            for module in ("heal_lib.codehash", *preloaded):  # which notes how the code is now
                with contextlib.suppress(ImportError):
                    importlib.import_module(module)
        gc.freeze()  # a worker that collects garbage, as training does, need not look at all of this each time
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for a worker
        while sys.stdin not in select.select([sys.stdin, door], [], [])[0]:
            end, _ = door.accept()
            if os.fork() == 0:
                door.close()
                _work(Connection(end.detach()))
                os._exit(0)
            end.close()
    clear()


def _work(line: Connection) -> None:
    """One worker: makes the stages that it is sent, on one thread, and ends with its connection or its parent."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    environment, path, kernel = line.recv()
    os.environ.clear()
    os.environ.update(environment)
    sys.path[:] = path
    threading.Thread(target=_end_with, args=(line.fileno(), os.getppid()), daemon=True).start()
    if kernel:
        return _be_kernel(line, *kernel)
    from heal_lib import console, progress
    from heal_lib.store import Store

    console.plainly()
    if "transformers" in sys.modules:
        sys.modules["transformers"].utils.logging.disable_progress_bar()  # a bar for each file read or written
    os.environ[progress.IN_WORKER] = "1"
    progress.told = lambda words: line.send(("at", words))
    stores = functools.cache(Store)
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            root, task = line.recv()
            try:
                line.send(stores(root).fill(task))
            except Exception as error:
                line.send(("error", _sendable(error)))


def _be_kernel(line: Connection, arguments: list[str], folder: str) -> None:
    """What `python -m ipykernel_launcher` does, in a group of its own: what it starts can be ended along with it."""
    os.setsid()
    os.environ.pop(child.PARENT, None)  # the process that this one was forked from is
    child.end_with_parent()
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # the pool ends with its input
    os.chdir(folder)
    sys.argv[1:] = arguments
    from ipykernel.kernelapp import IPKernelApp

    # These ask where they are when they are imported, and that was not in a notebook.
    if "matplotlib" in sys.modules:
        backend = os.environ.get("MPLBACKEND", "module://matplotlib_inline.backend_inline")
        sys.modules["matplotlib"].rcParams["backend"] = backend
    if "pandas" in sys.modules:
        sys.modules["pandas"].set_option("display.max_columns", 20)
    line.send(os.getpid())
    IPKernelApp.launch_instance(arguments)


def _sendable(error: Exception) -> Exception:
    """The error with its traceback as a note; what cannot be sent, or be made again from its words, as a plain one."""
    import traceback
    from multiprocessing.reduction import ForkingPickler

    notes = "".join(traceback.format_exception(error)) if type(error).__name__ != "HealError" else None
    try:
        error = ForkingPickler.loads(ForkingPickler.dumps(error.with_traceback(None)))  # our own bytes
    except Exception:
        error = RuntimeError(f"{type(error).__name__}: {error}")
    if notes:
        error.add_note(notes)
    return error


def _end_with(line: int, parent: int) -> None:
    """Ends this process as soon as the other end of a line hangs up, or its parent is gone: nobody wants its work."""
    watch = select.poll()
    watch.register(line, getattr(select, "POLLRDHUP", 0) | select.POLLHUP)
    while not watch.poll(500) and os.getppid() == parent:
        pass
    os._exit(1)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    serve(sys.argv[1], sys.argv[2:])
    os._exit(0)  # Python would take seconds to forget what it has imported
