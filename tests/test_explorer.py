"""The trajectory explorer: model text stays text, and the page filters, compares and links in a real browser."""

import json
import re
import shutil
import subprocess

import numpy as np
import pytest
from micro import micro

from heal_lib import plots, scales, worlds
from heal_lib.experiment import Experiment
from heal_lib.plots import explorer
from heal_lib.store import Store

EVIL = "</script><script>document.title='broken in'</script><!-- <img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def rows():
    """A failed sample, its genuine repair and a hinted sample, of one problem."""
    (problem,) = worlds.get("equations").problems("distil", 1, 0, "easy")
    base = {**vars(problem), "problem_id": problem.id, "finished": True, "n_generated": 9}

    def row(text, entropy, **more):
        none = {"sample": 0, "parent": -1, "n_kept": 0, "breakpoint": -1, "correct": False, "genuine": 0}
        return {**base, **none, **more, "text": text, "token_ids": [*map(ord, text), 0], "entropy": entropy}

    failed = "one\n\ntwo\n\nthree\n\n\\boxed{0}"
    right = f"one\n\nhow\n\n\\boxed{{{problem.answer}}}"
    rise = [0.0] * 5 + [2.0] * 5 + [0.0] * (len(failed) - 9)
    return [row(failed, rise, source="sampled"),
            row(right, [1.0] * (len(right) - 4), source="repaired", parent=0, n_kept=5, correct=True, genuine=1),
            row(EVIL, [0.5] * (len(EVIL) + 1), source="hinted", correct=True)]


@pytest.fixture(scope="module")
def found(rows, scripted):
    return explorer.records(rows, scales.get("smoke", window=1.0), scripted(), {explorer.identity(rows[2])})


def test_records_know_cut_hint_repair_and_verdict(found, rows):
    failed, repaired, hinted = found
    assert [mark[:2] for mark in failed["marks"]] == [[0, "cut"], [5, "breakpoint"]]
    assert [mark[:2] for mark in repaired["marks"]] == [[5, "hint"], [5, "repair"]]
    assert repaired["marks"][0][2] == f"hint {rows[0]['answer']}" and repaired["parent"] == failed["id"]
    assert [r["verdict"] for r in found] == ["failed", "genuine", "spurious"]
    assert [r["dropped"] for r in found] == [False, False, True]
    assert repaired["entropy"][:6] == [0, 0, 0, 0, 0, 1]  # its parent's, then its own


def test_each_world_is_read_by_its_own_teacher(rows, scripted, monkeypatch):
    asked = []
    monkeypatch.setattr(explorer.teacher.choose, "engine", lambda name: asked.append(name) or scripted())
    (other,) = worlds.get("registers").problems("distil", 1, 0, "easy")
    far = {**rows[0], **vars(other), "problem_id": other.id}
    found = explorer.records([rows[0], far, rows[1]], scales.get("smoke"))
    assert [r["model"] for r in found] == ["teacher", "registers-teacher", "teacher"]
    assert [r["world"] for r in found] == ["equations", "registers", "equations"]
    assert asked == ["teacher", "registers-teacher"]
    (mine,) = explorer.records(rows[:1], scales.get("smoke", teacher="some/folder/other"))
    assert mine["model"] == "other" and asked[-1] == "some/folder/other"


def test_a_page_of_two_teachers_names_both_and_keeps_their_trajectories_apart(rows, scripted, tmp_path, monkeypatch):
    class Run:
        def __init__(self, teacher):
            self.cfg = scales.get("smoke", teacher=teacher, window=1.0)

        def pool(self):
            return rows[:1]

        def repairs(self):
            return rows[1:2]

        def failed(self):
            return {rows[0]["problem_id"]: rows[:1]}

        def hinted(self):
            return []

        def accepted(self, which):
            return []

    monkeypatch.setenv("HEAL_RESULTS", str(tmp_path))
    monkeypatch.setattr(explorer, "MOST_TOKENS", 1000)
    found = explorer.load(explorer.write(Run("my/smollm"), Run("my/qwen"), engine=scripted()))
    assert [r["model"] for r in found] == ["smollm", "smollm", "qwen", "qwen"]
    assert len({r["id"] for r in found}) == 4 and found[3]["parent"] == found[2]["id"] != found[0]["id"]
    (alone, _) = explorer.load(explorer.write(Run("my/smollm"), engine=scripted()))
    assert alone["id"] == explorer.identity(rows[0])  # links to a page of one teacher stay what they were


def test_each_step_has_its_reading_but_the_answer_has_none(found):
    steps = found[0]["steps"]
    assert [step["end"] for step in steps] == [5, 10, 17, 27]
    assert [step["ppl"] is None for step in steps] == [False, False, False, True]
    assert steps[1]["entropy"] == 2 and np.isclose(steps[0]["ppl"], np.e, atol=1e-3) and steps[0]["before"] == 1


def test_a_repair_without_its_parent_has_no_entropy_for_what_was_kept(rows, scripted):
    (alone,) = explorer.records(rows[1:2], scales.get("smoke"), scripted())
    assert alone["entropy"][:6] == [None] * 5 + [1] and alone["steps"][0]["entropy"] is None


def test_no_text_can_leave_the_data(found):
    page = explorer.page(found, EVIL)
    inside = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S).group(1)
    assert "<" not in inside and "broken in" not in page.replace(inside, "")
    data = json.loads(inside)
    assert "".join(data["words"][i] for i in data["records"][2]["pieces"]) == EVIL and data["title"] == EVIL


def test_the_page_fetches_nothing_and_sets_text_only():
    template = explorer.TEMPLATE.read_text()
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|https?://|<link[^>]*css", template)
    assert "default-src 'none'" in template


def test_show_is_a_frame_that_cannot_reach_the_notebook(rows, scripted):
    html = plots.show(*rows, engine=scripted(), cfg=scales.get("smoke")).data
    assert 'sandbox="allow-scripts"' in html and "<script" not in html


def test_a_page_takes_problems_in_turn_until_it_is_full(rows):
    class Run:
        cfg = scales.get("smoke")

        def pool(self):
            return [{**rows[0], "problem_id": f"p{i}", "difficulty": d, "sample": j}
                    for d in ("easy", "hard") for i in ("1" + d, "2" + d) for j in range(4)]

        def failed(self):
            return {"p2hard": self.pool()[12:14]}

        def hinted(self):
            return [{**rows[2], "problem_id": "p2hard"}]

        def repairs(self):
            return [{**rows[1], "problem_id": "p2hard"}]

        def accepted(self, which):
            return [row for row in (self.hinted() if which == "hinted" else self.repairs()) if row["correct"]]

        def readings(self, which):
            return [{"ppl": [2.0], "uncertainty": [1.0, 1.0], "n_steps": 1}] * len(self.accepted(which))

    shown, dropped = explorer.chosen(Run())
    assert [row["problem_id"] for row in shown] == [*["p2hard"] * 3, "p1easy", "p1hard", "p2easy"]
    assert [row["source"] for row in shown[:3]] == ["sampled", "hinted", "repaired"] and not dropped
    assert len(explorer.chosen(Run(), most_tokens=30)[0]) == 3


@pytest.mark.parametrize("switches", [{}, {"pure_pool": ["hint"]}, {"pure_pool": []}, {"deduplicate": False}])
def test_dropped_is_what_training_on_all_that_is_kept_would_lack(says, tmp_path, switches):
    """Not a text that stands twice, nor one of a source that is not filtered."""
    run = Experiment(micro(per_problem_cap=99, pure_lambda=0.6, **{"deduplicate": True, **switches}), Store(tmp_path))
    dropped, kept = explorer.dropped_by_pure(run), run.training_sources("heal")
    plain = run.variant({"pure_pool": ()}).training_sources("heal")
    for name, source in (("hint", "hinted"), ("repair", "repaired")):
        before, after = ({explorer.identity(row) for row in rows[name]} for rows in (plain, kept))
        assert before - after == {one for one in dropped if f"/{source}/" in one}
    assert bool(dropped) == (run.cfg.pure_pool != ())


@pytest.mark.skipif(not shutil.which("node"), reason="needs node")
def test_the_logic_of_the_page(found, tmp_path):
    script = re.findall(r"<script>(.*?)</script>", explorer.TEMPLATE.read_text(), re.S)[-1]
    (tmp_path / "page.js").write_text(script)
    code = f"""const logic = require("./page.js"), r = {json.dumps(found)};
      const fits = want => r.filter(x => logic.fits(x, want)).length;
      console.log(JSON.stringify([fits({{}}), fits({{source: "dropped by PURE"}}), fits({{verdict: "genuine"}}),
        logic.partner(r, r[0]).id, logic.partner(r, r[1]).id, logic.partner(r, r[2]),
        logic.linked(logic.link(["a/1", "b+c#"])), logic.linked("#%"), logic.lines(r[1]).map(x => x.kept),
        logic.lines(r[2]).map(x => x.tokens.map(t => t.piece).join("")).join("")]))"""
    done = subprocess.run(["node", "-e", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [3, 1, 1, found[1]["id"], found[0]["id"], None, ["a/1", "b+c#"], [],
                                       [True, False, False], EVIL]


@pytest.fixture(scope="module")
def browser():
    sync = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install -e '.[browser]'")
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        pytest.skip("needs Chromium")
    with sync.sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])


@pytest.fixture
def tab(browser, found, tmp_path):
    found = [*found[:2], {**found[2], "model": "another"}]
    (tmp_path / "explorer.html").write_text(explorer.page(found, EVIL))
    page, said = browser.new_page(viewport={"width": 1440, "height": 900}), []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("dialog", lambda dialog: said.append("dialog"))
    page.goto(f"file://{tmp_path}/explorer.html")
    yield page
    page.close()
    assert not said


def _shown(tab):
    return [node.get_attribute("data-id") for node in tab.query_selector_all("article")]


def test_filter_select_compare_and_link_in_a_browser(tab, found):
    failed, repaired, hinted = (record["id"] for record in found)
    assert not tab.is_visible("#world") and not tab.is_visible("#problem")  # one of each: nothing to choose
    tab.select_option("#model", "another")
    assert _shown(tab) == [hinted]
    tab.click("#reset")
    tab.select_option("#source", "dropped by PURE")
    assert tab.inner_text("#count") == "1 of 3" and _shown(tab) == [hinted]
    assert "onerror" in tab.inner_text("article") and tab.query_selector("article img") is None
    tab.click("#reset")
    tab.click("#list li:first-child")
    assert _shown(tab) == [failed] and "breakpoint" in tab.inner_text("article")
    tab.keyboard.press("p")
    assert _shown(tab) == [failed, repaired] and "teacher only: hint" in tab.inner_text("#panels")
    address = tab.url
    tab.keyboard.press("Escape")
    tab.keyboard.press("ArrowDown")
    assert _shown(tab) == [hinted]
    tab.goto(address)
    assert _shown(tab) == [failed, repaired] and tab.title() == EVIL


def test_a_link_opened_afresh_shows_what_it_names(tab, found):
    failed, repaired, _ = (record["id"] for record in found)
    tab.click("#list li:nth-child(2)")
    tab.get_by_role("button", name="beside the failed sample").click()
    other = tab.context.browser.new_page()
    other.goto(tab.url)
    assert _shown(other) == [failed, repaired]
    other.goto("about:blank")
    other.goto(tab.url.partition("#")[0] + "#no-such+%zz")
    assert _shown(other) == [failed]
    other.close()


# Of each element that holds text of its own: its ratio to the nearest opaque background above it, by WCAG 2.
CONTRAST = """() => {
  const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const rgba = colour => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
                           return [...canvas.getImageData(0, 0, 1, 1).data]; };
  const light = c => c.slice(0, 3).map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = node => { const c = rgba(getComputedStyle(node).backgroundColor);
                           return c[3] === 255 ? c : behind(node.parentElement); };
  return [...document.body.querySelectorAll("*")].filter(node => node.checkVisibility() && !node.closest("script") &&
      [...node.childNodes].some(child => child.nodeType === 3 && child.data.trim())).map(node => {
    const [a, b] = [light(rgba(getComputedStyle(node).color)), light(behind(node))].sort((x, y) => y - x);
    return [(a + 0.05) / (b + 0.05), node.textContent.slice(0, 40)]; }).sort((x, y) => x[0] - y[0])[0]; }"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1440])
def test_the_page_fits_the_screen_and_can_be_read(tab, width, scheme):
    tab.emulate_media(color_scheme=scheme)
    tab.set_viewport_size({"width": width, "height": 844})
    tab.keyboard.press("p")
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    ratio, text = tab.evaluate(CONTRAST)
    assert ratio >= 4.5, text
