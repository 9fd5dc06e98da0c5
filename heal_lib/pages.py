"""Executed notebooks as readers meet them: logs folded, figures described, pages that link to each other."""

from __future__ import annotations

import base64
import copy
import io
import re
import sys
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nbformat import NotebookNode

# nbformat's jsonschema would compile 38 grammars of web addresses, a second in each process, and check none.
sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]  # None: not to be imported

_LOG = re.compile(r"(made|reused) .+|waiting for another process .+|working: .*")
_SAVED = re.compile(r"""plots\.save\(\s*\w+,[^"']*["'](\w+)["']""")

_TEMPLATE = """{% extends 'lab/index.html.j2' %}
{% block data_png scoped %}<div class="jp-RenderedImage jp-OutputArea-output {{ extra_class }}">
<img src="data:image/png;base64,{{ output.data['image/png'] | escape_html }}"
 alt="{{ (output | get_metadata('alt', 'image/png') or 'Figure') | escape_html }}"
 {%- if output | get_metadata('width', 'image/png') %} width="{{ output | get_metadata('width', 'image/png') }}"
 {%- endif %}></div>{% endblock %}"""  # nbconvert's own has no place for a description


def tidy(notebook: NotebookNode, folder: Path) -> NotebookNode:
    """The notebook, changed in place: each cell's log is folded into one line, and each figure described by its caption
    in `folder`/figures, or else by the heading above it, and stored with a palette. Doing it twice changes nothing."""
    heading = ""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            titles = re.findall(r"^#+ (.+)$", cell.source, re.M)
            heading = titles[-1] if titles else heading
        elif cell.cell_type == "code":
            cell.outputs = _folded(cell.outputs)
            _describe(cell, folder, heading)
    return notebook


def _folded(outputs):
    """Outputs with all lines of the store's log in one folded output, first."""
    log, left = [], []
    for output in outputs:
        if output.output_type == "stream":
            lines = output.text.splitlines(keepends=True)
            said = [line for line in lines if not _LOG.fullmatch(line.strip())]
            log += [line.strip() for line in lines if _LOG.fullmatch(line.strip())]
            if not "".join(said).strip():
                continue
            output.text = "".join(said)
        left.append(output)
    if not log:
        return left
    from nbformat.v4 import new_output  # a second to import, for a page that only quotes text

    made = sum(line.startswith("made") for line in log)
    words = f"stages: {made} made, {sum(line.startswith('reused') for line in log)} reused"
    page = f"<details><summary>{words}</summary><pre>{escape(chr(10).join(log))}</pre></details>"
    return [new_output("display_data", {"text/html": page, "text/plain": words}), *left]


def _describe(cell, folder, heading):
    """Alternative text for the images of a cell that have none."""
    captions = [Path(folder) / "figures" / f"{name}.txt" for name in _SAVED.findall(cell.source)]
    told = [file.read_text(encoding="utf-8").partition("\n\n")[0] for file in captions if file.is_file()]
    images = [output for output in cell.outputs if "image/png" in output.get("data", {})]
    for i, output in enumerate(images):
        about = output.metadata.setdefault("image/png", {})
        about.setdefault("alt", told[i] if i < len(told) else f"Figure: {heading}")
        png = with_palette(base64.b64decode(output.data["image/png"]))
        output.data["image/png"] = base64.b64encode(png).decode()


def with_palette(png: bytes) -> bytes:
    """An image with at most 256 colours, which figures hardly exceed: a third of the bytes. What covers most keeps its
    colour, so that white stays white and a pale stripe on it a stripe."""
    from PIL import Image

    image, made = Image.open(io.BytesIO(png)), io.BytesIO()
    if image.mode == "P":
        return png
    flat = image.convert("RGBA")
    flat = Image.alpha_composite(Image.new("RGBA", flat.size, "white"), flat).convert("RGB")
    flat.quantize(256, Image.Quantize.MEDIANCUT, kmeans=1, dither=Image.Dither.NONE).save(made, "PNG", optimize=True)
    return made.getvalue()


def title(notebook: NotebookNode) -> str:
    """A notebook's title: its first heading."""
    return next((line.lstrip("# ") for cell in notebook.cells for line in cell.source.splitlines()
                 if cell.cell_type == "markdown" and line.startswith("# ")), "Notebook")


def html(notebook: NotebookNode, name: str, names: Sequence[str] = ()) -> str:
    """An executed notebook as a page, with links to those before and after it in `names`.

    HTML inside Markdown is shown as text: it may be a model's, or a data set's."""
    from jinja2 import DictLoader
    from nbconvert import HTMLExporter
    from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
    from nbformat.v4 import new_markdown_cell

    page = copy.deepcopy(notebook)
    page.metadata["title"] = title(notebook)
    if links := _links(name, names):
        page.cells = [new_markdown_cell(links, id="links-before"), *page.cells,
                      new_markdown_cell(links, id="links-after")]
    exporter = HTMLExporter(extra_loaders=[DictLoader({"page.html.j2": _TEMPLATE})], template_file="page.html.j2")
    exporter.register_filter("markdown2html", MarkdownWithMath(renderer=IPythonRenderer(escape=True)).render)
    return exporter.from_notebook_node(page)[0]


def _links(name, names):
    if name not in names:
        return ""
    at = list(names).index(name)
    found = [f"← [{names[at - 1]}]({names[at - 1]}.html)"] if at else []
    found += [f"[{names[at + 1]}]({names[at + 1]}.html) →"] if at + 1 < len(names) else []
    return " · ".join(found)


# --- text that others wrote, inside Markdown
def plain(text: object) -> str:
    """Text as Markdown that shows it as it is: no link, image, emphasis, heading, mathematics or HTML comes of it.
    (`report.markdown` sees to the bars of a table.)"""
    return re.sub(r"([\\`*_{}\[\]<>()#+\-.!~$&:@])", r"\\\1", str(text)).replace("\n", " ")


def code(text: object, block: bool = False) -> str:
    """Text as a Markdown code span, or block, whatever backticks it holds."""
    text = str(text)
    ticks = "`" * (max([2, *(len(run) for run in re.findall("`+", text))]) + 1)
    if block:
        return f"{ticks}\n{text}\n{ticks}"
    return f"{ticks} {text} {ticks}".replace("\n", " ") if "`" in text else f"`{text}`".replace("\n", " ")
