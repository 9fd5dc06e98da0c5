"""When does HEAL help? Teachers that differ in what they have read, students that differ in size, and HEAL's gain over
rejection sampling on each; with the shipped student, whose size is the middle one, also over HEAL without GEAR, without
PURE and without PACE.

    shipped teacher -> goes on reading one world's text with other shares -> pool, hints, repairs -> students -> gain

    writer of `registers`, two knobs at a time -> pool, repairs by cut -> is the break where the entropy is?

The paper fixes both; here the share of derivations in the teacher's hinted text (and so the share of spurious repairs),
the share of derivations that it writes unprompted, and the student's size are knobs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from heal_lib import claims, embedded, evaluation, knobs, provenance, report, stats, students, tables, teacher
from heal_lib.embedded import corpus, variants
from heal_lib.errors import HealError
from heal_lib.experiment import Experiment
from heal_lib.files import read_json
from heal_lib.stage import Keyed, Stage

SHIPPED = "student"
MAP = {"n_problems": 60, "n_samples": 10, "n_failed": 2, "n_candidates": 4}  # of a cell of the maps, at most
QUESTIONS = {"HEAL": "sft-rs", "GEAR": "heal-no-gear", "PURE": "heal-no-pure", "PACE": "heal-no-pace"}  # HEAL minus it
CELL = ["derive_hinted", "derive_unprompted", "student"]
COLUMNS = ["question", "against", *CELL, "parameters", "known_facts", "unsolved", "spurious", "other_rows", "teacher",
           "sft-rs", "heal", "difference", "ci_low", "ci_high", "p", "p_holm", "verdict", "n_problems", "n_seeds"]
WORDS = {"derive_hinted": "{} of the hinted texts read derive",
         "derive_unprompted": "{} of the unhinted texts read derive", "parameters": "the student has {} parameters"}


class Sweep(Experiment):
    """The experiment of a scale, and cells of its grid: each an experiment of its own around another teacher."""

    @property
    def world(self) -> str:
        """The world whose teacher is varied: the scale's first that the shipped teacher knows."""
        known = [cfg.worlds[0] for cfg in teacher.families(self.cfg) if cfg.teacher == self.cfg.teacher]
        if not known:
            raise HealError(f"the sweep goes on from '{self.cfg.teacher}', which knows none of "
                            f"{', '.join(self.cfg.worlds)}; add equations to the worlds")
        return known[0]

    def cells(self) -> list[tuple[float, float, str]]:
        """(derive_hinted, derive_unprompted, student): every teacher with the shipped student, then students of every
        size with the teachers that write as many derivations unprompted as the shipped one."""
        cfg, usual = self.cfg, corpus.TEACHER.derive_unprompted
        return ([(hinted, bare, SHIPPED) for hinted in cfg.sweep_hinted for bare in cfg.sweep_unprompted]
                + [(hinted, usual, f"base-{size}") for size in cfg.sweep_sizes for hinted in cfg.sweep_hinted])

    def base(self, size: str) -> Stage:
        """A student base of that size that has read one world's text only, the same for every size."""
        return Stage(f"base {size}", variants.base, {"world": self.world, "size": size,
                                                     "n_texts": self.cfg.sweep_base_texts})

    def teacher(self, hinted: float, bare: float) -> Stage:
        """The teacher that has read on with these shares of derivations."""
        recipe = replace(corpus.TEACHER, derive_hinted=hinted, derive_unprompted=bare)
        return Stage(f"teacher {hinted} {bare}", variants.teacher, {
            "model": Keyed(self.cfg.teacher, embedded.model_hash(self.cfg.teacher)), "world": self.world,
            "recipe": vars(recipe), "n_texts": self.cfg.sweep_texts})

    def around(self, hinted: float, bare: float, student: str = SHIPPED) -> Experiment:
        """The experiment around that teacher and student: one world, one draw of its texts, of which the columns on the
        teacher are as well, no tuning."""
        base = self.cfg.student if student == SHIPPED else self._made(self.base(student.removeprefix("base-")))
        drawer = "hf" if self.cfg.engine == "openai" else self.cfg.engine  # a server serves none of these teachers
        cfg = replace(self.cfg, teacher=self._made(self.teacher(hinted, bare)), student=base,
                      worlds=(self.world,), engine=drawer, teacher_draws=1,
                      learning_rates=self.cfg.learning_rates[len(self.cfg.learning_rates) // 2 :][:1])
        return Experiment(cfg, self.store, self.kept)

    def _made(self, model):
        """The folder of a model that is a stage."""
        folder = str(self.store.get(model).folder)
        self.kept.models[folder] = model
        return folder

    def cell(self, hinted: float, bare: float, student: str = SHIPPED) -> list[dict[str, Any]]:
        """Rows of the table, one per question: what this teacher and this student are like, and HEAL's gain on hard
        problems over what answers the question."""
        run, world = self.around(hinted, bare, student), self.world
        home = embedded.folder(run.cfg.student)
        known = read_json(home / ("card.json" if student == SHIPPED else "known_facts.json"))
        facts = known["known_facts"] if student == SHIPPED else known
        both = {"derive_hinted": hinted, "derive_unprompted": bare, "student": student,
                "parameters": embedded.load(run.cfg.student)[0].num_parameters(), "known_facts": facts[world]}
        samples = run.evaluations(methods(student))
        both |= gain(run, samples, world)
        return [{"question": question, "against": against, **both, "other_rows": other_rows(run, against),
                 **over(samples, world, against, run.cfg.n_boot)} for question, against in questions(student).items()]

    def table(self) -> pd.DataFrame:
        """All cells, a row for each of their questions; what they need is made side by side."""
        cells = self.cells()
        self.have([*(self.base(size) for size in reversed(self.cfg.sweep_sizes)),  # the largest takes longest
                   *(self.teacher(*pair) for pair in dict.fromkeys(cell[:2] for cell in cells))])
        runs = [(self.around(*cell), methods(cell[2])) for cell in cells]
        self.have(students.evaluation(cfg, method, seed) for seed in self.cfg.seeds for run, asked in runs
                  for cfg in teacher.families(run.cfg) for method in asked)  # stopped, it leaves whole seeds
        return judged(pd.DataFrame([row for cell in cells for row in self.cell(*cell)], columns=COLUMNS))

    def samples(self) -> pd.DataFrame:
        """Every sample that the table rests on: its cell, and the columns of `evaluation.SAMPLE`, without the texts."""
        return evaluation.sampled(pd.concat([
            self.around(*cell).evaluations(methods(cell[2])).assign(**dict(zip(CELL, cell, strict=True)))
            for cell in self.cells()], ignore_index=True), CELL).assign(text="")


def questions(student: str) -> dict[str, str]:
    """{question: what HEAL is compared with} of a cell. HEAL's parts are asked about at one size, the shipped
    student's, which bounds how many students are trained."""
    return QUESTIONS if student == SHIPPED else {"HEAL": QUESTIONS["HEAL"]}


def methods(student: str) -> tuple[str, ...]:
    """What is evaluated in a cell: the teacher, and students of all others."""
    return "teacher", *questions(student).values(), "heal"


def judged(rows: pd.DataFrame) -> pd.DataFrame:
    """The table with p-values after Holm's correction over all cells of a question, and with verdicts."""
    rows = rows.copy()
    for _, part in rows.groupby("question"):
        rows.loc[part.index, "p_holm"] = stats.holm(part["p"])
    told = [claims.strength(*row) for row in rows[["ci_low", "ci_high", "p_holm"]].itertuples(index=False)]
    return rows.assign(verdict=told)


def sentences(table: pd.DataFrame) -> list[str]:
    """What the table says, a sentence per question over the teachers with the shipped student, and one on HEAL over
    students of all sizes."""
    parted = [(table[table["student"] == SHIPPED], "teachers", ("derive_hinted", "derive_unprompted")),
              (table[table["student"] != SHIPPED], "pairs of a teacher and a size", ("derive_hinted", "parameters"))]
    return [f"**{question}** (minus {cells['against'].iloc[0]}): {told(cells, of, varied)}."
            for part, of, varied in parted for question, cells in part.groupby("question", sort=False)]


def told(cells: pd.DataFrame, of: str, varied: Sequence[str]) -> str:
    """In how many cells of one question each verdict holds, and where; in how many there was nothing to tell apart; and
    half the median interval."""
    half, said = 50 * (cells["ci_high"] - cells["ci_low"]).median(), []
    for verdict in dict.fromkeys((claims.SHOWN, *sorted(set(cells["verdict"]) - {claims.NOT}), claims.NOT)):
        which = cells["verdict"] == verdict
        where = "" if verdict == claims.NOT else region(cells, which, varied)
        said.append(f"{verdict} in {which.sum() or 'none'}" + f" of {len(cells)} {of}" * (not said) + where)
    same = 0 if "PACE" in set(cells["question"]) else (cells["other_rows"] == 0).sum()  # PACE is about order alone
    nothing = f"; in {same} both are given the same rows" * bool(same)
    return "; ".join(said) + f"{nothing} (half an interval: {half:.1f} points, the median)"


def first_page(folder: Path) -> list[str]:
    """Paragraphs for README on a sweep: its map, and what it says; none where there is none."""
    if not (record := provenance.record(folder)):
        return []
    table, where = pd.read_csv(folder / "tables" / "when_sweep.csv"), f"results/{folder.name}"
    sizes = f"{table['n_problems'].max()} problems, {table['n_seeds'].max()} seeds"
    solved = {shipped: f"{100 * part.min():.1f} to {100 * part.max():.1f} %" for shipped, part in
              table.groupby(table["student"] == SHIPPED)["heal"]}
    floor = f", those of the sizes, whose bases have read this world alone, {solved[False]}" if False in solved else ""
    return [f"**When does HEAL help?** Other teachers and sizes of students, in `{record['config']['worlds'][0]}` "
            f"({sizes}, {record['config']['train_tokens']:,} training tokens each; HEAL minus what a panel names):\n\n"
            + "\n".join(f"- {sentence}" for sentence in sentences(table))
            + f"\n\nOf the hard problems HEAL's students solve {solved[True]}{floor}. Where both are given the same "
              "rows, a part was not asked about.",
            f"![HEAL and its parts by what the teacher has read]({where}/figures/when_map.png)",
            report.origin(folder, where, "09_when"), *report.took(folder, where)]


def region(cells: pd.DataFrame, which: pd.Series, varied: Sequence[str]) -> str:
    """", where ..." of the smallest box of varied values that holds those cells, and how many of its cells they are; ""
    where there are none, or the box is the whole map."""
    inside, bounds = np.ones(len(cells), bool), []
    for name in varied if which.any() else ():
        values, (least, most) = cells[name], cells.loc[which, name].agg(["min", "max"])
        inside &= values.between(least, most).to_numpy()
        low, high = (f"{value:,.10g}" for value in (least, most))
        if least > values.min() or most < values.max():
            bounds.append(WORDS[name].format(low if least == most else f"at least {low}" if most == values.max() else
                                             f"at most {high}" if least == values.min() else f"{low} to {high}"))
    share = f" ({which.sum()} of the {inside.sum()} there)" if inside.sum() > which.sum() else ""
    return f", where {' and '.join(bounds)}{share}" if bounds else ""


def maps(run: Experiment, values: Mapping[str, Sequence[float]] | None = None) -> list[pd.DataFrame]:
    """The maps of `knobs.MAPS`, a table of cells each: the teacher's side alone, without a model. Sizes are the
    scale's, up to what a map needs; `values`: {knob: values}, by default few of them where the scale is a trial."""
    cfg = run.cfg
    n_problems = min(cfg.n_distil, MAP["n_problems"])
    values = {**(knobs.VALUES if n_problems == MAP["n_problems"] else knobs.ENDS), **(values or {})}
    sizes = {name: min(getattr(cfg, name), most) for name, most in MAP.items() if name != "n_problems"}
    stages = [Stage(f"map {' x '.join(pair)}", knobs.chart, {
        "world": teacher.where("registers"), "values": {name: list(values[name]) for name in pair},
        "n_problems": n_problems, **sizes, "seed": cfg.teacher_seed,
        **cfg.pick("eligible_max_correct", "surge", "window", "window_unit", "backoff")}) for pair in knobs.MAPS]
    run.have(stages)
    return [knobs.table(run.store.data(stage).to_pandas(), *pair, n_boot=cfg.n_boot)
            for stage, pair in zip(stages, knobs.MAPS, strict=True)]


def gain(run: Experiment, samples: pd.DataFrame, world: str) -> dict[str, Any]:
    """HEAL minus rejection sampling on a world's hard benchmark, beside what its teacher is like there: share of hard
    problems unsolved, share of the accepted hinted samples that are spurious."""
    counts = [c for key, c in run.correct_counts().items() if key.startswith(f"{world}-hard")]
    told = [r["genuine"] for r in run.accepted("hinted") if r["world"] == world and r["difficulty"] == "hard"]
    means = samples[samples["benchmark"] == f"{world}-hard"].groupby("method")["correct"].mean()
    return {"unsolved": sum(c == 0 for c in counts) / len(counts),
            "spurious": 1 - sum(told) / len(told) if told else float("nan"),
            **{name: means[name] for name in ("teacher", "sft-rs", "heal")},
            **over(samples, world, "sft-rs", run.cfg.n_boot)}


def other_rows(run: Experiment, against: str) -> float:
    """Share of the rows that HEAL's students are given and the other's are not. Zero is a blank for want of a
    difference: a filter that dropped nothing, say."""
    ours, theirs = ([(row["problem_id"], row["text"]) for rows in run.training_sources(method).values() for row in rows]
                    for method in ("heal", against))
    known = set(theirs)
    return sum(row not in known for row in ours) / len(ours)


def over(samples: pd.DataFrame, world: str, against: str, n_boot: int) -> dict[str, Any]:
    """HEAL minus another method on a world's hard benchmark."""
    hard = samples[samples["benchmark"] == f"{world}-hard"]
    row = tables.differences(hard, [("heal", against)], n_boot=n_boot).iloc[0]
    return row[["difference", "ci_low", "ci_high", "p", "n_problems", "n_seeds"]].to_dict()
