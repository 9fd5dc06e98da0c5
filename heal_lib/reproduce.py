"""The driver: runs the notebooks in order and fills results/<scale>/.

    python -m heal_lib.reproduce --scale demo --only 02_gear -p window 0.5

A parameter that scales have goes to all notebooks that run (HEAL_OVERRIDES, which `scales.get` reads), another to those
that declare it; what it changes is written to a folder of its own. What is up to date is skipped; after a kill the same
command goes on.
Exit codes: 0 done, 1 a cell failed, 2 bad input or no room on the disk, 130 interrupted.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

from heal_lib import console, kept, notebooks, provenance, scales, workers
from heal_lib.errors import HealError
from heal_lib.files import disk_error
from heal_lib.places import ROOT, default_root
from heal_lib.run import Run, alone
from heal_lib.stage import Stage
from heal_lib.store import Store

if TYPE_CHECKING:
    from pathlib import Path


def train_models() -> Path:
    """Trains the shipped models side by side, each once per version of its recipe's code; returns their folder."""
    from heal_lib.embedded import pretrain

    store = Store()
    models = {name: Stage(f"model {name}", pretrain.model, {"name": name}) for name in pretrain.PLANS}
    workers.have(store, models.values(), min(provenance.cores(), len(models)))  # each on one thread
    return store.get(Stage("models", pretrain.together, {"models": models})).folder


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """A polite kill, or a terminal that goes away, is an interrupt. Only the first counts: a second one (`timeout`
    sends two) would break off the ending of kernels, or this process's. What nohup ignores stays ignored."""
    def stop(number, frame):
        for other in usual:
            signal.signal(other, signal.SIG_IGN)
        raise KeyboardInterrupt

    known = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    here = threading.current_thread() is threading.main_thread()
    usual = {number: signal.getsignal(number) for number in known if here}
    for number, handler in usual.items():
        if handler is not signal.SIG_IGN or number == signal.SIGTERM:
            signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in usual.items():
            if signal.getsignal(number) is stop:
                signal.signal(number, handler)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    it = console.Parser("reproduce", __doc__.splitlines()[0])
    it.add_argument("--scale", default="demo", help=f"one of {', '.join(scales.names())}; demo by default")
    it.add_argument("--only", nargs="+", metavar="NOTEBOOK", help="notebooks to run, e.g. 02_gear or 02")
    it.add_argument("-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), dest="pairs",
                    help="override a parameter that one of the notebooks declares")
    it.add_argument("--gpu-preset", type=int, metavar="GIB", help="scale llm's recipe for a card (see heal_lib.plan)")
    flags = {
        "--keep": "train no student again whose answers results/<scale>/per_sample holds, made by the same code",
        "--force": "run notebooks that are up to date as well",
        "--from-scratch": "train teacher and student first, and use them",
        "--write-readme": "only put what is committed into README",
        "--check-readme": "only check that committed results are of a clean commit each, and that README shows them",
        "--list": "only list the notebooks and their parameters",
    }
    for flag, meaning in flags.items():
        it.add_argument(flag, action="store_true", help=meaning)
    return it


def command(args: argparse.Namespace) -> int:
    """Does what the parsed command line asks for; returns the exit code."""
    if args.check_readme or args.write_readme:
        readme = importlib.import_module("heal_lib.readme")
        for name in ("demo", *scales.STUDIES):
            if name == "demo" or (ROOT / "results" / name).is_dir():
                provenance.check_committed(ROOT / "results" / name)
        if args.write_readme:
            readme.write()
        current = readme.is_current()
        if not current:
            print("heal: README.md does not show the committed results; add --write-readme", file=sys.stderr)
        return 0 if current else 1
    if args.gpu_preset is not None:
        if args.scale != "llm":
            raise HealError(f"--gpu-preset is for scale llm, not {args.scale}; add --scale llm")
        found = importlib.import_module("heal_lib.plan").preset(args.gpu_preset)
        args.pairs = [[name, str(list(v) if isinstance(v, tuple) else v)] for name, v in found.items()] + args.pairs
        os.environ.setdefault("DEVICE", "cuda")
    paths = notebooks.select(args.only, args.scale)
    if args.list:
        for path in paths:
            print(path.stem, *(f"{name}={default}" for name, default in notebooks.declared(path).items()))
        return 0
    if os.environ.get("DEVICE"):
        importlib.import_module("heal_lib.engines").device()  # a GPU that is not there is named before anything runs
    if args.keep:
        os.environ[kept.ASKED] = "1"
    os.environ["HEAL_CACHE"] = str(default_root())  # kernels run in another folder than this process
    if file := os.environ.get("ACCELERATE_CONFIG"):
        os.environ["ACCELERATE_CONFIG"] = os.path.abspath(file)
    notebooks.prepare_kernels(offline=args.scale != "llm")
    if args.from_scratch:
        Run(args.scale, paths, args.pairs)  # bad input is found before an hour of training, not after
        os.environ["HEAL_MODELS"] = str(train_models())
    run = Run(args.scale, paths, args.pairs)
    with alone(run.folder):
        run.all(args.force)
    return 0


def main(argv: list[str] | None = None) -> int:
    """Runs the driver; returns its exit code."""
    args = parser().parse_args(argv)
    try:
        with interruptible():
            return command(args)
    except console.NotebookFailed as error:
        return _say(error, 1)
    except HealError as error:
        return _say(error, 2)
    except OSError as error:
        trouble = disk_error(error, error.filename or "results")
        if trouble is None:
            raise
        return _say(trouble, 2)
    except (KeyboardInterrupt, BrokenPipeError):  # nobody reads on: `make reproduce | head`
        return _say(KeyboardInterrupt("interrupted; the same command goes on from here"), 130)


def _say(error, code):
    with contextlib.suppress(OSError):  # the terminal may be gone
        print(f"heal: {console.words(error)}", file=sys.stderr, flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
