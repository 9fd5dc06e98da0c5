"""Pages of executed notebooks: a title, links, described figures, folded logs, and text that stays text."""

import base64
import copy
import html.parser
import io

import nbformat
import pandas as pd
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image, ImageChops

from heal_lib import pages, report
from heal_lib.notebooks import FOLDER


def png():
    """A small figure: white ground, a line, and the greys at its edges."""
    made, image = io.BytesIO(), Image.new("RGBA", (200, 100), "white")
    image.paste(Image.linear_gradient("L").resize((200, 10)).convert("RGBA"), (0, 40))
    image.save(made, "PNG", compress_level=0)
    return base64.b64encode(made.getvalue()).decode()


PNG = png()


def notebook():
    image = new_output("display_data", {"image/png": PNG})
    log = [new_output("stream", text="reused pool [1a2b]\n"),
           new_output("stream", text="made hinted [3c4d] in 2.0 s\nhello\n"),
           new_output("stream", name="stderr", text="waiting for another process that makes it\n")]
    return new_notebook(cells=[
        new_markdown_cell("# 05 Main results\n\nwords"), new_code_cell("run()", outputs=log),
        new_markdown_cell("## Look"),
        new_code_cell('plots.save(figure, cfg.results_dir,\n    "one", "a caption")', outputs=[copy.deepcopy(image)]),
        new_code_cell("slider()", outputs=[copy.deepcopy(image)])])


class Seen(html.parser.HTMLParser):
    """Elements with their attributes, and the visible text."""

    def __init__(self, page):
        super().__init__()
        self.elements, self.text = [], ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data if self.elements and self.elements[-1][0] not in ("script", "style") else ""

    def all(self, tag):
        return [attrs for name, attrs in self.elements if name == tag]


def test_the_log_is_one_folded_line_and_other_words_stay(tmp_path):
    cell = pages.tidy(notebook(), tmp_path).cells[1]
    folded, said = cell.outputs
    assert folded.data["text/plain"] == "stages: 1 made, 1 reused" and "<details>" in folded.data["text/html"]
    assert said.text == "hello\n"
    again = copy.deepcopy(cell.outputs)
    assert pages._folded(cell.outputs) == again


def test_every_figure_is_described_by_its_caption_or_its_heading(tmp_path):
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "one.txt").write_text("What <it> shows.\n\nNotebook: none\n")
    made = pages.tidy(notebook(), tmp_path)
    nbformat.validate(made)
    page = Seen(pages.html(made, "05_main_results"))
    assert [image["alt"] for image in page.all("img")] == ["What <it> shows.", "Figure: Look"]


@pytest.mark.parametrize("path", sorted(FOLDER.glob("[0-9]*.ipynb")), ids=lambda path: path.stem)
def test_every_figure_that_a_notebook_saves_is_described_by_its_caption(path):
    cells = [cell.source for cell in nbformat.read(path, 4).cells if cell.cell_type == "code"]
    assert [source.count("plots.save(") for source in cells] == [len(pages._SAVED.findall(source)) for source in cells]


def test_figures_get_a_palette_once_and_look_the_same(tmp_path):
    once = pages.tidy(notebook(), tmp_path)
    small = once.cells[3].outputs[0].data["image/png"]
    assert len(small) < len(PNG) / 3 and pages.tidy(copy.deepcopy(once), tmp_path) == once
    a, b = (Image.open(io.BytesIO(base64.b64decode(image))).convert("RGB") for image in (PNG, small))
    assert max(high for _, high in ImageChops.difference(a, b).getextrema()) <= 16


def test_pale_stripes_of_a_figure_of_many_colours_stay_apart_from_white():
    """Main results have a dozen colours, whose edges filled the palette: white and the stripes became one grey."""
    many = Image.new("RGB", (300, 200), "white")
    many.paste((242, 242, 242), (0, 0, 100, 200))
    for i in range(1200):  # as many shades as edges of letters and markers have
        many.putpixel((i % 300, i // 300), (i * 37 % 256, i * 91 % 256, i * 53 % 256))
    many.save(made := io.BytesIO(), "PNG")
    seen = Image.open(io.BytesIO(pages.with_palette(made.getvalue()))).convert("RGB")
    assert seen.getpixel((50, 150)) == (242, 242, 242) and seen.getpixel((250, 150)) == (255, 255, 255)


def test_a_page_has_the_notebooks_title_and_links_to_its_neighbours(tmp_path):
    names = ["04_pace", "05_main_results", "06_ablations"]
    page = Seen(pages.html(notebook(), "05_main_results", names))
    links = [link["href"] for link in page.all("a") if link.get("href", "").endswith(".html")]
    assert links == ["04_pace.html", "06_ablations.html"] * 2 and "05 Main results" in page.text
    assert "<title>05 Main results</title>" in pages.html(notebook(), "05_main_results", names)
    first = Seen(pages.html(notebook(), "04_pace", names))
    assert [link["href"] for link in first.all("a") if link.get("href", "").endswith(".html")] == [
        "05_main_results.html"] * 2


ATTACKS = ["[link](http://x.y)", "![image](http://x.y/z.png)", "**bold** _it_ `code`", "<b>x</b>", "# title", "- item",
           "1. item", "a | b", "$x^2$", "`` two ``", "```\nfence\n```", "http://x.y", "&lt;", "back\\slash"]


@pytest.mark.parametrize("text", ATTACKS)
@pytest.mark.parametrize("wrap", [pages.plain, pages.code, lambda text: pages.code(text, block=True)])
def test_text_of_others_stays_text(text, wrap):
    page = Seen(pages.html(new_notebook(cells=[new_markdown_cell("A question:\n\n" + wrap(text))]), "x"))
    body = page.elements[page.elements.index(next(e for e in page.elements if e[0] == "body")):]
    allowed = {"body", "main", "div", "p", "pre", "code", "a", "span"}
    assert {tag for tag, _ in body} <= allowed, [tag for tag, _ in body]
    assert not [attrs for tag, attrs in body if tag == "a" and "x.y" in attrs.get("href", "")]
    assert " ".join(text.split()) in " ".join(page.text.split())


def test_a_parameter_in_a_table_stays_text():
    frame = pd.DataFrame({"value": ["'|'", "[a](http://x.y)", "\\|"]})
    page = pages.html(new_notebook(cells=[new_markdown_cell(report.markdown(frame.map(pages.plain)))]), "x")
    seen = Seen(page)
    assert len(seen.all("td")) == 3 and not [a for a in seen.all("a") if "x.y" in a.get("href", "")]
    assert all(text in seen.text for text in frame["value"])
