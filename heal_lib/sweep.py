"""When does HEAL help? Teachers that differ in what they have read, students that differ in size, and HEAL's gain over
rejection sampling on each; with the shipped student, whose size is the middle one, also over HEAL without GEAR, without
PURE and without PACE.

    shipped teacher -> goes on reading one world's text with other shares -> pool, hints, repairs -> students -> gain

    writer of `registers`, two knobs at a time -> pool, repairs by cut -> is the break where the entropy is?

The paper fixes both; here they are varied: a teacher by the two knobs of its family of worlds (`KNOBS`), the first of
which decides how many of its repairs are spurious, and the student by its size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from heal_lib import embedded, evaluation, knobs, students, tables, teacher, worlds
from heal_lib.embedded import corpus, habits, variants
from heal_lib.errors import HealError
from heal_lib.experiment import Experiment
from heal_lib.files import read_json
from heal_lib.stage import Keyed, Stage
from heal_lib.when import KNOBS, QUESTIONS, SHIPPED, judged
from heal_lib.worlds.registers import Habit

MAP = {"n_problems": 60, "n_samples": 10, "n_failed": 2, "n_candidates": 4}  # of a cell of the maps, at most
COLUMNS = ["student", "parameters", "known_facts", "unsolved", "spurious", "other_rows", "teacher",
           "sft-rs", "heal", "difference", "ci_low", "ci_high", "p", "p_holm", "verdict", "n_problems", "n_seeds"]


class Sweep(Experiment):
    """The experiment of a scale, and cells of its grid: each an experiment of its own around another teacher."""

    @property
    def world(self) -> str:
        """The world whose teacher is varied: the scale's first."""
        return self.cfg.worlds[0]

    @property
    def knobs(self) -> tuple[str, str]:
        """The names of the knobs of its teachers."""
        return KNOBS[getattr(worlds.get(self.world), "family", "")]

    def cells(self) -> list[tuple[float, float, str]]:
        """(first knob, second knob, student): every teacher with the shipped student, then students of every size with
        the teachers whose second knob is the shipped one's."""
        first, second = (getattr(self.cfg, f"sweep_{name.removeprefix('derive_')}") for name in self.knobs)
        usual = getattr(corpus.TEACHER if self.knobs == KNOBS[""] else Habit(), self.knobs[1])
        return ([(x, y, SHIPPED) for x in first for y in second]
                + [(x, usual, f"base-{size}") for size in self.cfg.sweep_sizes for x in first])

    def base(self, size: str) -> Stage:
        """A student base of that size that has read one world's text only, the same for every size. HealError for a
        world whose text such bases do not read."""
        if self.knobs != KNOBS[""]:
            raise HealError(f"sweep_sizes: no base of another size reads {self.world}; leave it out, or choose "
                            "equations, paths or countdown")
        return Stage(f"base {size}", variants.base, {"world": self.world, "size": size,
                                                     "n_texts": self.cfg.sweep_base_texts})

    def teacher(self, x: float, y: float) -> Stage:
        """The teacher that has read on, text written with these values of its knobs."""
        turned: dict[str, Any] = dict(zip(self.knobs, (x, y), strict=True))
        shipped = teacher.model_of(self.cfg, self.world)
        model = {"model": Keyed(shipped, embedded.model_hash(shipped)), "n_texts": self.cfg.sweep_texts}
        if self.knobs == KNOBS["registers"]:
            return Stage(f"teacher {x} {y} {self.world}", habits.teacher, model | {"habit": turned})
        return Stage(f"teacher {x} {y}", variants.teacher, model | {
            "world": self.world, "recipe": vars(replace(corpus.TEACHER, **turned))})

    def around(self, x: float, y: float, student: str = SHIPPED) -> Experiment:
        """The experiment around that teacher and student: one world, one draw of its texts, of which the columns on the
        teacher are as well, no tuning."""
        base = self.cfg.student if student == SHIPPED else self._made(self.base(student.removeprefix("base-")))
        drawer = "hf" if self.cfg.engine == "openai" else self.cfg.engine  # a server serves none of these teachers
        cfg = replace(self.cfg, teacher=self._made(self.teacher(x, y)), student=base,
                      worlds=(self.world,), engine=drawer, teacher_draws=1,
                      learning_rates=self.cfg.learning_rates[len(self.cfg.learning_rates) // 2 :][:1])
        return Experiment(cfg, self.store, self.kept)

    def _made(self, model):
        """The folder of a model that is a stage."""
        folder = str(self.store.get(model).folder)
        self.kept.models[folder] = model
        return folder

    def cell(self, x: float, y: float, student: str = SHIPPED) -> list[dict[str, Any]]:
        """Rows of the table, one per question: what this teacher and this student are like, and HEAL's gain on hard
        problems over what answers the question."""
        run, world = self.around(x, y, student), self.world
        home = embedded.folder(teacher.families(run.cfg)[0].student)
        known = read_json(home / ("card.json" if student == SHIPPED else "known_facts.json"))
        facts = known["known_facts"] if student == SHIPPED else known
        both = {**dict(zip(self.knobs, (x, y), strict=True)), "student": student,
                "parameters": embedded.load(str(home))[0].num_parameters(), "known_facts": facts[world]}
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
        return judged(pd.DataFrame([row for cell in cells for row in self.cell(*cell)],
                                   columns=["question", "against", *self.knobs, *COLUMNS]))

    def samples(self) -> pd.DataFrame:
        """Every sample that the table rests on: its cell, and the columns of `evaluation.SAMPLE`, without the texts."""
        names = [*self.knobs, "student"]
        return evaluation.sampled(pd.concat([
            self.around(*cell).evaluations(methods(cell[2])).assign(**dict(zip(names, cell, strict=True)))
            for cell in self.cells()], ignore_index=True), names).assign(text="")


def questions(student: str) -> dict[str, str]:
    """{question: what HEAL is compared with} of a cell. HEAL's parts are asked about at one size, the shipped
    student's, which bounds how many students are trained."""
    return QUESTIONS if student == SHIPPED else {"HEAL": QUESTIONS["HEAL"]}


def methods(student: str) -> tuple[str, ...]:
    """What is evaluated in a cell: the teacher, and students of all others."""
    return "teacher", *questions(student).values(), "heal"


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
