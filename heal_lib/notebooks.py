"""Finding, parameterising and executing the notebooks; `heal_lib.reproduce` decides which ones, and when.

Notebooks run in the folder `notebooks/`, as they do in JupyterLab.
"""

from __future__ import annotations

import ast
import difflib
import os
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from heal_lib import pages
from heal_lib.errors import HealError
from heal_lib.files import ROOT, atomic, disk_error

FOLDER = ROOT / "notebooks"
NEEDS_GPU = "08_"  # runs only with the scale `llm` or by name
BENCH = "10_"  # runs only after `make bench` or by name
QUIET = {"HF_HUB_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1", "TOKENIZERS_PARALLELISM": "false",
         "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
         "PYTHONWARNINGS": "ignore:resource_tracker:UserWarning"}  # what a stopped run's workers leave is swept anyway


class NotebookFailed(Exception):
    """A cell failed, or its kernel died: the notebook's name and the last line of the error."""


def nearest(name: str, known: Sequence[str]) -> str:
    """A hint for a mistyped name: the closest known one, and all of them."""
    close = difflib.get_close_matches(name, known, n=1)
    return (f"did you mean {close[0]}? " if close else "") + f"known: {', '.join(known) or 'none'}"


def select(only: list[str] | None, scale: str) -> list[Path]:
    """Paths of the notebooks to run, in order; HealError for a name that fits none."""
    paths = sorted(FOLDER.glob("[0-9][0-9]_*.ipynb"))
    if not paths:
        raise HealError("no notebooks found; run this in a full checkout, installed with pip install -e .")
    if not only:
        return [path for path in paths
                if path.name.startswith(NEEDS_GPU) == (scale == "llm") and not path.name.startswith(BENCH)]
    for name in only:
        if not any(path.stem.startswith(Path(name).stem) for path in paths):
            raise HealError(f"unknown notebook {name!r}; {nearest(name, [path.stem for path in paths])}")
    return [path for path in paths if any(path.stem.startswith(Path(name).stem) for name in only)]


def declared(path: Path) -> dict[str, str]:
    """{name: default, as written} of a notebook's parameters cell."""
    import papermill

    try:
        return {name: found["default"] for name, found in papermill.inspect_notebook(str(path)).items()}
    except ValueError as error:
        why = str(error).splitlines()[0][:80]
        raise HealError(f"{path.name}: not a notebook ({why}); restore it with git checkout") from None


def parse_value(text: str) -> Any:
    """A command-line value as Python data: a literal, a fraction (1/3), true/false/null, else the text."""
    if text.lower() in ("true", "false", "null", "none"):
        return {"true": True, "false": False}.get(text.lower())
    if match := re.fullmatch(r"(\d+)/([1-9]\d*)", text):
        return int(match[1]) / int(match[2])
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def parse_parameters(pairs: Iterable[tuple[str, str]], known: dict[str, dict]) -> dict[str, Any]:
    """{name: value} of the -p options; `known` maps a notebook's name to the parameters it declares."""
    names = sorted(set().union(*known.values()) - {"scale"})
    for name, _ in pairs:
        if name == "scale":
            raise HealError("scale is not a parameter; use --scale")
        if name not in names:
            raise HealError(f"unknown parameter {name!r} for {', '.join(known)}; {nearest(name, names)}")
    return {name: parse_value(value) for name, value in pairs}


def prepare_kernels(offline: bool = True) -> None:
    """Kernels start from this interpreter and send nothing; HF_HUB_OFFLINE=0 in the caller's shell wins."""
    shared = str(Path(sys.prefix) / "share" / "jupyter")
    os.environ["JUPYTER_PATH"] = os.pathsep.join(filter(None, [shared, os.environ.get("JUPYTER_PATH")]))
    for name, value in {**QUIET, **({"HF_HUB_OFFLINE": "1"} if offline else {})}.items():
        os.environ.setdefault(name, value)


def execute(path: Path, folder: Path, parameters: dict, environment: dict[str, str] | None = None) -> None:
    """Runs a notebook into `folder`/notebooks and `folder`/html, whole or not at all.

    environment: variables for its kernel, besides those of this process.
    Raises NotebookFailed, or HealError if a cell raised that; the failed one stays as *.failed.ipynb.
    """
    import nbformat
    import papermill
    from nbclient.exceptions import DeadKernelError

    done = folder / "notebooks" / path.name
    failed, partial = done.with_suffix(".failed.ipynb"), done.with_name(f".{path.stem}.partial.ipynb")
    done.parent.mkdir(parents=True, exist_ok=True)
    settings = {"kernel_name": "python3", "cwd": str(FOLDER), "progress_bar": sys.stderr.isatty()}
    os.environ.update(environment or {})
    # Or every kernel warns of its plain sockets; and what its workers say belongs to the log, not to the notebook.
    settings["extra_arguments"] = ["--log-level=50", "--IPKernelApp.capture_fd_output=False"]
    try:
        papermill.execute_notebook(str(path), str(partial), parameters, **settings)
        notebook = _without_places(partial)
    except (papermill.PapermillExecutionError, DeadKernelError) as error:
        if partial.exists():
            nbformat.write(_without_places(partial), failed)
        raise _cause(path.stem, error, failed) from error
    finally:
        partial.unlink(missing_ok=True)
        for name in environment or {}:
            os.environ.pop(name, None)
    failed.unlink(missing_ok=True)
    notebook = pages.tidy(notebook, folder)
    names = [other.stem for other in sorted(path.parent.glob("[0-9][0-9]_*.ipynb"))
             if not other.name.startswith((NEEDS_GPU, BENCH))]
    with atomic(done) as temporary:
        nbformat.write(notebook, temporary)
    with atomic(folder / "html" / f"{path.stem}.html") as temporary:
        temporary.write_text(pages.html(notebook, path.stem, names))


def _without_places(path):
    """An executed notebook without timings, and with machine paths shortened, so that it can be committed."""
    import nbformat

    notebook = nbformat.read(path, as_version=4)
    notebook.metadata.pop("papermill", None)
    for cell in notebook.cells:
        for noise in ("papermill", "execution"):
            cell.metadata.pop(noise, None)
        if "injected-parameters" in cell.metadata.get("tags", []):
            cell.id = "injected-parameters"
    text = re.sub(r"/[^\s\"]*/ipykernel_\d+/\d+\.py", "cell", nbformat.writes(notebook))
    for place, short in ((sys.prefix, ".venv"), (str(ROOT), "."), (str(Path.home()), "~")):
        if len(place) > 6:  # a shorter one might turn up inside an image's base64
            text = text.replace(place + "/", short + "/")
    return nbformat.reads(text, as_version=4)


def _cause(name, error, kept):
    """The exception that a failed notebook stands for: bad input, a full disk, an interrupt, or a failure."""
    where = f"see {os.path.relpath(kept)}" if kept.exists() else "no output was kept"
    if not hasattr(error, "ename"):
        return NotebookFailed(f"{name}: the kernel died, perhaps out of memory ({where})")
    last = (str(error.evalue).strip().splitlines() or [""])[-1]
    if error.ename == "KeyboardInterrupt":
        return KeyboardInterrupt()
    if error.ename == "HealError":
        return HealError(f"{name}: {last}")
    return disk_error(last, name) or NotebookFailed(f"{name}: {error.ename}: {last} ({where})")
