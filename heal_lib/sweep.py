"""When does HEAL help? Teachers that differ in what they have read, students that differ in size, and HEAL's gain over
rejection sampling on each.

    shipped teacher -> goes on reading one world's text with other shares -> pool, hints, repairs -> students -> gain

The paper fixes both; here the share of derivations in the teacher's hinted text (and so the share of spurious repairs),
the share of derivations that it writes unprompted, and the student's size are knobs."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd

from heal_lib import baselines, embedded, pace, pipeline, pure, sources, stages, stats, tables, training
from heal_lib.embedded import card, corpus, models, muon, tokenizer
from heal_lib.pipeline import Pipeline
from heal_lib.store import read_json, write_json

CONFIG = training.TrainConfig(learning_rate=1e-2, batch_size=24, warmup=0.05)
BASE = training.TrainConfig(learning_rate=1e-2, batch_size=8, warmup=0.02)
SHIPPED = "student"
COLUMNS = ["derive_hinted", "derive_unprompted", "student", "parameters", "known_facts", "unsolved", "spurious",
           "teacher", "sft-rs", "heal", "difference", "ci_low", "ci_high", "n_problems", "n_seeds"]


class Sweep(Pipeline):
    """The pipeline of a scale, and cells of its grid: each a pipeline of its own around another teacher."""

    def cells(self) -> list[tuple[float, float, str]]:
        """(derive_hinted, derive_unprompted, student): every teacher with the shipped student, then students of every
        size with the teachers that write as many derivations unprompted as the shipped one."""
        cfg, usual = self.cfg, corpus.TEACHER.derive_unprompted
        return ([(hinted, bare, SHIPPED) for hinted in cfg.sweep_hinted for bare in cfg.sweep_unprompted]
                + [(hinted, usual, f"base-{size}") for size in cfg.sweep_sizes for hinted in cfg.sweep_hinted])

    def base(self, size: str):
        """Folder of a student base of that size that has read one world's text only, the same for every size."""
        parts = {**self.cfg.pick("sweep_world", "sweep_base_texts"), "size": size, "shape": models.SIZES.get(size),
                 "recipe": vars(corpus.STUDENT), "training": vars(BASE)}

        def make(folder):
            words = tokenizer.build()
            self._read(models.new_model(size, words, 0), words, corpus.STUDENT, self.cfg.sweep_base_texts, BASE, folder)
            known = card.drill_skill(stages.engine(str(folder)), of=(self.cfg.sweep_world,))
            write_json(known, folder / "known_facts.json")

        return self._stage(f"base {size}", parts, make, card, corpus, models, muon, training, Sweep.base, Sweep._read,
                           teacher=False)

    def _read(self, model, words, recipe, n_texts, config, folder):
        """Trains a model on texts of the sweep's world, on one thread, and saves it."""
        import torch

        torch.set_num_threads(1)
        rows = [corpus.encode(words, text) for text in corpus.texts(recipe, n_texts, 100, of=(self.cfg.sweep_world,))]
        training.fit(model.train(), words, rows, config, optimizer=muon.Muon(model, config.learning_rate))
        model.save_pretrained(folder)
        words.save_pretrained(folder)

    def teacher(self, hinted: float, bare: float):
        """Folder of the teacher that has read on with these shares of derivations."""
        recipe = replace(corpus.TEACHER, derive_hinted=hinted, derive_unprompted=bare)
        parts = {**self.cfg.pick("sweep_world", "sweep_texts"), "recipe": vars(recipe), "training": vars(CONFIG)}

        def make(folder):
            self._read(*embedded.load(self.cfg.teacher), recipe, self.cfg.sweep_texts, CONFIG, folder)

        return self._stage(f"teacher {hinted} {bare}", parts, make, corpus, muon, training, Sweep.teacher, Sweep._read)

    def around(self, hinted: float, bare: float, student: str = SHIPPED) -> Pipeline:
        """The pipeline around that teacher and student: one world, fewer tokens and seeds, no tuning."""
        base = self.cfg.student if student == SHIPPED else str(self.base(student.removeprefix("base-")))
        drawer = "hf" if self.cfg.engine == "openai" else self.cfg.engine  # a server serves none of these teachers
        cfg = replace(self.cfg, teacher=str(self.teacher(hinted, bare)), student=base, worlds=(self.cfg.sweep_world,),
                      engine=drawer,
                      train_tokens=self.cfg.sweep_tokens, seeds=self.cfg.sweep_seeds,
                      learning_rates=self.cfg.learning_rates[len(self.cfg.learning_rates) // 2 :][:1])
        return Pipeline(cfg, self.store)

    def cell(self, hinted: float, bare: float, student: str = SHIPPED) -> dict:
        """One row of the table: what this teacher and this student are like, and HEAL's gain on hard problems."""
        settings = {name: value for name, value in vars(self.cfg).items() if name not in ("name", "teacher", "student")}
        parts = {"settings": settings, "hinted": hinted, "bare": bare, "which": student,
                 "training": vars(CONFIG), "student": embedded.weights_hash(self.cfg.student)}

        def make(folder):
            run = self.around(hinted, bare, student)
            samples = run.evaluations(["teacher", "sft-rs", "heal"])
            home = embedded.folder(run.cfg.student)
            known = read_json(home / ("card.json" if student == SHIPPED else "known_facts.json"))
            facts = known["known_facts"] if student == SHIPPED else known
            write_json({"derive_hinted": hinted, "derive_unprompted": bare, "student": student,
                        "parameters": stages.engine(run.cfg.student).model.num_parameters(),
                        "known_facts": facts[self.cfg.sweep_world], **gain(run, samples, self.cfg.sweep_world)},
                       folder / "cell.json")

        code = (Sweep, gain, card, corpus, models, muon, training, pace, pure, baselines, pipeline, sources, stages,
                tables, stats)
        return read_json(self._stage(f"sweep {hinted} {bare} {student}", parts, make, *code) / "cell.json")

    def table(self) -> pd.DataFrame:
        """All cells, made in parallel."""
        cells = self.cells()
        self.prefetch([("teacher", *pair) for pair in dict.fromkeys(cell[:2] for cell in cells)]
                      + [("base", size) for size in self.cfg.sweep_sizes])
        self.prefetch([("cell", *cell) for cell in cells])
        return pd.DataFrame([self.cell(*cell) for cell in cells], columns=COLUMNS)


def gain(run: Pipeline, samples, world: str) -> dict:
    """HEAL minus rejection sampling on a world's hard benchmark, beside what its teacher is like there: share of hard
    problems unsolved, share of the accepted hinted samples that are spurious."""
    hard = samples[samples["benchmark"] == f"{world}-hard"]
    row = tables.differences(hard, [("heal", "sft-rs")], n_boot=run.cfg.n_boot).iloc[0]
    counts = [c for key, c in run.correct_counts().items() if key.startswith(f"{world}-hard")]
    told = [r["genuine"] for r in run.accepted("hinted") if r["world"] == world and r["difficulty"] == "hard"]
    means = hard.groupby("method")["correct"].mean()
    return {"unsolved": sum(c == 0 for c in counts) / len(counts),
            "spurious": 1 - sum(told) / len(told) if told else float("nan"),
            **{name: means[name] for name in ("teacher", "sft-rs", "heal")},
            **row[["difference", "ci_low", "ci_high", "n_problems", "n_seeds"]].to_dict()}
