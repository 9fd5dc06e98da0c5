"""The trajectory explorer: one self-contained page in which trajectories are filtered, read and compared.

    records(rows)  ->  page(records)   a file of its own, results/<scale>/explorer.html
                   ->  show(*rows)     the same page as a widget of a notebook

The page (explorer.html) fetches nothing and sets model text as text only; its data is JSON inside a script tag.
"""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from heal_lib import baselines, entropy, gear, pure, teacher, worlds
from heal_lib.errors import HealError
from heal_lib.files import atomic
from heal_lib.plots.trajectories import TOP
from heal_lib.trajectory import problem_of

if TYPE_CHECKING:
    from IPython.display import HTML

    from heal_lib.engines import Engine
    from heal_lib.experiment import Experiment
    from heal_lib.scales import Scale

TEMPLATE = Path(__file__).with_name("explorer.html")
MOST_TOKENS = 120_000  # of all trajectories on a page: about 1 MB


def identity(row: dict[str, Any]) -> str:
    """What names a trajectory on the page, and in a link to it."""
    return f"{row['problem_id']}/{row['source']}/{row['sample']}"


def chosen(run: Experiment, per_level: int = 10,
           most_tokens: int = MOST_TOKENS) -> tuple[list[dict[str, Any]], set[str]]:
    """A sample of an experiment's trajectories to look at, and the names of those that PURE drops.

    Of each world and difficulty the first `per_level` problems, those with repairs first; of each problem two right
    samples, three of the failed ones chosen for repair, three hinted samples and six repairs, what PURE drops first.
    Problems are taken in turn from all levels until `most_tokens` tokens are on the page."""
    failed, groups, dropped = run.failed(), {}, dropped_by_pure(run)
    for row in run.pool():
        groups.setdefault(row["problem_id"], {"sampled": [], "hinted": [], "repaired": []})["sampled"].append(row)
    for row in (*run.hinted(), *run.repairs()):
        groups[row["problem_id"]][row["source"]].append(row)
    levels: dict[tuple, list] = {}
    for key in sorted(groups, key=lambda key: key not in failed):  # stable: otherwise in the pool's order
        row = groups[key]["sampled"][0]
        levels.setdefault((row["world"], row["difficulty"]), []).append(key)
    rows, left = [], most_tokens
    for rank in range(per_level):
        for key in (keys[rank] for keys in levels.values() if rank < len(keys)):
            mine = _of_problem(groups[key], failed.get(key, []), dropped)
            left -= sum(len(row["token_ids"]) for row in mine)
            if left < 0 and rows:
                return rows, dropped
            rows += mine
    return rows, dropped


def dropped_by_pure(run: Experiment) -> set[str]:
    """Names of the accepted rows that PURE takes out of what HEAL trains on: of the sources that it filters, after
    their duplicates, as in `baselines.training_rows`."""
    cfg, asked = run.cfg, ("hinted", "repairs entropy")
    right = [row for row in run.pool() if row["correct"]]
    right = baselines.unique(right)[0] if cfg.deduplicate else right
    sources = [baselines.capped(right, cfg.per_problem_cap, cfg.teacher_seed), *map(run.accepted, asked)]
    if cfg.deduplicate:
        sources = baselines.unique(*sources)
    dropped: set[str] = set()
    for name, which, rows in zip(("hint", "repair"), asked, sources[1:], strict=True):
        if rows and name in cfg.pure_pool:
            read = dict(zip(map(baselines.identity, run.accepted(which)), run.readings(which), strict=True))
            kept = baselines.filtered(rows, read, which, "pure", vars(cfg), cfg.teacher_seed)
            dropped |= set(map(identity, rows)) - set(map(identity, kept))
    return dropped


def _of_problem(group: dict, failed: list, dropped: set) -> list[dict]:
    """The rows of one problem that are shown: parents before their repairs."""
    right = [row for row in group["sampled"] if row["correct"]][:2]
    parents = failed or [row for row in group["sampled"] if not row["correct"]][:1]
    told = [row for row in parents if row["sample"] in {r["parent"] for r in group["repaired"]}] or parents
    first = {kind: sorted(group[kind], key=lambda row: (identity(row) not in dropped, not row["correct"]))
             for kind in ("hinted", "repaired")}
    repairs = [row for row in first["repaired"] if row["parent"] in {p["sample"] for p in told[:3]}]
    return [*told[:3], *right, *first["hinted"][:3], *repairs[:6]]


def records(rows: Iterable[dict[str, Any]], cfg: Scale, engine: Engine | None = None, dropped: Iterable[str] = (),
            parents: Iterable[dict[str, Any]] = ()) -> list[dict[str, Any]]:
    """What the page knows of each data-set row (trajectory.COLUMNS), as plain JSON values, in the order of the rows.

    Entropy in nats at the moment of drawing (of kept tokens, their parent's), step perplexity and U (nats per token)
    without the hint, the oracle's word on each step. `engine`: what reads them; by default each world's teacher.
    `parents`: failed rows that repairs among `rows` were cut from, where they are not among `rows` themselves.
    `dropped`: names (`identity`) of rows that PURE drops."""
    rows, dropped, told = list(rows), set(dropped), {}
    known = {identity(row): row for row in (*parents, *rows)}
    for world in dict.fromkeys(row["world"] for row in rows):
        mine = [i for i, row in enumerate(rows) if row["world"] == world]
        model, reader = teacher.model_of(cfg, world), engine or teacher.reader(cfg, world)
        answers = cfg.pure_answers if worlds.get(world).lists_answers else "likelihood"
        readings = pure.read(reader, [rows[i] for i in mine], cfg.step_delimiter, answers)
        for i, reading in zip(mine, readings, strict=True):
            told[i] = {"model": Path(model).name, **_record(rows[i], reading, known, cfg, reader, dropped)}
    return [told[i] for i in range(len(rows))]


def _record(row, reading, known, cfg, engine, dropped) -> dict:
    world, problem, pieces = worlds.get(row["world"]), problem_of(row), engine.pieces(row["token_ids"])
    parent = f"{problem.id}/sampled/{row['parent']}" if row["parent"] >= 0 else None
    kept = list(known[parent]["entropy"])[: row["n_kept"]] if parent in known else [math.nan] * row["n_kept"]
    nats, spans = np.array([*kept, *row["entropy"]], float), world.spans(pieces, cfg.step_delimiter)
    steps = _steps(world, problem, row["text"], pieces, spans, reading)
    for step, (start, end) in zip(steps, spans, strict=True):
        step.update(entropy=_number(nats[start:end].mean()), end=end)
    marks = _cut(row, nats, spans, cfg)
    if row["source"] != "sampled":
        marks.append([row["n_kept"], "hint", world.told(problem, cfg.hint).strip()])
    if row["source"] == "repaired":
        marks.append([row["n_kept"], "repair", ""])
    ratio = pure.anomaly(reading, cfg.pure_aggregate, cfg.pure_uncertainty, cfg.pure_eps)
    return {"id": identity(row), "problem": problem.id, "world": row["world"], "difficulty": row["difficulty"],
            "question": problem.question, "answer": problem.answer, "source": row["source"], "sample": row["sample"],
            "parent": parent, "kept": row["n_kept"], "verdict": _verdict(row), "finished": row["finished"],
            "dropped": identity(row) in dropped, "anomaly": _number(ratio), "pieces": pieces,
            "entropy": [_number(h, 2) for h in nats], "marks": marks, "steps": steps}


def _verdict(row) -> str:
    return "failed" if not row["correct"] else {1: "genuine", 0: "spurious"}.get(row["genuine"], "correct")


def _steps(world, problem, text, pieces, spans, reading) -> list[dict]:
    """One dict per span: the oracle's kind and validity, PPL and U before and after; None where there is none."""
    report = world.check_steps(problem, text)
    verdicts, readings, steps = iter(report.steps if report else ()), iter(range(reading["n_steps"])), []
    for start, end in spans:
        said = "".join(pieces[start:end])
        word = next(verdicts, None) if said.strip() else None
        k = next(readings, None) if said.strip() and world.answer_opening not in said else None
        u = (None, None) if k is None else (_number(reading["uncertainty"][i]) for i in (k, k + 1))
        before, after = u
        steps.append({"kind": word and word.kind, "valid": word and word.valid, "fruitless": word and word.fruitless,
                      "ppl": None if k is None else _number(reading["ppl"][k]), "before": before, "after": after})
    return steps


def _cut(row, nats, spans, cfg) -> list[list]:
    """Where GEAR would cut a failed sample: [token, kind, text] of the cut and the breakpoint."""
    if row["source"] != "sampled" or row["correct"]:
        return []
    h = entropy.step_means(nats, spans)
    at = gear.find_breakpoint(h, cfg.window, surge=cfg.surge, window_unit=cfg.window_unit,
                              step_lengths=[end - start for start, end in spans])
    stay = gear.kept_steps(at, cfg.backoff)
    found = [] if at is None else [[spans[at][0], "breakpoint", ""]]
    return [[spans[stay - 1][1] if stay else 0, "cut", ""], *found]


def _number(value, digits=3):
    """A float that JSON can hold: rounded, None for NaN and infinity."""
    return round(float(value), digits) if np.isfinite(value) else None


def page(found: list[dict[str, Any]], title: str = "Trajectories", widget: bool = False) -> str:
    """The explorer as HTML. `found`: from `records`. `widget`: without the page's own head, for a notebook."""
    words = list(dict.fromkeys(piece for record in found for piece in record["pieces"]))
    place = {word: i for i, word in enumerate(words)}  # a piece is stored once
    told = [{**record, "pieces": [place[piece] for piece in record["pieces"]]} for record in found]
    data = {"title": title, "widget": widget, "top": TOP, "words": words, "records": told}
    # No "<" is left, so that no text can end the script tag or open a comment in it.
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    return TEMPLATE.read_text(encoding="utf-8").replace('"DATA"', text)


def write(*runs: Experiment, engine: Engine | None = None) -> Path:
    """Writes results/<scale>/explorer.html from a sample of the trajectories of experiments, which may have different
    teachers; returns its path, below the first one's results. `engine`: as of `records`."""
    parts = []
    for run in runs:
        rows, dropped = chosen(run, most_tokens=MOST_TOKENS // len(runs))
        parts.append(records(rows, run.cfg, engine, dropped))
    cfg = runs[0].cfg
    path = cfg.results_dir / "explorer.html"
    with atomic(path) as temporary:
        temporary.write_text(page(joined(parts), f"HEAL trajectories, {cfg.name}"), encoding="utf-8")
    return path


def joined(parts: Iterable[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Records of several teachers for one page. Where two of them wrote on the same problems, names begin with the
    model's, so that a link leads to one trajectory and a repair to its own parent."""
    found = [record for part in parts for record in part]
    if len({record["id"] for record in found}) == len(found):
        return found

    def named(record, name):
        return record[name] and f"{record['model']}:{record[name]}"

    return [{**record, "id": named(record, "id"), "parent": named(record, "parent")} for record in found]


def load(path: Path, name: str | None = None) -> list[dict[str, Any]]:
    """The records of a page that `write` wrote, or the one of that name (`identity`); HealError if there is none."""
    text = re.search(r'id="data">(.*?)</script>', path.read_text(encoding="utf-8"), re.S)
    if text is None:
        raise HealError(f"{path.name}: holds no trajectories; make it again: heal reproduce --only 00_tour")
    data = json.loads(text[1])
    found = [{**record, "pieces": [data["words"][i] for i in record["pieces"]]} for record in data["records"]
             if name in (None, record["id"])]
    if not found:
        known = ", ".join(difflib.get_close_matches(str(name), [r["id"] for r in data["records"]]) or ["none"])
        raise HealError(f"no trajectory {name!r} on the page; near it: {known}")
    return found


def show(*rows: dict[str, Any], cfg: Scale | None = None, engine: Engine | None = None,
         parents: Iterable[dict[str, Any]] = (), height: int = 560) -> HTML:
    """Data-set rows as the explorer, in a notebook; two rows stand side by side. `height` in pixels.

    cfg: a `Scale` (default: demo's switches); engine: what reads the rows (default: each world's teacher of cfg)."""
    from IPython.display import HTML

    from heal_lib import scales

    found = records(rows, cfg or scales.get("demo"), engine, parents=parents)
    # Without allow-same-origin the frame cannot reach the notebook, whatever it holds.
    return HTML(f'<div><iframe title="trajectories" sandbox="allow-scripts" style="width:100%;height:{height}px;'
                f'border:0" srcdoc="{escape(page(found, widget=True))}"></iframe></div>')
