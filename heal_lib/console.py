"""What all commands do alike: words for people, a result for machines, one line for an error.

    run(parser, command)      command(args) prints its words as it goes, and returns (result, exit code)

With --json all words go to standard error, and standard output holds the result alone, or {"error", "exit"}.
Exit codes: 0 done, 1 a check or a notebook failed, 2 bad input or no room on the disk, 130 interrupted."""

from __future__ import annotations

import argparse
import contextlib
import difflib
import importlib
import json
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from heal_lib.errors import HealError
from heal_lib.files import ROOT, disk_error
from heal_lib.places import PACKAGE

Command = Callable[[argparse.Namespace], tuple[Any, int]]


class NotebookFailed(Exception):
    """A cell failed, or its kernel died: the notebook's name and the last line of the error."""


class _Usage(Exception):
    """What is wrong with a command line."""


class Parser(argparse.ArgumentParser):
    """The command line of a module: its usage calls it as it was called, and what is wrong with it is one line."""

    def __init__(self, module: str, description: str):
        name = module if Path(sys.argv[0]).stem in ("heal", "cli") else f"heal_lib.{module}"
        super().__init__(prog=f"{'heal' if name == module else 'python -m'} {name}", description=description)

    def said(self, message: str) -> str:
        """What argparse says of a command line, and the mend."""
        known = [option for action in self._actions for option in action.option_strings]
        close = [near for word in message.split() if word not in known and message.startswith("unrecognized")
                 for near in difflib.get_close_matches(word.partition("=")[0], known, 1)]
        return f"{message}; {f'did you mean {close[0]}? ' if close else ''}{self.prog} --help says more"

    def error(self, message: str) -> NoReturn:
        """Ends the process with one line, as argparse's own does with the usage before it."""
        self.exit(2, f"heal: {self.said(message)}\n")


def run(it: argparse.ArgumentParser, command: Command, arguments: Sequence[str] | None = None) -> int:
    """Runs a command on `arguments` (default: the process's own), which may hold --json; returns its exit code."""
    plainly()
    given = list(sys.argv[1:] if arguments is None else arguments)
    it.add_argument("--json", action="store_true", help="the result as JSON; words go to standard error")
    if "--json" not in given:
        _, code, said = _tried(it, command, given)
    else:
        def usage(message):
            raise _Usage(it.said(message) if isinstance(it, Parser) else message)

        it.error = usage  # type: ignore[method-assign]  # argparse's own ends the process
        with words_to_stderr():
            result, code, said = _tried(it, command, given)
        try:
            print(text(result if said is None else {"error": said, "exit": code}), flush=True)
        except BrokenPipeError:  # nobody reads on; Python would try once more at its end
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    if said is not None:
        with contextlib.suppress(OSError):  # the terminal may be gone
            print(f"heal: {said}", file=sys.stderr, flush=True)
    return code


def _tried(it, command, given) -> tuple[Any, int, str | None]:
    """(result, exit code, what went wrong); an error that nobody foresaw keeps its traceback."""
    try:
        return *command(it.parse_args(given)), None
    except (HealError, _Usage) as error:
        return None, 2, words(error)
    except (KeyboardInterrupt, BrokenPipeError):  # nobody reads on: `heal reproduce | head`
        return None, 130, "interrupted; the same command goes on from here"
    except OSError as error:
        trouble = disk_error(error, error.filename or "results")
        if trouble is None:
            raise
        return None, 2, words(trouble)
    except NotebookFailed as error:
        return None, 1, words(error)


# What to run where there is no Makefile, the longest first.
INSTALLED = (
    (r"make setup PYTHON=\S+", "install it with Python 3.11 or 3.12"),
    (r"make setup, or (?=pip)", ""),
    (r"make setup", "pip install --force-reinstall heal-lib"),
    (r"pip install '\.\[", "pip install 'heal-lib["),
    (r"restore it from git, or run: make [\w-]+", "install heal-lib again"),
    (r"make reproduce SCALE=", "heal reproduce --scale "),
    (r"make reproduce ARGS=", "heal reproduce "),
    (r"make ablate SWITCH=(\S*) VALUES=", r"heal ablate \1 "),
    (r"make (reproduce|bench|paper|site|ablate)\b", r"heal \1"),
    (r"make (smollm)\b", r"python -m heal_lib.\1"),
)


def here(said: str) -> str:
    """What to run, as it can be run here: `make` is for a checkout, an installed package has `heal`."""
    if not (PACKAGE.parent / "Makefile").is_file():
        for made, installed in INSTALLED:
            said = re.sub(made, installed, said)
    return said


def in_notebook() -> None:
    """What errors of the library tell a notebook's reader to run can be run here, too, as on a command line. Nothing
    outside of a notebook."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    if shell is not None:
        shell.set_custom_exc((HealError,), _shown)


def _shown(shell, kind, error, trace, tb_offset=None):
    error.args = (here(str(error)),)
    shell.showtraceback((kind, error, trace), tb_offset=tb_offset)


def again(scale: str) -> str:
    """What makes the results of a folder of that name again."""
    known = scale in importlib.import_module("heal_lib.scales").names()
    return f"run make reproduce SCALE={scale}" if known else "run make reproduce with its settings"


def results(scale: str) -> Path:
    """The folder of a run's results; HealError if it is not there, with those that are."""
    folder = ROOT / "results" / scale
    if not (folder / "run.json").is_file():
        there = sorted(path.parent.name for path in folder.parent.glob("*/run.json"))
        mend = again(scale) if scale in importlib.import_module("heal_lib.scales").names() else "give another"
        raise HealError(f"results/{scale}: no results of a run; {mend}; there are {', '.join(there) or 'none'}")
    return folder


_usual = warnings.formatwarning


def plainly() -> None:
    """What the library warns of is one line from now on, and the bars of datasets are off."""
    warnings.formatwarning = warned
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")


def warned(message: Warning | str, category: type[Warning], filename: str, *where: Any, **more: Any) -> str:
    """A warning of the library in one line; others as Python shows them."""
    own = Path(filename).is_relative_to(PACKAGE)
    return f"heal: {here(str(message))}\n" if own else _usual(message, category, filename, *where, **more)


def words(error: Exception) -> str:
    """What an error says, a hidden file by the name that it would have got. Where it is the results that have no room,
    moving the cache would be of no use."""
    said, own = here(re.sub(r"/\.\d+\.(?=[\w.-]+: )", "/", str(error))), os.environ.get("HEAL_RESULTS")
    said = said.replace("use a world that the model knows", "use a model that can")  # not all have worlds
    folder = own or str(ROOT / "results")
    mend = "point HEAL_RESULTS to another disk" if own else f"make {folder} a link to a folder on another disk"
    return said.replace("move the cache with HEAL_CACHE", mend) if f"{folder}/" in said else said


@contextlib.contextmanager
def words_to_stderr() -> Iterator[None]:
    """Sends standard output, that of processes started meanwhile too, to standard error."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def text(result: Any) -> str:
    """A result as JSON: a table is a list of its rows, a path its text, and a number that is missing null."""
    return json.dumps(result, indent=1, ensure_ascii=False, allow_nan=False, default=_plain)


def _plain(value):
    if hasattr(value, "to_json"):  # pandas' tables
        return json.loads(value.to_json(orient="records"))
    if hasattr(value, "tolist"):  # numpy's numbers and arrays
        return value.tolist()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"a {type(value).__name__} has no place in a command's result")
