"""What a teacher writes and what becomes of it, as stages: nothing is drawn here, only said what there is to be had.

    pool -> hinted, repairs(rule) -> readings       for each world and difficulty of a scale

A scale that is asked for here has worlds of one family, and so one teacher and one student (`families`)."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from heal_lib import embedded, gear, pure, sampling, worlds
from heal_lib.codehash import code_hash
from heal_lib.engines import Engine, choose, openai
from heal_lib.errors import HealError
from heal_lib.files import file_hash, hash_of
from heal_lib.scales import Scale
from heal_lib.stage import Keyed, Stage, versions

if TYPE_CHECKING:
    from heal_lib.trajectory import Problem

SWITCHES = ("surge", "window", "window_unit", "backoff", "hint", "step_delimiter")  # of GEAR
SPLITS = {"distil": "n_distil", "development": "n_development"}


def families(cfg: Scale) -> list[Scale]:
    """The scale, once for each family of worlds that has models of its own: every student of each gets `train_tokens`
    [R]."""
    found: dict[str, list[str]] = {}
    for name in cfg.worlds:
        found.setdefault(getattr(worlds.get(name), "family", ""), []).append(name)
    def model(family: str, of: str) -> str:
        named = getattr(cfg, of)
        return f"{family}-{of}" if family and named == of else named

    return [replace(cfg, worlds=tuple(names), teacher=model(family, "teacher"), student=model(family, "student"))
            for family, names in found.items()]


def model_of(cfg: Scale, world: str) -> str:
    """The teacher that writes a world's texts."""
    return families(replace(cfg, worlds=(world,)))[0].teacher


def reader(cfg: Scale, world: str) -> Engine:
    """The engine that reads a world's texts: its teacher's, here, whatever engine drew them."""
    return choose.engine(model_of(cfg, world))


def groups(cfg: Scale, split: str = "distil") -> list[tuple[str, str]]:
    """(world, difficulty) of the problems of a split; of development the hardest, which is what is judged by it."""
    levels = cfg.difficulties if split == "distil" else cfg.difficulties[-1:]
    return [(name, level) for name in cfg.worlds for level in levels if worlds.get(name).knows(level)]


def benchmarks(cfg: Scale) -> list[tuple[str, str]]:
    """(world, difficulty) of the problems that students are tested on."""
    return [(name, level) for name in cfg.worlds for level in cfg.benchmarks or worlds.get(name).levels("test")
            if worlds.get(name).knows(level)]


def problems(cfg: Scale, split: str = "distil") -> list[Problem]:
    """The problems that the teacher is given. Raises HealError where a world and difficulty have none, or where a named
    benchmark holds one of them."""
    found: list[Problem] = []
    for name, level in groups(cfg, split):
        some = worlds.get(name).problems(split, getattr(cfg, SPLITS[split]), 0, level)
        if not some:
            raise HealError(f"world '{name}': no problem of '{level}' falls to the split '{split}'; give more rows (20 "
                            "will do), or another difficulty")
        found += some
    if split == "distil" and cfg.benchmarks:
        from heal_lib.worlds.mathematics import normalised

        tested = {normalised(p.question) for name, level in benchmarks(cfg)
                  for p in worlds.get(name).problems("test", cfg.n_test, 0, level)}
        if both := [p for p in found if normalised(p.question) in tested]:
            raise HealError(f"{len(both)} problems to distil from are in {', '.join(cfg.benchmarks)} too, such as "
                            f"{both[0].question[:60]!r}; take them out of one of the two")
    return found


@functools.cache
def pool(cfg: Scale, group: tuple[str, str], split: str = "distil") -> Stage:
    """N unhinted samples per problem."""
    return Stage(f"pool {_of(cfg, group, split)}", sampling.sampled, {
        "benchmarks": [benchmark(*group)], "split": split, "n_problems": getattr(cfg, SPLITS[split]),
        "n": cfg.n_samples, "source": "sampled", **drawing(cfg)})


@functools.cache
def hinted(cfg: Scale, group: tuple[str, str], split: str = "distil") -> Stage:
    """Samples drawn with the hint from the start, for problems with share correct below `stage_hint_below`."""
    return Stage(f"hinted {_of(cfg, group, split)}", sampling.hinted, {
        "pool": pool(cfg, group, split), "below": cfg.stage_hint_below, "n": cfg.n_hinted, "hint": cfg.hint,
        "world": where(group[0]), **drawing(cfg)})


@functools.cache
def repairs(cfg: Scale, group: tuple[str, str], rule: str = "entropy", split: str = "distil") -> Stage:
    """GEAR on the eligible problems: all candidates, accepted (`correct`) or not."""
    if rule not in gear.CUT_RULES:
        raise HealError(f"cut rule {rule!r}: use one of {', '.join(gear.CUT_RULES)}")
    switches = [name for name in SWITCHES if name not in gear.UNREAD.get(rule, ())]
    return Stage(f"repairs {rule} {_of(cfg, group, split)}", gear.repairs, {
        "pool": pool(cfg, group, split), "rule": rule, "n_failed": cfg.n_failed, "n_candidates": cfg.n_candidates,
        "max_correct": cfg.eligible_max_correct, "world": where(group[0]), **drawing(cfg), **cfg.pick(*switches)})


@functools.cache
def readings(cfg: Scale, group: tuple[str, str], which: str, split: str = "distil") -> Stage:
    """PURE's reading of the accepted rows of "pool", "hinted" or "repairs <rule>"."""
    return Stage(f"readings {which} {_of(cfg, group, split)}", pure.readings, {
        "rows": source(cfg, group, which, split), "step_delimiter": cfg.step_delimiter, "world": where(group[0]),
        "answers": cfg.pure_answers if worlds.get(group[0]).lists_answers else "likelihood",
        **{name: drawing(cfg)[name] for name in ("model", "engine")}})


@functools.cache
def matched(cfg: Scale, group: tuple[str, str]) -> Stage:
    """More unhinted samples of every problem: as many tokens as HEAL draws for its hints and repairs."""
    return Stage(f"matched {_of(cfg, group)}", sampling.matched, {
        "pool": pool(cfg, group), "hinted": hinted(cfg, group), "repairs": repairs(cfg, group),
        "world": where(group[0]), **drawing(cfg)})


@functools.cache
def student_pool(cfg: Scale, group: tuple[str, str], n: int = 8) -> Stage:
    """Samples of the untrained student, for what it can do already."""
    return Stage(f"student pool {_of(cfg, group)}", sampling.sampled, {
        "benchmarks": [benchmark(*group)], "split": "distil", "n_problems": cfg.n_distil, "n": n, "source": "student",
        **drawing(cfg, cfg.student)})


def source(cfg: Scale, group: tuple[str, str], which: str, split: str = "distil") -> Stage:
    """The stage of "pool", "matched", "hinted", "repairs <rule>" or "readings <one of the last two>"."""
    kind, _, rest = which.partition(" ")
    kinds = {"pool": lambda: pool(cfg, group, split), "matched": lambda: matched(cfg, group),
             "hinted": lambda: hinted(cfg, group, split),
             "repairs": lambda: repairs(cfg, group, rest or "entropy", split),
             "readings": lambda: readings(cfg, group, rest, split)}
    if kind not in kinds:
        raise HealError(f"unknown source '{which}'; choose one of {', '.join(kinds)}")
    return kinds[kind]()


# --- what keys hold
def drawing(cfg: Scale, model: str | None = None) -> dict[str, Any]:
    """How a model of the scale draws; by default its teacher. A server knows the teacher alone."""
    model = model or cfg.teacher
    kind = "hf" if cfg.engine == "openai" and model != cfg.teacher else cfg.engine
    by = hash_of([choose.key(kind), openai.served(model)]) if kind == "openai" else choose.key(kind)
    return {"model": Keyed(model, embedded.model_hash(model)), "engine": Keyed(kind, by),
            "settings": cfg.pick("temperature", "top_p", "max_new_tokens"), "seed": cfg.teacher_seed}


def where(world: str) -> Keyed:
    """A world that a function asks for, by its code and the packages that its problems come from."""
    it = worlds.get(world)
    others = [versions(it.packages)] if it.packages else []
    return Keyed(world, [world, code_hash(type(it).__module__), *others])


def benchmark(world: str, level: str) -> list[Any]:
    """A world and difficulty, by the code of the one and the data that the other's problems come from."""
    data = [file_hash(path) for path in worlds.get(world).data_files(level)]
    return [where(world), Keyed(level, [level, data])]


def _of(cfg: Scale, group: tuple[str, str], split: str = "distil") -> str:
    other = f" draw {cfg.teacher_seed}" * bool(cfg.teacher_seed)
    return f"{group[0]}-{group[1]}" + f" {split}" * (split != "distil") + other
