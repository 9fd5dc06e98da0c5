"""The static site: `make site SCALE=demo` turns results/<scale> and docs/ into site/<scale>, read without a network.

Sphinx with MyST-NB and the theme furo does the work (`pip install .[docs]`); nothing is executed again."""

from __future__ import annotations

import base64
import importlib.util
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell

from heal_lib import console, notebooks, pages, provenance, readme
from heal_lib.errors import HealError
from heal_lib.files import ROOT

WIDE = 720  # pixels across: a figure of two columns, which has to scroll on a phone, and none of one column
UNSEEN = "# shown by the cell above"  # MyST-NB leaves out cells without code, whatever their outputs
INTRO_ENDS = "## Which part helps where"
SHOWN = re.compile(r"(!?)\[([^\]]*)\]\(\.\./results/demo/([^)]*)\)")  # what docs/ shows of the committed results
OTHERS = re.compile(r"\[([^\]\n]*)\]\((?:results|\.\./\.\.)/llm/[^)]*\)")  # links to results of another scale


def sources(results: Path, folder: Path) -> None:
    """Lays out what Sphinx reads: the pages of docs/, CONTRIBUTING, executed notebooks, figures, tables and a start.

    HealError names the notebooks that were not executed."""
    speed = results.parent / "bench" / "notebooks"  # measured once, for all scales
    executed = [*(results / "notebooks").glob("[0-9][0-9]_*.ipynb"), *speed.glob("10_*.ipynb")]
    found = {path.stem: path for path in executed if not path.stem.endswith(".failed")}
    names, scale = sorted(found), results.name.partition("+")[0]  # what follows are its settings, or their hash
    if lacking := sorted({path.stem for path in notebooks.select(None, scale)} - {*names}):
        raise HealError(f"results/{results.name} lacks {', '.join(lacking)}; {console.again(results.name)}")
    shutil.copytree(ROOT / "docs", folder, dirs_exist_ok=True)
    for page in folder.glob("*.md"):  # in the repository they show what is committed, here what this site has
        text = SHOWN.sub(lambda found: _shown(results, *found.groups()), page.read_text(encoding="utf-8"))
        page.write_text(text.replace("](../README.md", "](index.md"), encoding="utf-8")  # its first page stands for it
    shutil.copy(ROOT / "CONTRIBUTING.md", folder / "contributing.md")
    for kind in ("figures", "tables"):
        shutil.copytree(results / kind, folder / kind, ignore=shutil.ignore_patterns(".*"))
    for figure in (folder / "figures").glob("*.png"):
        figure.write_bytes(pages.with_palette(figure.read_bytes()))
    (folder / "notebooks").mkdir()
    for name, path in found.items():
        dressed = _dressed(pages.tidy(nbformat.read(path, as_version=4), path.parents[1]))
        text = nbformat.writes(dressed).replace(f"](results/{results.name}/", "](../")
        text = _linked(OTHERS.sub(r"\1", text.replace(f"](results/{results.name})", "](../index.html)")))
        (folder / "notebooks" / f"{name}.ipynb").write_text(text, encoding="utf-8")
    shutil.copytree(results / "tables", folder / "extra" / "tables")  # outputs of notebooks link to them as they are
    if (explorer := results / "explorer.html").exists():
        shutil.copy(explorer, folder / "extra")
    (folder / "index.md").write_text(landing(results, names, explorer.exists()), encoding="utf-8")


def _shown(results: Path, figure: str, words: str, file: str) -> str:
    """A link of docs/ into the committed results as one into this site; a figure that this has not is left out, and of
    another link the words stay."""
    return f"{figure}[{words}]({file})" if (results / file).is_file() else "" if figure else words


def _dressed(notebook):
    """The notebook as MyST-NB wants it: figures described in their cells' metadata, all code folded but the knobs."""
    notebook.cells = [part for cell in notebook.cells for part in _one_image_each(cell)]
    for cell in notebook.cells:
        tags = cell.metadata.setdefault("tags", [])
        if cell.cell_type == "code" and not {"parameters", "remove-input"} & {*tags}:
            tags.append("hide-input")
        for image in filter(_is_image, cell.get("outputs", ())):
            wide = {"classes": "wide"} if _width(image["data"]["image/png"]) > WIDE else {}
            if words := image.get("metadata", {}).get("image/png", {}).get("alt"):
                cell.metadata["mystnb"] = {"image": {"alt": words, **wide}}
    return notebook


def _one_image_each(cell):
    """A cell in parts of one image: MyST-NB describes all images of a cell alike. Only the first has the code."""
    parts = [[]]
    for output in cell.get("outputs", ()):
        if _is_image(output) and any(map(_is_image, parts[-1])):
            parts.append([])
        parts[-1].append(output)
    if len(parts) > 1:
        cell.outputs = parts[0]
    return [cell, *(new_code_cell(UNSEEN, outputs=part, id=f"{cell.id}-{i}", metadata={"tags": ["remove-input"]})
                    for i, part in enumerate(parts[1:], 2))]


def _is_image(output) -> bool:
    return "image/png" in output.get("data", {})


def _width(png: str) -> int:
    """Pixels across an image in base64: they stand in its first bytes."""
    return int.from_bytes(base64.b64decode(png[:32])[16:20])


def _linked(text: str) -> str:
    """Links to an executed notebook, or to its HTML, lead to its page of the site instead."""
    return re.sub(r"\((\S*?)(?:html|notebooks)/(\d\d_\w+)\.(?:html|ipynb)\)", r"(\1notebooks/\2.html)", text)


def landing(results: Path, names: list[str], explorer: bool) -> str:
    """The landing page: README's claim, what there is to read, and the figure and tables of the results."""
    intro = readme.README.read_text(encoding="utf-8").split(INTRO_ENDS)[0].strip()
    where = [f"[The method in ten minutes](ten_minutes.md), then the [tour](notebooks/{names[0]}.ipynb)."]
    if explorer:  # a page of its own, not one of Sphinx's
        where.append('<a href="explorer.html">The trajectory explorer</a>: filter, read and compare what was written.')
    block = f"What was found stands in [the notebook](notebooks/{names[0]}.ipynb)."
    if (results / "tables" / "main_results.csv").is_file():  # which scale llm has not
        block = readme.block(results).replace(f"](results/{results.name}/", "](")
    block = OTHERS.sub(r"\1", re.sub(r" \| \[page\]\(\S+\)", " | ", block))  # the notebook's link leads there
    books = [f"notebooks/{name}" for name in names]
    toc = ["ten_minutes", *books, "method", "own", "machines", "limits", "contributing", "api"]
    return "\n\n".join([intro, "\n".join(f"- {line}" for line in where), "## Results", block,
                        "\n".join(["```{toctree}", ":hidden:", "", *toc, "```"])]) + "\n"


def build(results: Path, out: Path) -> Path:
    """Builds the site of a results folder into `out`, which is replaced; returns its landing page."""
    if not (ROOT / "docs").is_dir():
        raise HealError("the site shows docs/, which is not here; clone the project and make the site there")
    missing = [name for name in ("sphinx", "myst_nb", "furo") if importlib.util.find_spec(name) is None]
    if missing:
        raise HealError(f"the site needs {', '.join(missing)}; run make setup, or pip install '.[docs]'")
    for facts in provenance.notebooks_of(results).values():
        for file in facts.get("outputs", ()):
            if file.startswith(("figures", "notebooks", "tables")) and not (results / file).is_file():
                raise HealError(f"results/{results.name}/{file}: missing; {console.again(results.name)}")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "source"
        sources(results, folder)
        made = Path(temporary) / "site"
        command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html", str(folder), str(made)]
        done = subprocess.run(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
        print(done.stderr.replace(f"{folder}/", ""), end="", file=sys.stderr, flush=True)
        if done.returncode:
            raise HealError("site: Sphinx found the faults named above; mend them and run again")
        shutil.rmtree(made / ".doctrees", ignore_errors=True)
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(made, out)
    return out / "index.html"


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line; returns its exit code."""
    it = console.Parser("site", __doc__.splitlines()[0])
    it.add_argument("scale", nargs="?", default="demo")

    def command(args):
        page = build(console.results(args.scale), ROOT / "site" / args.scale)
        print(page.relative_to(ROOT))
        return {"page": page}, 0

    return console.run(it, command, arguments)


if __name__ == "__main__":
    sys.exit(main())
