"""Finding, parameterising and executing the notebooks; `heal_lib.reproduce` decides which ones, and when.

Notebooks run in the folder `notebooks/`, as they do in JupyterLab.
"""

from __future__ import annotations

import ast
import contextlib
import difflib
import functools
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from heal_lib import child, embedded, pages, scales, workers
from heal_lib.bounds import example
from heal_lib.bounds import literal as parse_value
from heal_lib.console import NotebookFailed
from heal_lib.errors import HealError
from heal_lib.files import atomic, disk_error
from heal_lib.places import PACKAGE, ROOT

FOLDER, SHIPPED = ROOT / "notebooks", PACKAGE / "story"
APART = ("08_", "10_")  # of scale `llm`, and of `make bench`
QUIET = {"HF_HUB_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1", "TOKENIZERS_PARALLELISM": "false",
         "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
         "PYTHONWARNINGS": "ignore:resource_tracker:UserWarning"}  # what a stopped run's workers leave is swept anyway


def nearest(name: str, known: Sequence[str]) -> str:
    """A hint for a mistyped name: the closest known one, and all of them."""
    close = difflib.get_close_matches(name, known, n=1)
    return (f"did you mean {close[0]}? " if close else "") + f"known: {', '.join(known) or 'none'}"


def select(only: list[str] | None, scale: str) -> list[Path]:
    """Paths of the notebooks to run, in order; HealError for a name that fits none.

    Outside a checkout they are the installed package's, copied to the working folder once, to be read and changed."""
    if not FOLDER.exists() and SHIPPED.is_dir():
        shutil.copytree(SHIPPED, FOLDER, ignore=shutil.ignore_patterns(".*"))
        print(f"the notebooks are in {FOLDER}", flush=True)
    paths = sorted(FOLDER.glob("[0-9][0-9]_*.ipynb"))
    if not paths:
        raise HealError(f"no notebooks found in {FOLDER.name}/; restore them with git checkout, or run this elsewhere")
    if only is None:
        study = scales.STUDIES.get(scale)
        return [path for path in paths if (path.name.startswith(study) if study else not path.name.startswith(APART))]
    asked = [Path(name).stem for name in only]
    for name, stem in zip(only, asked, strict=True):
        if not stem or not any(path.stem.startswith(stem) for path in paths):
            mend = nearest(name, [path.stem for path in paths])
            if stem[:2].isdigit() and not mend.startswith("did"):  # it may have been there
                mend = f"if it was deleted, {_restore(stem)}; {mend}"
            raise HealError(f"unknown notebook {name!r}; {mend}")
    return [path for path in paths if path.stem.startswith(tuple(asked))]


def _restore(stem):
    """How a notebook comes back: from git in a checkout, else from the installed package."""
    if (ROOT / ".git").exists():
        return f"restore it with git checkout {FOLDER.name}/"
    return f"copy it from {SHIPPED}" if [*SHIPPED.glob(f"{stem}*.ipynb")] else "put it back"


def declared(path: Path) -> dict[str, str]:
    """{name: default, as written} of a notebook's parameters cell."""
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        text = "\n".join("".join(cell["source"]) for cell in cells
                         if "parameters" in cell["metadata"].get("tags", []))
        nodes = [node for node in ast.parse(text).body if isinstance(node, ast.Assign | ast.AnnAssign)]
        targets = [node.targets[0] if isinstance(node, ast.Assign) else node.target for node in nodes]
        return {name.id: str(node.value and ast.get_source_segment(text, node.value))
                for name, node in zip(targets, nodes, strict=True) if isinstance(name, ast.Name)}
    except (ValueError, LookupError, TypeError, AttributeError, SyntaxError) as error:
        why = str(error).splitlines()[0][:80]
        raise HealError(f"{path.name}: not a notebook ({why}); restore it with git checkout") from None


def settings(scale: str, pairs: Iterable[tuple[str, str]],
             known: Mapping[str, dict[str, Any]]) -> tuple[scales.Scale, dict[str, Any]]:
    """(the scale, {name: value} of the -p options); `known` maps a notebook's name to the parameters it declares.

    HealError for a name that none declares, a value that cannot be, or a parameters cell that was edited and saved:
    its results would pass for those of the scale."""
    names, given, server = sorted(set().union(*known.values()) - {"scale"}), {}, {}
    for name, text in pairs:
        if name == "scale":
            raise HealError("scale is not a parameter; use --scale")
        if name not in names:
            raise HealError(f"unknown parameter {name!r} for {', '.join(known)}; {nearest(name, names)}")
        if name in scales.SERVER:  # in no notebook, nor in a record
            server[name] = text
            continue
        given[name] = _found(name, typed(name, text))
    cfg = scales.get(scale, **server, **{name: value for name, value in given.items() if name in scales.kinds()})
    for name in given.keys() & scales.kinds().keys():
        value = getattr(cfg, name)
        given[name] = list(value) if isinstance(value, tuple) else value  # papermill writes a tuple as a text
    for notebook, parameters in known.items():
        for name in parameters.keys() & scales.SERVER.keys():
            if parameters[name] != "None":  # not shown: it may hold a password
                raise HealError(f"{notebook}.ipynb: its parameters cell sets {name}; put None back, and give it with "
                                f"-p {name} VALUE or {scales.SERVER[name]}")
        for name in parameters.keys() & scales.kinds().keys() - given.keys():
            usual, written = getattr(scales.SCALES[scale], name), parse_value(parameters[name])
            if written is not None and not _same(name, written, usual):
                raise HealError(f"{notebook}.ipynb: its parameters cell has {name} = {parameters[name]}, {scale} has "
                                f"{example(usual)}; put that back, and try another value with -p {name} VALUE")
    return cfg, given


def typed(name: str, text: str) -> Any:
    """What is typed as a setting's value, as Python data (`parse_value`). A text stays one, and so does a choice that
    is elsewhere a word for "leave it": none, of hint."""
    is_text = name in scales.kinds() and scales.kinds()[name][0] is str
    if is_text and text.lower() in scales.kinds()[name][1].choices:
        return text
    value = parse_value(text)
    return text if is_text and not isinstance(value, str | None) else value


def _found(name, value):
    """A model's folder or a data file below this process's folder as an absolute path: kernels run in another."""
    if isinstance(value, list | tuple):
        return [_found(name, each) for each in value]
    if isinstance(value, str) and (
            name in ("teacher", "student") and value not in embedded.SHIPPED and Path(value).is_dir()
            or name in ("difficulties", "benchmarks") and Path(value).is_file()):
        return str(Path(value).absolute())
    return value


def _same(name, written, usual):
    try:
        return scales.parse(name, written) == usual
    except HealError:
        return False


def prepare_kernels(offline: bool = True) -> None:
    """Kernels start from this interpreter and send nothing; HF_HUB_OFFLINE=0 in the caller's shell wins."""
    shared = str(Path(sys.prefix) / "share" / "jupyter")
    os.environ["JUPYTER_PATH"] = os.pathsep.join(filter(None, [shared, os.environ.get("JUPYTER_PATH")]))
    for name, value in {**QUIET, **({"HF_HUB_OFFLINE": "1"} if offline else {})}.items():
        os.environ.setdefault(name, value)


@functools.cache
def _kernels():
    """The class of kernels that end with this process, and take along what they have started. They are forked from the
    process that workers come from, which saves each the seconds that its imports take."""
    from jupyter_client.kernelspec import KernelSpec
    from jupyter_client.manager import AsyncKernelManager
    from jupyter_client.provisioning.local_provisioner import LocalProvisioner

    class Forked(LocalProvisioner):
        async def launch_kernel(self, cmd, **options):
            self.process = workers.Kernel(cmd[cmd.index("-f"):], options["env"], options.get("cwd") or os.getcwd())
            self.pid = self.pgid = self.process.pid
            return self.connection_info

    class Kernels(AsyncKernelManager):
        group, process = None, None

        @property
        def kernel_spec(self):
            argv = [sys.executable, "-m", child.__name__, "ipykernel_launcher", "-f", "{connection_file}"]
            return KernelSpec(**{**super().kernel_spec.to_dict(), "argv": argv})

        async def start_kernel(self, **options):
            if os.environ.get("DEVICE") != "cuda":  # there Unsloth has to be imported before anything else
                self.provisioner = Forked(kernel_spec=self.kernel_spec, parent=self)
            self.log = logging.Logger("kernels", logging.CRITICAL)  # what is raised is told once, by who catches it
            await super().start_kernel(**options)
            self.group, self.process = self.provisioner.pgid, self.provisioner.process

        async def shutdown_kernel(self, now=False, restart=False):
            _end(self.group, self.process)  # asked to, it would interrupt its workers, which then print where they were
            await super().shutdown_kernel(now=True, restart=restart)

        async def cleanup_resources(self, restart=False):
            await super().cleanup_resources(restart)
            if self.group:  # of a kernel that was killed
                _end(self.group, self.process)

    return Kernels


def _end(group: int, kernel: subprocess.Popen) -> None:
    """Ends a kernel and what it started: its process group. First by SIGTERM: the process that tidies up after
    multiprocessing ignores it, and has half a second to do so."""
    with contextlib.suppress(ProcessLookupError, PermissionError):  # there is none left, or none of ours
        os.killpg(group, signal.SIGTERM)
        for _ in range(50):
            time.sleep(0.01)
            kernel.poll()
            os.killpg(group, 0)
        os.killpg(group, signal.SIGKILL)


def execute(path: Path, folder: Path, parameters: dict[str, Any], environment: dict[str, str] | None = None) -> None:
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
    settings: dict = {"kernel_name": "python3", "cwd": str(FOLDER), "progress_bar": sys.stderr.isatty(),
                      "kernel_manager_class": _kernels()}
    variables = {**(environment or {}), child.PARENT: str(os.getpid())}
    before = {name: os.environ.get(name) for name in variables}  # the user's own, such as HEAL_RESULTS
    os.environ.update(variables)
    # Or every kernel warns of its plain sockets; and what its workers say belongs to the log, not to the notebook.
    settings["extra_arguments"] = ["--log-level=50", "--IPKernelApp.capture_fd_output=False"]
    try:
        plain = [str(each).replace("{", "{{").replace("}", "}}") for each in (path, partial)]  # or they are templates
        papermill.execute_notebook(*plain, parameters, **settings)
        notebook = _without_places(partial)
    except (papermill.PapermillExecutionError, DeadKernelError) as error:
        if partial.exists():
            nbformat.write(_without_places(partial), failed)
        raise _cause(path.stem, error, failed) from error
    finally:
        partial.unlink(missing_ok=True)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
    failed.unlink(missing_ok=True)
    notebook = pages.tidy(notebook, folder)
    names = [other.stem for other in sorted(path.parent.glob("[0-9][0-9]_*.ipynb"))
             if not other.name.startswith(APART)]
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
    # A kernel names its cells after its folder for temporary files. Any folder instead would be looked for behind every
    # slash of an image's base64: half a minute for the report.
    cells = re.escape(tempfile.gettempdir()) + r"/ipykernel_\d+/\d+\.py"
    text = re.sub(cells, "cell", nbformat.writes(notebook))
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
