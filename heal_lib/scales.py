"""All numbers of a run in one place: one frozen `Scale` per size, any field of which a notebook can override.

A field stands with its range or its choices: `get` checks them before anything runs, `describe` says them."""

from __future__ import annotations

import difflib
import functools
import hashlib
import json
import os
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, get_type_hints

from heal_lib.bounds import Range, check, one_of, setting
from heal_lib.errors import HealError
from heal_lib.places import ROOT

MANY, TOKENS, SEED = 10**6, 10**12, 2**32 - 1  # sizes beyond these are slips of the keyboard; seeds that torch takes
LONGEST = 60  # characters of a results folder's suffix
# Parameters that say where the teacher is, and the variables that hold them: no field, key, result or notebook does.
SERVER = {"base_url": "OPENAI_BASE_URL", "teacher_name": "HEAL_SERVED_MODEL"}


@dataclass(frozen=True)
class Scale:
    """Sizes first, then the assumption switches of the reconstruction with their defaults."""

    name: str
    # --- models: "teacher", "student", or the folder of another model that knows the worlds' tokens
    teacher: str = setting("teacher", unit="a shipped model's name, a folder, or a model on the hub")
    student: str = setting("student", unit="a shipped model's name, a folder, or a model on the hub")
    # --- sizes
    worlds: tuple[str, ...] = setting(("equations", "paths", "countdown"), unit="worlds' names")
    difficulties: tuple[str, ...] = setting(("easy", "hard"), unit="difficulties")  # of the problems distilled from
    benchmarks: tuple[str, ...] = setting((), empty=True, unit="difficulties")  # tested on; none: all
    n_distil: int = setting(60, 1, MANY, unit="problems")  # per world and difficulty
    n_samples: int = setting(30, 1, 10_000, unit="teacher samples per problem", other="20")  # [S]
    n_hinted: int = setting(12, 1, 10_000, unit="hinted samples per problem")  # for PACE's second stage [R]
    n_failed: int = setting(10, 1, 10_000, unit="failed trajectories repaired per problem", other="3")  # [S]
    n_candidates: int = setting(20, 1, 10_000, unit="repairs per failed trajectory", other="2")  # [S]
    n_test: int = setting(60, 1, MANY, unit="test problems per benchmark")
    k_eval: int = setting(4, 2, 10_000, unit="samples per test problem")  # of one, there is no pass@2
    n_development: int = setting(30, 1, MANY, unit="problems")  # on which rates are, and PURE's reading was, chosen
    seeds: tuple[int, ...] = setting((0, 1, 2), 0, SEED)  # student seeds
    n_ablation_seeds: int = setting(10, 1, MANY, unit="seeds")  # the first of `seeds` are used for ablations
    n_boot: int = setting(10_000, 1, MANY, unit="bootstrap draws")
    compared: str = one_of("core", "rivals", "parts", "all")  # which methods, see `baselines.COMPARED`
    budgets: tuple[float, ...] = setting((), 0, 1, above=True, empty=True)  # shares of the problems (07)
    # --- the sweep over teachers of the first world (notebook 09); without values of its knobs it is left out
    sweep_hinted: tuple[float, ...] = setting((), 0, 1, empty=True)  # shares of derivations in hinted text
    sweep_unprompted: tuple[float, ...] = setting((), 0, 1, empty=True)  # and in unhinted text, of a teacher
    sweep_hazard: tuple[float, ...] = setting((), 0, 1, empty=True)  # in registers: the chance of a shortcut
    sweep_confident: tuple[float, ...] = setting((), 0, 1, empty=True)  # and how sure wrong forks are
    sweep_sizes: tuple[str, ...] = setting((), empty=True, choices=("small", "student", "teacher"))  # of students
    sweep_base_texts: int = setting(30_000, 1, 10**9, unit="texts")  # that a student base reads, of that world alone
    sweep_texts: int = setting(6_000, 1, 10**9, unit="texts")  # on which a teacher goes on from the shipped one
    # --- sampling and training
    engine: str = setting("hf", unit="the name of an engine")  # what draws samples (`heal_lib.engines.choose`)
    temperature: float = setting(1.0, 0, 10, above=True)
    top_p: float = setting(1.0, 0, 1, above=True, unit="a share of the probability")
    max_new_tokens: int = setting(0, 0, MANY, unit="tokens")  # of a sample; 0: what its world allows
    teacher_seed: int = setting(0, 0, SEED)
    teacher_draws: int = setting(1, 1, 1000, unit="draws of all the teacher's texts")  # seeds take them in turn
    train_tokens: int = setting(300_000, 1, TOKENS, unit="tokens")  # of each student, prompts included, as for all
    batch_size: int = setting(8, 1, MANY, unit="rows")
    learning_rates: tuple[float, ...] = setting((1e-2,), 0, 10, above=True)  # of each method: `Experiment.rates`
    backend: str = one_of("hf", "unsloth")  # what trains the student
    finetune: str = one_of("full", "lora", "qlora")
    lora_rank: int = setting(32, 1, 65_536)
    processes: int = setting(1, 1, 1024)  # that train one student together, under `accelerate launch`
    # --- assumption switches (docs/method.md, section 7)
    step_delimiter: str = setting("", empty=True, unit="text between steps ('': as the world has it)", other="'\" \"'")
    entropy: str = one_of("full")  # of the whole vocabulary: no engine's samples come with another
    surge: str = one_of("difference", "value")
    window: float = setting(1 / 3, 0, 1, above=True, unit="a share of the trajectory", other="0.5")
    window_unit: str = one_of("steps", "tokens")
    backoff: int = setting(1, 0, 10_000, unit="steps", other="0")
    hint: str = one_of("answer", "first_step", "wrong", "none")  # the last two are controls
    eligible_max_correct: int = setting(1, 0, 10_000, unit="correct samples, of n_samples", other="0")
    pure_eps: float = setting(0.01, 0, 1000, above=True, unit="nats", other="0.1")
    pure_lambda: float = setting(0.2, 0, MANY, other="0.4",
                                 unit="share dropped (at most 1), or with pure_rule threshold the largest anomaly kept")
    pure_rule: str = one_of("quantile", "threshold")
    pure_aggregate: str = one_of("mean", "max", "top3")
    pure_uncertainty: str = one_of("before", "after")  # the step
    pure_answers: str = one_of("likelihood", "candidates")  # U: how odd the answer is, or which of several it is [R]
    pure_pool: tuple[str, ...] = setting(("hint", "repair"), empty=True, choices=("hint", "repair"), other="hint")
    stage_hint_below: float = setting(0.5, 0, 1, unit="share correct", other="0.2")
    stages_cumulative: bool = setting(True, other="false")
    stages_restart: bool = setting(True, other="false")  # the learning-rate schedule, or one for all stages [R]
    per_problem_cap: int = setting(4, 1, 10_000, unit="training samples per problem and source", other="2")
    deduplicate: bool = setting(True, other="false")  # a text counts once for its problem, before filters and caps [R]

    @property
    def changed(self) -> dict[str, Any]:
        """The fields that differ from those of the scale of this name."""
        return {k: v for k, v in sorted(asdict(self).items()) if v != getattr(SCALES[self.name], k)}

    @property
    def results_dir(self) -> Path:
        """results/<scale>, or results/<scale>+switch=value for a run with overrides: a tweak overwrites nothing. Many
        overrides become a hash, and run.json says what it stands for."""
        if folder := os.environ.get("HEAL_RESULTS"):  # the driver's word, one folder for all notebooks of a run
            return Path(folder).absolute()
        suffix = "".join(f"+{k}={_short(v)}" for k, v in self.changed.items())
        if len(suffix) > LONGEST:
            suffix = "+" + hashlib.sha256(json.dumps(self.changed).encode()).hexdigest()[:12]
        return ROOT / "results" / f"{self.name}{suffix}"

    @property
    def ablation_seeds(self) -> tuple[int, ...]:
        """Student seeds of the ablations."""
        return self.seeds[: self.n_ablation_seeds]

    def pick(self, *names: str) -> dict[str, Any]:
        """The named fields: what a stage depends on, and so what its cache key holds."""
        return {name: getattr(self, name) for name in names}


def _short(value) -> str:
    """A value as part of a folder's name; different values never look the same."""
    text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return "".join(c if c.isalnum() or c in ",.-_" else f"%{ord(c):02x}" for c in text)


WORLDS = ("equations", "paths", "countdown", "registers")
# Each family of worlds trains students of its own, all on `train_tokens` (`teacher.families`).
# Hints and repairs come in pools of ten a problem: PURE drops floor(0.2 n) of a pool's different texts, none of four.
# What stays is capped per problem, so that it changes which rows a student is given, and seldom how many (03).
SCALES = {
    "smoke": Scale("smoke", worlds=("equations", "countdown", "registers"), n_distil=6, n_samples=10, n_hinted=4,
                   n_failed=2, n_candidates=5, n_test=6, k_eval=2, n_development=6, seeds=(0, 1),
                   n_ablation_seeds=1, train_tokens=6_000, n_boot=500,
                   learning_rates=(2e-3,)),  # a few updates at a larger rate only undo what the base knows
    "demo": Scale("demo", worlds=WORLDS, n_distil=150, n_hinted=10, n_failed=2, n_candidates=5, n_test=50,
                  seeds=(0, 1, 2, 3, 4), teacher_draws=3, n_ablation_seeds=3, train_tokens=1_200_000,
                  learning_rates=(1e-2,)),
    # Five studies, hours of two cores each, which go seed by seed. Every rival, each at a rate of its own,
    # and HEAL without each part; of easy equations there are 208 to test on.
    "full": Scale("full", worlds=WORLDS, n_distil=150, n_hinted=10, n_failed=2, n_candidates=5, n_test=200,
                  seeds=(0, 1, 2, 3, 4), teacher_draws=3, train_tokens=1_200_000, n_development=40,
                  learning_rates=(2.5e-3, 5e-3, 1e-2), compared="rivals"),
    # Every switch and control of GEAR, PURE and PACE, in the world where they can be told apart, and PACE's orders in
    # the others: at the rate that `full` chose for HEAL, so that its students, and most rivals', are those of `full`.
    "parts": Scale("parts", worlds=("registers",), n_distil=150, n_hinted=10, n_failed=2, n_candidates=5, n_test=200,
                   seeds=(0, 1, 2, 3, 4), teacher_draws=3, train_tokens=1_200_000, n_development=40,
                   learning_rates=(1e-2,), compared="parts", budgets=(1 / 3, 2 / 3)),
    "orders": Scale("orders", n_distil=150, n_hinted=10, n_failed=2, n_candidates=5, n_test=200, seeds=(0, 1, 2, 3, 4),
                    teacher_draws=3, train_tokens=1_200_000, n_development=40, learning_rates=(1e-2,),
                    compared="parts"),
    # When does HEAL help? 252 students: 12 teachers x 5 methods x 3 seeds with the shipped student, 3 sizes x 4
    # teachers x 2 methods x 3 seeds; before them 12 teachers and 3 bases. Three seeds can show next to nothing after a
    # correction over the cells: they are a first sitting, and --keep adds to them.
    "sweep": Scale("sweep", worlds=("equations",), n_distil=150, n_hinted=10, n_failed=2, n_candidates=5, n_test=200,
                   seeds=(0, 1, 2), train_tokens=350_000, learning_rates=(5e-3,),
                   sweep_hinted=(0.25, 0.5, 0.75, 0.95), sweep_unprompted=(0.003, 0.03, 0.1),
                   sweep_sizes=("small", "student", "teacher")),
    # The same where parts can be told apart, 135 students: nine teachers of `registers`, one with the shipped one's
    # habit (.08, .7), which differ in how often they take a shortcut and in how sure they are of wrong forks.
    "sweep-registers": Scale("sweep-registers", worlds=("registers",), n_distil=150, n_hinted=10, n_failed=2,
                             n_candidates=5, n_test=200, seeds=(0, 1, 2), train_tokens=600_000, learning_rates=(5e-3,),
                             sweep_hazard=(0.08, 0.2, 0.4), sweep_confident=(0.5, 0.7, 1.0)),
    # A pretrained model (`make smollm`) on some hundred problems: hours of two cores; -p n_distil 10 asks a third of
    # them. Of two seeds students say next to nothing. With more time: -p n_test 50 -p k_eval 4 -p train_tokens 60000.
    # For larger models, `plan.preset` replaces most of it.
    "llm": Scale("llm", teacher="smollm2-135m-instruct", student="smollm2-135m-instruct", worlds=("stories",),
                 difficulties=("one", "two", "three"), benchmarks=("one", "two", "three"), n_distil=34, n_hinted=10,
                 n_failed=2, n_candidates=5, n_test=20, k_eval=2, n_development=10, seeds=(0, 1, 2, 3), temperature=0.7,
                 max_new_tokens=192, train_tokens=30_000, batch_size=4, learning_rates=(5e-4,), finetune="lora"),
}
# The notebooks of scales that run some; the others run all but 08 and 10. By name any scale runs any notebook.
STUDIES = {"full": ("05_", "07_"), "parts": ("04_", "06_", "07_"), "orders": ("04_",), "sweep": ("09_",),
           "sweep-registers": ("09_",), "llm": ("08_",)}


def names() -> list[str]:
    """Names of all scales."""
    return list(SCALES)


@functools.cache
def kinds() -> dict[str, tuple[Any, Range, Any]]:
    """{field: (its type, its range, its default)} of all that can be overridden."""
    types = get_type_hints(Scale)
    return {f.name: (types[f.name], f.metadata["range"], f.default) for f in fields(Scale) if f.name != "name"}


def describe(name: str) -> str:
    """The values that a field may take, in words. HealError for an unknown field (with the nearest name)."""
    kind, within, _ = _known(name)
    return within.words(kind)


def to_try(name: str) -> str:
    """Another value of a switch than its default, as one types it after -p; "" for a field that is no switch."""
    return _known(name)[1].other


def parse(name: str, value: Any) -> Any:
    """A value of a field as its type, where its meaning is plain (0.5, "1/3", [0, 1], "0,1", numpy's numbers).

    HealError, one line that names field, range and an example, where it is not, or where it is out of range."""
    return check(name, value, *_known(name))


def _known(name: str) -> tuple:
    if name not in kinds():
        near = difflib.get_close_matches(name, kinds(), 1)
        mend = f"did you mean '{near[0]}'?" if near else "see heal_lib/scales.py"
        raise HealError(f"unknown parameter '{name}'; {mend}")
    return kinds()[name]


def get(name: str, /, **overrides: Any) -> Scale:
    """The scale of that name with some fields replaced (see `parse`); None stands for "leave it". The variable BACKEND,
    if set, chooses what trains students; HEAL_OVERRIDES holds what the driver was given with -p, as JSON, for notebooks
    that do not declare it. The parameters of SERVER set their variables.

    Raises HealError for an unknown scale or field (with the nearest name), or a value that a field cannot take."""
    if name not in SCALES:
        raise HealError(f"unknown scale '{name}'; choose one of {', '.join(SCALES)}")
    server = {key: overrides.pop(key, None) for key in SERVER}
    given = {key: value for key, value in overrides.items() if _known(key) and value is not None}
    usual = {"backend": os.environ["BACKEND"]} if os.environ.get("BACKEND") else {}
    usual |= json.loads(os.environ.get("HEAL_OVERRIDES") or "{}")
    scale = replace(SCALES[name], **{key: parse(key, value) for key, value in {**usual, **given}.items()})
    _place(server, scale)
    _check(scale)
    return scale


def _place(server: dict[str, Any], scale: Scale) -> None:
    """Puts the parameters of SERVER into their variables, unless one name would stand for several teachers. An address
    may hold a password: errors show none."""
    given = {key: value for key, value in server.items() if value is not None}
    for key, value in given.items():
        if scale.engine != "openai":
            raise HealError(f"{key} is for a server, and engine is '{scale.engine}'; give engine openai too, or leave "
                            "it out")
        if not isinstance(value, str) or not value.strip():
            raise HealError(f"{key} is no text; give {'http://localhost:8000/v1' if key == 'base_url' else 'a name'}")
    name = given.get("teacher_name") or os.environ.get(SERVER["teacher_name"])
    if scale.engine == "openai" and name:
        from heal_lib import teacher

        asked = list(dict.fromkeys(one.teacher for one in teacher.families(scale)))
        if len(asked) > 1:
            raise HealError(f"teacher_name is '{name}', and {scale.name} has {len(asked)} teachers ({', '.join(asked)})"
                            f"; leave it and {SERVER['teacher_name']} out: each is asked for by its own name")
    os.environ.update({SERVER[key]: value for key, value in given.items()})


def _check(scale: Scale) -> None:
    """What fields ask of each other and of the machine, named before anything runs."""
    if scale.eligible_max_correct > scale.n_samples:
        raise HealError(f"eligible_max_correct is {scale.eligible_max_correct}; give at most n_samples, which is "
                        f"{scale.n_samples}")
    if scale.pure_rule == "quantile" and scale.pure_lambda > 1:
        raise HealError(f"pure_lambda is {scale.pure_lambda}; give a share dropped, 0 to 1, such as 0.2, or set "
                        "pure_rule to threshold")
    if scale.hint == "first_step" and "math" in scale.worlds:
        raise HealError(f"hint is '{scale.hint}'; the world math has no derivations to take it from; use answer")
    from heal_lib import backends, worlds

    if scale.engine != "hf":  # what is always there needs no torch to be looked for
        from heal_lib.engines import choose

        choose.check(scale.engine)
    how = backends.Finetune(scale.backend, scale.finetune, processes=scale.processes)
    if how not in (backends.Finetune(), backends.Finetune(method="lora")):  # the others may ask for a GPU
        backends.check(how)
    if scale.batch_size % scale.processes:
        raise HealError(f"batch_size is {scale.batch_size}; {scale.processes} processes cannot share it evenly; give "
                        f"{scale.processes} or a multiple of it")
    here = [worlds.get(name) for name in scale.worlds]
    known = {difficulty for world in here for difficulty in world.difficulties}
    for difficulty in (*scale.difficulties, *scale.benchmarks):
        if not any(world.knows(difficulty) for world in here):
            raise HealError(f"no world here has the difficulty '{difficulty}'; choose from {', '.join(sorted(known))}")
