"""HEAL on your own problems and models, in one command:

    python -m heal_lib.distil --data my.csv --teacher FOLDER --student FOLDER --out FOLDER [--backend unsloth]

Half of the rows (`problem`, `answer`) is distilled from, 40 % is held out; a hash of the question decides, so that none
is in both. OUT gets student/ (weights), report.md and report.html, tables/, and cache/, from which a stopped command
goes on. Sizes and switches are those of scale `llm` and SIZES; -p NAME VALUE changes one. Exit code 2 for bad input."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd

from heal_lib import console, embedded, evaluation, llm, notebooks, pages, report, scales, tables, worlds
from heal_lib.errors import HealError
from heal_lib.experiment import Experiment
from heal_lib.files import atomic, write_json, write_table
from heal_lib.places import check_folder
from heal_lib.provenance import environment
from heal_lib.store import Store

METHODS = ("teacher", "student", "sft-rs", "heal")
PAIRS = (("heal", "student"), ("heal", "sft-rs"), ("heal", "teacher"))
SIZES = {"n_distil": 1000, "n_test": 200, "k_eval": 4, "n_hinted": 10, "n_failed": 2, "n_candidates": 5,
         "train_tokens": 200_000, "max_new_tokens": 1024, "seeds": (0, 1)}


def experiment(data: str, teacher_model: str, student_model: str, out: str | Path, **overrides: Any) -> Experiment:
    """The stages of one's own distillation; what is made is kept in `out`/cache. `overrides`: fields of `Scale`.

    Raises HealError, one line, for a file, a model or a setting that will not do, before anything is drawn."""
    check_folder(Path(out), "--out")
    where = str(Path(data).absolute())
    models = {name: _absolute(model) for name, model in (("teacher", teacher_model), ("student", student_model))}
    for name, model in models.items():
        if Path(model).resolve() == (Path(out) / "student").resolve():
            raise HealError(f"--{name} is {out}/student, where what is trained is written; give another --out")
    cfg = scales.get("llm", **{**SIZES, **models, "worlds": ("math",), "difficulties": (where,),
                               "benchmarks": (where,), **overrides})
    for split in ("distil", "test"):
        if not worlds.get("math").problems(split, 1, 0, where):
            raise HealError(f"{data}: no problem falls to the split '{split}'; give more rows (20 will do)")
    for model in models.values():
        embedded.check(model)
    return Experiment(cfg, Store(Path(out) / "cache"))


def _absolute(model: str) -> str:
    return str(Path(model).absolute()) if Path(model).exists() else model


def distil(run: Experiment, out: Path) -> Path:
    """Makes all stages, and writes the student's weights, tables and report to `out`; returns the report's path."""
    ceiling = llm.ceiling(run)
    samples, pooled = llm.students(run, METHODS)
    evaluation.save_samples(samples, out)
    for name in {*METHODS} - {*samples["method"]}:  # what an earlier command left
        (out / "per_sample" / f"{name}.parquet").unlink(missing_ok=True)
    results = evaluation.results_table(pooled[pooled["benchmark"] == llm.POOLED], temperature=run.cfg.temperature,
                                       n_boot=run.cfg.n_boot)
    write_table(ceiling, out / "tables" / "ceiling.csv")
    write_table(results, out / "tables" / "results.csv")
    if "heal" in set(samples["method"]):
        _copy(run.student("heal", run.cfg.seeds[0]), out / "student")
    else:
        shutil.rmtree(out / "student", ignore_errors=True)
    text = page(run, ceiling, results, pooled)
    with atomic(out / "report.md") as temporary:
        temporary.write_text(text)
    with atomic(out / "report.html") as temporary:
        cells = [nbformat.v4.new_markdown_cell(text, id="report")]
        temporary.write_text(pages.html(nbformat.v4.new_notebook(cells=cells), "report"))
    write_json({"settings": run.cfg.changed, "environment": environment(),
                "computed": embedded.computed()}, out / "run.json")
    return out / "report.md"


def _copy(trained: Path, to: Path) -> None:
    """The weights after the last stage, whole or not at all."""
    last = max(trained.glob("stage-*"), key=lambda path: int(path.name.partition("-")[2]))
    with tempfile.TemporaryDirectory(dir=to.parent) as scratch:
        shutil.copytree(last, Path(scratch) / "student")
        shutil.rmtree(to, ignore_errors=True)
        os.replace(Path(scratch) / "student", to)


# --- the report
def page(run: Experiment, ceiling: pd.DataFrame, results: pd.DataFrame, pooled: pd.DataFrame) -> str:
    """The report as Markdown: the ceiling before, the data, the accuracy after on held-out rows, what was not shown."""
    cfg, here = run.cfg, ceiling.iloc[0]
    test = results[results["metric"].str.startswith("avg@")]
    rows = [[row.method, report.interval(row.mean, row.ci_low, row.ci_high)] for row in test.itertuples()]
    gains = tables.differences(pooled[pooled["benchmark"] == llm.POOLED], PAIRS, n_boot=cfg.n_boot)
    names = {name: pages.code(Path(getattr(cfg, name)).name) for name in ("teacher", "student")}
    return "\n\n".join([
        "# Distillation", f"Teacher {names['teacher']}, student {names['student']}, problems of "
        f"{pages.code(Path(cfg.difficulties[0]).name)}; {cfg.backend} with {cfg.finetune}, {len(cfg.seeds)} seeds.",
        "## Before: the teacher's ceiling",
        f"Of {here['n_problems']} problems to distil from, {_share(here, 'unsolved')} % stayed unsolved in "
        f"{here['n_samples']} samples; {_share(here, 'pass_1')} % of the samples were right, "
        f"{100 * here['truncated']:.0f} % were cut off by the length limit.",
        "## What was learned from", report.markdown(data(run)),
        f"## After: {test['n_problems'].max()} held-out problems",
        "Accuracy in per cent, mean and 95 % interval over problems and seeds.",
        report.markdown(pd.DataFrame(rows, columns=["method", "accuracy"])),
        llm.bullets(llm.said_students(gains)),
        "## What was not shown", llm.bullets(not_shown(run, gains))]) + "\n"


def _share(row, name):
    return report.interval(row[name], row[f"{name}_low"], row[f"{name}_high"])


def data(run: Experiment) -> pd.DataFrame:
    """Rows of each source: drawn, verified, and left to train on after duplicates, PURE and the cap per problem."""
    sources = run.training_sources("heal")
    found = [[name, len(run.data(which)), len(run.accepted(which)), len(sources[name])]
             for name, which in (("base", "pool"), ("hint", "hinted"), ("repair", "repairs entropy"))]
    return pd.DataFrame(found, columns=["source", "drawn", "verified", "trained on"])


def not_shown(run: Experiment, gains: pd.DataFrame) -> list[str]:
    """What the report's reader may not conclude, from the numbers."""
    lines = [f"That HEAL differs from {row.against}: the interval includes zero, and only a difference of "
             f"{report.number(100 * row.detectable)} points or more would be found with 80 % power."
             for row in gains.itertuples() if row.interval == "includes zero"]
    if "heal" not in set(gains["method"]):
        lines.append("That HEAL can teach this student anything: no sample verified, so there was nothing to train on.")
    if not llm.has_oracle(run):
        lines.append("That what was learned from is sound: no oracle judges the steps of these texts, only answers.")
    return [*lines, "What each part is worth: neither cuts, filters nor stages were compared with their controls here.",
            f"What another draw would give: one pool of the teacher's samples, {len(run.cfg.seeds)} training seeds."]


def main(argv: list[str] | None = None) -> int:
    """The command line; returns its exit code: 0 done, 2 bad input."""
    it = console.Parser("distil", "HEAL on your own problems and models.")
    it.add_argument("--data", required=True, help=".csv, .jsonl or .parquet with columns problem and answer")
    it.add_argument("--teacher", required=True, help="a folder of safetensors with a tokenizer, or a model on the hub")
    it.add_argument("--student", required=True, help="the same; it may have another vocabulary")
    it.add_argument("--out", required=True, type=Path, help="folder to write")
    it.add_argument("--backend", choices=("hf", "unsloth"), help="what trains the student (hf)")
    it.add_argument("-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), dest="pairs",
                    help="another size or switch, such as -p n_samples 8 (heal_lib/scales.py)")

    def command(args):
        given = {name: notebooks.typed(name, value) for name, value in args.pairs}
        known = [*scales.kinds(), *scales.SERVER]
        for name in sorted(given.keys() - known):
            raise HealError(f"unknown parameter {name!r}; {notebooks.nearest(name, known)}")
        run = experiment(args.data, args.teacher, args.student, args.out, **{"backend": args.backend, **given})
        report, folder = distil(run, args.out), args.out / "student"
        student = folder if folder.is_dir() else None
        print(f"the report is {report}" + (f", the student in {student}" if student else "; no sample verified, so "
                                           "there is no student"))
        tables = {name: pd.read_csv(args.out / "tables" / f"{name}.csv") for name in ("ceiling", "results")}
        return {"report": report, "student": student, "learned_from": data(run), **tables}, 0

    return console.run(it, command, argv)


if __name__ == "__main__":
    sys.exit(main())
