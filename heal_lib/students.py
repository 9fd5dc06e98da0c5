"""From a method to what its students answer, as stages: training rows -> weights -> evaluation samples.

A method is data (`baselines.Method`); a scale that is asked for here has worlds of one family (`teacher.families`)."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

from heal_lib import baselines, distributed, embedded, pace, sampling, teacher, worlds
from heal_lib.backends import Finetune
from heal_lib.codehash import code_hash
from heal_lib.errors import HealError
from heal_lib.scales import Scale
from heal_lib.stage import Keyed, Stage, versions
from heal_lib.trajectory import seed_of

FILTER = ("pure_lambda", "pure_rule", "pure_pool", "pure_aggregate", "pure_uncertainty", "pure_eps",
          "per_problem_cap", "deduplicate")
READ = ("pure", "pure+", "nll", "entropy", "random", "oracle-share")  # filters that need the teacher's reading
GREEDY = 1e-9  # the top_p that leaves one token: engines take no temperature of 0
TUNING_SEED = 1000  # trains the students that choose a learning rate, and nothing that is reported


def families(cfg: Scale, method: str, seed: int = 0) -> list[Scale]:
    """The scale, once for each family of worlds that has students of this method, with the teacher draw that those of
    `seed` learn from. A control is trained where it can be told apart, if the scale has such a world [R], but in all
    worlds where it stands beside rivals."""
    every = teacher.families(replace(cfg, teacher_seed=cfg.teacher_seed + seed % cfg.teacher_draws))
    telling = [one for one in every if any(worlds.get(name).judges for name in one.worlds)]
    return telling if telling and method in baselines.CONTROLS and cfg.compared != "rivals" else every


def drawn(cfg: Scale, method: str) -> dict[str, Any]:
    """What a method asks of the teacher, a stage per world and difficulty: pool, hinted, repairs, readings, rivals."""
    spec = baselines.get(method)
    usual, cfg = cfg, replace(cfg, **dict(spec.switches))
    groups, of_source = teacher.groups(cfg), {"hint": usual, "repair": cfg}  # GEAR's hint is not that of stage II
    of = {"hint": "hinted" if spec.hint else "", "repair": f"repairs {spec.cut}" if spec.cut else ""}
    rival = {"matched": teacher.matched, "paced": teacher.student_pool}.get(str(spec.base))
    return {"pool": [teacher.pool(cfg, group) for group in groups],
            "hinted": [teacher.source(usual, group, of["hint"]) for group in groups if of["hint"]],
            "repairs": [teacher.source(cfg, group, of["repair"]) for group in groups if of["repair"]],
            "readings": {name: [teacher.readings(of_source[name], group, which) for group in groups]
                         for name, which in of.items() if which and spec.filter in READ},
            "rivals": [rival(cfg, group) for group in groups] if rival else []}


@functools.cache
def training_rows(cfg: Scale, method: str) -> Stage:
    """A method's training data, filtered, capped and tokenised for the student."""
    spec = baselines.get(method)
    if not spec.trained:
        raise HealError(f"method '{method}' is not trained; ask for its evaluation instead")
    base = spec.base if isinstance(spec.base, str) else Keyed(
        spec.base, [spec.base.__qualname__, code_hash(spec.base.__module__)])
    switched = replace(cfg, **dict(spec.switches))
    return Stage(f"rows {method} {_worlds(cfg)}", baselines.training_rows, {
        "of": [teacher.where(name) for name in cfg.worlds], "base": base, "filter": spec.filter,
        **drawn(cfg, method), "settings": switched.pick(*FILTER),
        "seed": cfg.teacher_seed, **{name: _model(getattr(cfg, name)) for name in ("teacher", "student")}})


@functools.cache
def heldout(cfg: Scale) -> Stage:
    """Rows that no student trains on: verified teacher samples of development problems of all levels, capped [R]."""
    pools = [teacher.pool(cfg, group, "development") for group in teacher.groups(cfg)]
    return Stage(f"rows held out {_worlds(cfg)}", baselines.training_rows, {
        "of": [teacher.where(name) for name in cfg.worlds], "base": "correct", "filter": None, "pool": pools,
        "hinted": [], "repairs": [], "readings": {}, "rivals": [], "settings": cfg.pick(*FILTER),
        "seed": cfg.teacher_seed, **{name: _model(getattr(cfg, name)) for name in ("teacher", "student")}})


@functools.cache
def student(cfg: Scale, method: str, seed: int, rate: float) -> Stage:
    """Folder with stage-1 .. stage-n, the student's weights after each stage of training, and training.json."""
    spec, how = baselines.get(method), vars(finetune(cfg))
    libraries = versions(("peft", "accelerate", "unsloth", "unsloth_zoo")) if finetune(cfg) != Finetune() else {}
    limits = {"like": training_rows(cfg, spec.passes)} if spec.passes else {}
    limits |= {"heldout": heldout(cfg)} if spec.early else {}
    to_logits = {"teacher": _model(cfg.teacher)} if spec.loss == "logits" else {}
    return Stage(f"student {method} {_worlds(cfg)} seed {seed} rate {rate:g}", pace.train, {
        "rows": training_rows(cfg, method), "student": _model(cfg.student), "order": spec.order,
        "restart": spec.restart and cfg.stages_restart, "loss": spec.loss, "cumulative": cfg.stages_cumulative,
        "n_tokens": cfg.train_tokens, "batch_size": cfg.batch_size, "learning_rate": rate, "seed": seed,
        "how": Keyed(how, [how, libraries, *distributed.asked(cfg.processes)]),
        **limits, **to_logits})


@functools.cache
def evaluation(cfg: Scale, method: str, seed: int, rate: float | None = None, stage: int | None = None,
               split: str = "test") -> Stage:
    """Samples of a method on all benchmarks; `stage` picks the student after that stage (default: the last). On
    development problems of the same levels, where the benchmarks are the worlds' own: a named one has no others."""
    spec = baselines.get(method)
    levels = teacher.groups(cfg) if split != "test" and cfg.benchmarks else teacher.benchmarks(cfg)
    n = cfg.n_test if split == "test" else cfg.n_development
    if spec.trained:
        rate = cfg.learning_rates[0] if rate is None else rate
        how = {**teacher.drawing(cfg, cfg.student), "model": student(cfg, method, seed, rate), "stage": stage or -1}
    else:
        how = teacher.drawing(cfg, getattr(cfg, method))
    after = f" after stage {stage}" * bool(stage) + f" {split} rate {rate}" * (split != "test")
    of = _worlds(cfg) if spec.trained else "+".join(cfg.worlds)
    return Stage(f"evaluation {method} {of} seed {seed}{after}", sampling.sampled, {
        **how, "benchmarks": [teacher.benchmark(*each) for each in levels], "split": split, "n_problems": n,
        "n": cfg.k_eval, "source": "sampled", "seed": seed_of("evaluation", seed)})


def greedy(usual: Stage) -> Stage:
    """One sample of each hard test problem of an evaluation, always the likeliest token. No seed shapes it."""
    settings = {**usual.inputs["settings"], "top_p": GREEDY}
    hard = [each for each in usual.inputs["benchmarks"] if each[1].value == "hard"]
    return Stage(usual.name.replace("evaluation", "greedy", 1), sampling.sampled, {
        **usual.inputs, "benchmarks": hard, "n": 1, "settings": settings, "seed": 0})


def finetune(cfg: Scale) -> Finetune:
    """How students are trained."""
    return Finetune(cfg.backend, cfg.finetune, cfg.lora_rank, processes=cfg.processes)


def _model(name: str) -> Keyed:
    return Keyed(name, embedded.model_hash(name))


def _worlds(cfg: Scale) -> str:
    return "+".join(cfg.worlds) + f" draw {cfg.teacher_seed}" * bool(cfg.teacher_seed)
