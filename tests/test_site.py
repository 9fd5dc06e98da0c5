"""The site: laid out from committed results, every link leads somewhere, nothing is fetched, it fits a phone."""

import base64
import importlib.util
import json
import re
import shutil
from html.parser import HTMLParser
from urllib.parse import unquote, urlsplit

import pytest
from nbformat import validate
from nbformat.v4 import new_code_cell, new_notebook, new_output
from test_explorer import CONTRAST

from heal_lib import report, site
from heal_lib.errors import HealError
from heal_lib.files import ROOT

DEMO = ROOT / "results" / "demo"


def test_notebooks_that_were_not_run_are_named_with_the_mend(tmp_path):
    with pytest.raises(HealError, match="lacks 00_tour, .*; run make reproduce"):
        site.sources(tmp_path, tmp_path / "out")


@pytest.mark.parametrize("name", ["llm", "llm+n_test=50", "llm+0123456789ab"])
def test_a_run_of_a_scale_with_other_settings_needs_the_notebooks_of_that_scale(tmp_path, name):
    with pytest.raises(HealError, match="lacks 08_llm_single_gpu; run make reproduce"):
        site.sources(tmp_path / name, tmp_path / "out")


def test_a_site_of_scale_llm_links_only_to_what_it_has(tmp_path, built):
    site.sources(ROOT / "results" / "llm", tmp_path / "out")
    minutes, first = ((tmp_path / "out" / f"{name}.md").read_text() for name in ("ten_minutes", "index"))
    assert "![" not in minutes and "More in 01." in minutes and "notebooks/" not in minutes and "demo/" not in minutes
    assert "stands in [the notebook](notebooks/08_llm_single_gpu.ipynb)" in first and "No results" not in first
    shown = (built / "ten_minutes.html").read_text()
    assert len(re.findall('<img [^>]*src="_images/', shown)) == 4 and 'href="index.html#results"' in shown
    assert "README.md" not in shown + minutes and "\n## Results\n" in first


def test_a_figure_that_was_deleted_is_named_before_anything_is_built(tmp_path, monkeypatch):
    monkeypatch.setattr(site.importlib.util, "find_spec", lambda name: True)
    (tmp_path / "demo").mkdir()
    record = {"notebooks": {"02_gear": {"outputs": {"html/02_gear.html": "a", "figures/gear.png": "b"}}}}
    (tmp_path / "demo" / "run.json").write_text(json.dumps(record))
    with pytest.raises(HealError, match="^results/demo/figures/gear.png: missing; run make reproduce SCALE=demo$"):
        site.build(tmp_path / "demo", tmp_path / "out")


def test_the_landing_page_has_claim_figure_table_and_every_notebook():
    text = site.landing(DEMO, ["00_tour", "01_teacher_ceiling"], explorer=True)
    assert text.startswith("# ") and "reconstruction" in text and "make test" not in text
    assert "](figures/main_results.png)" in text and "| equations-hard |" in text and "](results/" not in text
    assert "notebooks/01_teacher_ceiling" in text and 'href="explorer.html"' in text
    assert 'href="explorer.html"' not in site.landing(DEMO, ["00_tour"], explorer=False)


def test_links_to_executed_notebooks_lead_to_their_pages():
    row = "[a](../notebooks/00_tour.ipynb) [page](../html/00_tour.html) [t](../tables/x.csv) [n](02_gear.ipynb)"
    page = "../notebooks/00_tour.html"
    assert site._linked(row) == f"[a]({page}) [page]({page}) [t](../tables/x.csv) [n](02_gear.ipynb)"


def test_each_of_a_cell_s_images_has_its_own_description():
    png = base64.b64encode(bytes(16) + (900).to_bytes(4) + bytes(4)).decode()
    outputs = [output for words in ("One.", "Two.") for output in (
        new_output("display_data", {"text/markdown": f"### {words}"}),
        new_output("display_data", {"image/png": png}, metadata={"image/png": {"alt": words}}))]
    book = site._dressed(new_notebook(cells=[new_code_cell("draw()", outputs=outputs, id="a"), new_code_cell("no()")]))
    assert [cell.source for cell in book.cells] == ["draw()", site.UNSEEN, "no()"] and validate(book) is None
    assert [cell.metadata["mystnb"]["image"]["alt"] for cell in book.cells[:2]] == ["One.", "Two."]
    assert [output for cell in book.cells for output in cell.outputs] == outputs
    assert "remove-input" in book.cells[1].metadata["tags"] and "mystnb" not in book.cells[2].metadata


class Page(HTMLParser):
    """Where a page links to, what it loads, and the names in it."""

    def __init__(self, path):
        super().__init__()
        self.links, self.loads, self.names, self.images = [], [], {"", "top"}, []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        at = dict(attributes)
        self.names |= {at.get("id"), at.get("name")}
        if tag == "a" and "href" in at:
            self.links.append(at["href"])
        if tag in ("img", "script", "iframe") and "src" in at:
            self.loads.append(at["src"])
        if tag == "link" and "href" in at:
            self.loads.append(at["href"])


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    if any(importlib.util.find_spec(name) is None for name in ("sphinx", "myst_nb", "furo")):
        pytest.skip("needs Sphinx, myst-nb and furo: make setup")
    out = tmp_path_factory.mktemp("site") / "demo"
    site.build(DEMO, out)
    return out


def _outside(link):
    return urlsplit(link).scheme in ("http", "https", "data", "mailto")


def test_every_internal_link_leads_somewhere_and_nothing_is_fetched(built):
    pages = {path: Page(path) for path in built.rglob("*.html") if path.name != "explorer.html"}
    assert len(pages) >= 13
    for path, page in pages.items():
        assert not [load for load in page.loads if _outside(load) and not load.startswith("data:")]
        for link in filter(lambda link: not _outside(link), page.links + page.loads):
            parts = urlsplit(link)
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            assert target.exists(), f"{path.name}: {link}"
            if target in pages and parts.fragment:
                assert unquote(parts.fragment) in pages[target].names, f"{path.name}: {link}"


def test_no_page_is_heavier_than_a_phone_likes(built):
    for path in built.rglob("*.html"):
        loads = {urlsplit(load).path for load in Page(path).loads if not _outside(load)}
        weight = path.stat().st_size + sum((path.parent / unquote(load)).stat().st_size for load in loads)
        assert weight < 1.5e6, f"{path.name}: {weight / 1e6:.1f} MB"


def test_code_is_folded_but_the_knobs_are_not(built):
    text = (built / "notebooks" / "06_ablations.html").read_text(encoding="utf-8")
    cells = re.findall(r'<div class="([^"]*\bcell\b[^"]*)">', text)
    shown = [cell for cell in cells if "tag_hide-input" not in cell]
    assert len(cells) > 9 and all("parameters" in cell for cell in shown) and shown


def test_tables_among_outputs_are_tables_and_wide_figures_are_marked(built):
    for name in ("05_main_results", "99_report"):
        text = (built / "notebooks" / f"{name}.html").read_text(encoding="utf-8")
        assert "| --" not in text and "| —" not in text and re.search(r"<th[^>]*><p>(benchmark|claim)</p></th>", text)
    described = re.findall('<img [^>]*?alt="([^"]+)"', text)  # of the report, in which one cell shows many figures
    assert len(described) >= len(report.BEST) and len(set(described)) == len(described)
    figures = re.findall("<img [^>]*>", (built / "notebooks" / "09_when.html").read_text(encoding="utf-8"))
    assert {'class="wide"' in figure for figure in figures} == {True, False}  # two columns of a paper, and one


def test_styles_and_scripts_fetch_nothing(built):
    for path in (*built.rglob("*.css"), *built.rglob("*.html")):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"url\(['\"]?(https?:)?//|@import\s+['\"]?https?:", text), path


def test_pages_open_in_a_browser_without_errors_and_fit(built):
    sync = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        pytest.skip("needs Chromium")
    broken = "[...document.images].filter(i => i.getClientRects().length && i.complete && !i.naturalWidth).length"
    with sync.sync_playwright() as playwright:
        browser, said = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"]), []
        for width, scheme in ((390, "light"), (1440, "dark")):
            tab = browser.new_page(viewport={"width": width, "height": 844}, color_scheme=scheme)
            tab.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
            tab.on("pageerror", lambda error: said.append(str(error)))
            for path in sorted(built.rglob("*.html")):
                tab.goto(path.as_uri())
                assert tab.evaluate(broken) == 0, f"{path.name}: broken images"
                narrow = "[...document.images].filter(i => i.className === 'wide' && i.width < 600).length"
                assert tab.evaluate(narrow) == 0, f"{path.name}: figures whose text is too small to be read"
                if tab.evaluate("document.documentElement.scrollWidth") > width:
                    said.append(f"{path.name} is wider than {width} px")
                ratio, text = tab.evaluate(CONTRAST)
                if ratio < 4.5:
                    said.append(f"{path.name}, {scheme}: contrast {ratio:.1f} of {text!r}")
        assert said == []
