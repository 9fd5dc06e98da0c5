"""When does HEAL help? Teachers that differ in what they have read, and HEAL's gain over rejection sampling on each.

    shipped teacher -> goes on reading one world's text with other shares -> pool, hints, repairs -> students -> gain

The paper fixes its teacher; here the share of derivations in its hinted text (and so the share of spurious repairs) and
the share of derivations that it writes unprompted are knobs."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd

from heal_lib import baselines, embedded, pace, pipeline, pure, stats, tables, training
from heal_lib.embedded import corpus, muon
from heal_lib.pipeline import Pipeline
from heal_lib.store import read_json, write_json

CONFIG = training.TrainConfig(learning_rate=1e-2, batch_size=24, warmup=0.05)
COLUMNS = ["derive_hinted", "derive_unprompted", "unsolved", "spurious", "teacher", "sft-rs", "heal", "difference",
           "ci_low", "ci_high", "n_problems", "n_seeds"]


class Sweep(Pipeline):
    """The pipeline of a scale, and cells of its grid: each a pipeline of its own around another teacher."""

    def cells(self) -> list[tuple[float, float]]:
        """(derive_hinted, derive_unprompted) of every teacher."""
        return [(hinted, bare) for hinted in self.cfg.sweep_hinted for bare in self.cfg.sweep_unprompted]

    def teacher(self, hinted: float, bare: float):
        """Folder of the teacher that has read on with these shares of derivations."""
        recipe = replace(corpus.TEACHER, derive_hinted=hinted, derive_unprompted=bare)
        parts = {**self.cfg.pick("sweep_world", "sweep_texts"), "recipe": vars(recipe), "training": vars(CONFIG)}

        def make(folder):
            import torch

            torch.set_num_threads(1)
            model, words = embedded.load(self.cfg.teacher)
            texts = corpus.texts(recipe, self.cfg.sweep_texts, 100, of=(self.cfg.sweep_world,))
            rows = [corpus.encode(words, text) for text in texts]
            training.fit(model.train(), words, rows, CONFIG, optimizer=muon.Muon(model, CONFIG.learning_rate))
            model.save_pretrained(folder)
            words.save_pretrained(folder)

        return self._stage(f"teacher {hinted} {bare}", parts, make, corpus, muon, training, Sweep.teacher)

    def around(self, hinted: float, bare: float) -> Pipeline:
        """The pipeline around that teacher: one world, fewer tokens and seeds, no tuning."""
        cfg = replace(self.cfg, teacher=str(self.teacher(hinted, bare)), worlds=(self.cfg.sweep_world,),
                      train_tokens=self.cfg.sweep_tokens, seeds=self.cfg.sweep_seeds,
                      learning_rates=self.cfg.learning_rates[len(self.cfg.learning_rates) // 2 :][:1])
        return Pipeline(cfg, self.store)

    def cell(self, hinted: float, bare: float) -> dict:
        """One row of the table: what this teacher is like, and HEAL's gain on hard problems."""
        settings = {name: value for name, value in vars(self.cfg).items() if name not in ("name", "teacher", "student")}
        parts = {"settings": settings, "hinted": hinted, "bare": bare,
                 "training": vars(CONFIG), "student": embedded.weights_hash(self.cfg.student)}

        def make(folder):
            run = self.around(hinted, bare)
            samples = run.evaluations(["teacher", "sft-rs", "heal"])
            write_json({"derive_hinted": hinted, "derive_unprompted": bare,
                        **gain(run, samples, self.cfg.sweep_world)}, folder / "cell.json")

        code = (Sweep, gain, corpus, muon, training, pace, pure, baselines, pipeline, tables, stats)
        return read_json(self._stage(f"sweep {hinted} {bare}", parts, make, *code) / "cell.json")

    def table(self) -> pd.DataFrame:
        """All cells, made in parallel."""
        self.prefetch([("cell", *cell) for cell in self.cells()])
        return pd.DataFrame([self.cell(*cell) for cell in self.cells()], columns=COLUMNS)


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
