"""From a scale to the samples that its tables are made of; each stage is cached by what determines it.

    training_sources(method) -> student(method, seed) -> evaluation(method, seed)
"""

from __future__ import annotations

import shutil
import time

import numpy as np

from heal_lib import backends, baselines, embedded, pace, sources, stages, training, worlds
from heal_lib.errors import HealError
from heal_lib.scales import Scale
from heal_lib.sources import length
from heal_lib.store import Store, key_of, load_dataset, read_json, save_dataset, unfinished, versions, write_json
from heal_lib.trajectory import seed_of

TUNING_SEED = 1000  # trains the students that choose a learning rate, and nothing that is reported


class Pipeline(sources.Sources):
    """The stages of one scale. Every method returns a data set (or a model folder), made or reused."""

    def __init__(self, cfg: Scale, store: Store | None = None):
        super().__init__(cfg, store)
        self._hashes: dict = {}  # method -> hash of its training tokens

    # --- the student
    def learning_rate(self, method: str) -> float:
        """The rate of the grid whose student does best on development problems (a seed of its own; ties: the first)."""
        grid = self.cfg.learning_rates
        return grid[0] if len(grid) == 1 else max(grid, key=lambda rate: self.tuning(method, rate))

    def tuning(self, method: str, rate: float) -> float:
        """Mean accuracy on development problems of a student trained at this rate."""
        return float(np.mean(self.evaluation(method, TUNING_SEED, split="development", rate=rate)["correct"]))

    def student(self, method: str, seed: int, rate: float | None = None):
        """Folder with stage-1 .. stage-n: the student's weights after each stage of training."""
        cfg, spec, (name, parts, code) = self.cfg, baselines.get(method), self._of_student(method, seed, rate)
        rows = {source: [self._training_row(r) for r in part] for source, part in self.training_sources(method).items()}

        def make(folder):
            import torch

            torch.set_num_threads(1)
            start = time.perf_counter()
            curriculum = pace.curriculum(rows, order=spec.order, cumulative=cfg.stages_cumulative)
            shares = pace.budgets(curriculum, cfg.train_tokens, length)
            filled = [pace.fill(stage, budget, seed_of(seed, "fill", i), length)
                      for i, (stage, budget) in enumerate(zip(curriculum, shares, strict=True), 1)]
            if not spec.restart:
                filled, curriculum = [sum(filled, [])], [sum(curriculum, [])]
            configs = [training.TrainConfig(parts["learning_rate"], cfg.batch_size, in_order=not spec.restart,
                                            seed=seed_of(seed, "stage", i) % 2**31) for i in range(1, len(filled) + 1)]
            if spec.loss == "logits":
                losses = [self._to_logits(filled[0], configs[0], folder / "stage-1")]
            else:
                losses = training.train(str(embedded.folder(cfg.student)), filled, configs, folder, self._how(),
                                        unfinished(folder))
            log = [{"stage": i, "rows": len(stage), "tokens": sum(map(length, given)),
                    "loss": [[e["step"], e["loss"]] for e in found]}
                   for i, (stage, given, found) in enumerate(zip(curriculum, filled, losses, strict=True), 1)]
            write_json({"method": method, "seed": seed, "learning_rate": parts["learning_rate"], "stages": log,
                        "seconds": time.perf_counter() - start}, folder / "training.json")

        return self._stage(name, parts, make, *code, shared=False, teacher=False)

    def _how(self) -> backends.Finetune:
        return backends.Finetune(self.cfg.backend, self.cfg.finetune, self.cfg.lora_rank, processes=self.cfg.processes)

    def _to_logits(self, rows: list[dict], config, folder) -> list[dict]:
        """Trains a student on its own samples of the rows' prompts, towards the teacher's distribution."""
        if stages.engine(self.cfg.student).vocabulary != stages.engine(self.cfg.teacher).vocabulary:
            raise HealError("logit distillation needs one vocabulary, and the student's is not the teacher's; take a "
                            "student of the same family, or leave the method out")
        cfg, (model, tokenizer) = self.cfg, embedded.load(self.cfg.student)
        prompts = [tokenizer.decode(_prompt(row)) for row in rows]
        longest = max(self._params(w, d).max_new_tokens for w in map(worlds.get, cfg.worlds) for d in cfg.difficulties
                      if w.knows(d))
        log = training.fit_to_logits(model, tokenizer, embedded.load(cfg.teacher)[0], prompts, config, longest)
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return log

    def training_log(self, method: str, seed: int, rate: float | None = None) -> dict:
        """What training left beside the weights: method, seed, learning_rate, seconds, and per stage its rows, tokens
        and losses. Kept by itself: weights may be thrown away when their student has been evaluated."""
        def make(folder):
            shutil.copy(self.student(method, seed, rate) / "training.json", folder)

        name, parts, code = self._of_student(method, seed, rate)
        parts = {"student": key_of(name, parts, code)[1]}
        return read_json(self._stage(name.replace("student", "training"), parts, make, shared=False, teacher=False)
                         / "training.json")

    def _of_student(self, method: str, seed: int, rate: float | None) -> tuple[str, dict, tuple]:
        """Name, parts and code of a student's key. Worlds and engines are in it by the tokens that they gave."""
        spec = baselines.get(method)
        if not spec.trained:
            raise HealError(f"method '{method}' is not trained; ask for its evaluation instead")
        rate = rate or self.learning_rate(method)
        if method not in self._hashes:
            self._hashes[method] = seed_of({name: [self._training_row(r)["input_ids"] for r in part]
                                            for name, part in self.training_sources(method).items()})
        parts = {**self.cfg.pick("train_tokens", "batch_size", "stages_cumulative"), "learning_rate": rate,
                 "seed": seed, "order": spec.order, "restart": spec.restart, "loss": spec.loss,
                 "data": str(self._hashes[method]), "student": embedded.weights_hash(self.cfg.student),
                 "how": vars(self._how())}
        if self._how() != backends.Finetune():  # then these train it as well
            parts["libraries"] = versions(("peft", "accelerate", "unsloth", "unsloth_zoo"))
        if spec.loss == "logits":
            parts["teacher"] = embedded.weights_hash(self.cfg.teacher)
        name = f"student {method} seed {seed}" + f" rate {rate}" * (seed == TUNING_SEED)
        code = (training, backends, pace, Pipeline.student, Pipeline._to_logits, sources.Sources._training_row)
        return name, parts, code

    def evaluation(self, method: str, seed: int, stage: int | None = None, split: str = "test",
                   rate: float | None = None):
        """Samples of a method on all benchmarks; `stage` picks the student after that stage (default: last)."""
        cfg = self.cfg
        if baselines.get(method).trained:
            self.training_log(method, seed, rate)
            model = {"student": key_of(*self._of_student(method, seed, rate))[1], "stage": stage}
        else:
            model = embedded.weights_hash(getattr(cfg, method))  # type: ignore[assignment]  # JSON of either kind
        size, levels = ("n_test", cfg.benchmarks) if split == "test" else ("n_development", cfg.difficulties)
        parts = {**cfg.pick("worlds", size, "k_eval", "temperature", "top_p", "max_new_tokens"), "seed": seed,
                 "split": split, "difficulties": levels, "model": model}

        def make(folder):
            from datasets import Dataset

            problems = self.problems(split, getattr(cfg, size), levels)
            rows = self._draw(problems, cfg.k_eval, "sampled", model=self._weights(method, seed, stage, rate),
                              seed=seed_of("evaluation", seed))
            keep = ("problem_id", "world", "difficulty", "sample", "text", "finished", "correct", "genuine",
                    "n_generated")
            save_dataset(Dataset.from_list([{k: r[k] for k in keep} for r in rows]), folder / "data.parquet")

        suffix = f" stage {stage}" * bool(stage) + f" {split} rate {rate}" * bool(rate)
        return load_dataset(self._stage(f"evaluation {method} seed {seed}{suffix}", parts, make, Pipeline.evaluation,
                                        stages.Stages._draw, teacher=False) / "data.parquet")

    def _weights(self, method, seed, stage, rate) -> str:
        """The model that is evaluated: one of the scale's own, or a student after a stage."""
        if not baselines.get(method).trained:
            return getattr(self.cfg, method)
        folder = self.student(method, seed, rate)
        path = str(folder / f"stage-{stage or len(list(folder.glob('stage-*')))}")
        embedded.weights_hash(path)  # a stage that is not there is named
        return path

    # --- many runs
    def evaluations(self, methods, seeds=None):
        """All samples of these methods and seeds as a DataFrame with columns method, seed, benchmark and the rest.

        A method whose sources hold nothing has no students: it is named, and its cells are missing in what follows."""
        import pandas as pd

        self.prepare(methods)
        for method in [m for m in methods if baselines.get(m).trained and not any(self.training_sources(m).values())]:
            print(f"{method}: no verified sample in any source, nothing to train on; its cells are missing")
            methods = [m for m in methods if m != method]
        tuned = [m for m in methods if baselines.get(m).trained and len(self.cfg.learning_rates) > 1]
        self.prefetch([("tuning", m, rate) for m in tuned for rate in self.cfg.learning_rates])
        jobs = [("evaluation", m, s) for s in seeds or self.cfg.seeds for m in methods]
        self.prefetch(jobs)
        frames = [self.evaluation(m, s).to_pandas().assign(method=m, seed=s) for _, m, s in jobs]
        table = pd.concat(frames, ignore_index=True)
        return table.assign(benchmark=table["world"] + "-" + table["difficulty"])

    def prepare(self, methods) -> None:
        """The teacher's share of the work for these methods, in parallel where it is independent."""
        trained = [m for m in methods if baselines.get(m).trained]
        specs = [baselines.get(m) for m in trained if not baselines.get(m).switches]
        self.pool()
        of = {s: ["hinted"] * bool(s.hint) + [f"repairs {s.cut}"] * bool(s.cut) for s in specs}
        read = {which for s in specs if s.filter in ("pure", "pure+", "nll") for which in of[s]}
        every = dict.fromkeys(which for s in specs for which in of[s])
        self.prefetch([("readings" if which in read else "_source", which) for which in every])
        self.prefetch([("training_sources", m) for m in trained])


def _prompt(row) -> list[int]:
    return [token for token, learned in zip(row["input_ids"], row["completion_mask"], strict=True) if not learned]
