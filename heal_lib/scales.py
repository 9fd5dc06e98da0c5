"""All numbers of a run in one place: one frozen `Scale` per size, any field of which a notebook can override."""

from __future__ import annotations

import difflib
import os
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from heal_lib.errors import HealError

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Scale:
    """Sizes first, then the assumption switches of the reconstruction with their defaults."""

    name: str
    # --- models: "teacher", "student", or the folder of another model that knows the worlds' tokens
    teacher: str = "teacher"
    student: str = "student"
    # --- sizes
    worlds: tuple[str, ...] = ("equations", "paths", "countdown")
    difficulties: tuple[str, ...] = ("easy", "hard")  # of the problems distilled from
    benchmarks: tuple[str, ...] = ()  # difficulties tested on; none named: all of the worlds
    n_distil: int = 60  # problems per world and difficulty
    n_samples: int = 30  # teacher samples per problem [S]
    n_hinted: int = 12  # hinted samples per problem for PACE's second stage [R]
    n_failed: int = 10  # failed trajectories repaired per problem [S]
    n_candidates: int = 20  # repairs drawn per failed trajectory [S]
    n_test: int = 60  # test problems per benchmark
    k_eval: int = 4  # samples per test problem
    n_development: int = 30  # development problems on which PURE's reading was chosen
    seeds: tuple[int, ...] = (0, 1, 2)  # student seeds
    n_ablation_seeds: int = 10  # the first of `seeds` are used for ablations, at most so many
    n_boot: int = 2000
    all_methods: bool = False  # every rival and ablation, rather than `baselines.CORE`
    # --- the sweep over teachers (notebook 09); without values it is left out
    sweep_hinted: tuple[float, ...] = ()  # shares of derivations in the teacher's hinted text
    sweep_unprompted: tuple[float, ...] = ()  # shares of derivations in its unhinted text
    sweep_sizes: tuple[str, ...] = ()  # of students, by `embedded.models.SIZES`
    sweep_world: str = "equations"
    sweep_base_texts: int = 30_000  # that a student base of the sweep reads, of that world alone
    sweep_texts: int = 6_000  # on which a teacher of the sweep goes on from the shipped one
    sweep_tokens: int = 350_000  # a student's training tokens
    sweep_seeds: tuple[int, ...] = (0, 1, 2)
    # --- sampling and training
    engine: str = "hf"  # or "ray", "vllm", "openai": what draws samples (`heal_lib.engines.choose`)
    temperature: float = 1.0
    top_p: float = 1.0
    max_new_tokens: int = 0  # of a sample; 0: what its world allows
    teacher_seed: int = 0
    train_tokens: int = 300_000  # per method and seed, prompts included, the same for all
    batch_size: int = 8
    learning_rates: tuple[float, ...] = (1e-2,)  # the grid; of several, each method's is chosen on development problems
    backend: str = "hf"  # what trains the student; or "unsloth", on a CUDA GPU
    finetune: str = "full"  # or "lora", "qlora"
    lora_rank: int = 32
    processes: int = 1  # that train one student together, under `accelerate launch`
    # --- assumption switches (METHOD section 7)
    step_delimiter: str = "\n\n"
    entropy: str = "full"
    surge: str = "difference"  # or "value"
    window: float = 1 / 3
    window_unit: str = "steps"  # or "tokens"
    backoff: int = 1  # steps
    hint: str = "answer"  # or "first_step"
    eligible_max_correct: int = 1  # of n_samples
    pure_eps: float = 0.01
    pure_lambda: float = 0.2
    pure_rule: str = "quantile"  # or "threshold"
    pure_aggregate: str = "mean"  # or "max", "top3"
    pure_uncertainty: str = "before"  # or "after"
    pure_pool: tuple[str, ...] = ("hint", "repair")
    stage_hint_below: float = 0.5  # share correct
    stages_cumulative: bool = True
    per_problem_cap: int = 4  # training samples per problem and source
    deduplicate: bool = True  # a text counts once for its problem, before filters and caps [R]

    @property
    def results_dir(self) -> Path:
        """results/<scale>, or results/<scale>+switch=value for a run with overrides: a tweak overwrites nothing."""
        if folder := os.environ.get("HEAL_RESULTS"):  # the driver's word, one folder for all notebooks of a run
            return Path(folder)
        changed = {k: v for k, v in asdict(self).items() if v != getattr(SCALES[self.name], k)}
        suffix = "".join(f"+{k}={_short(v)}" for k, v in sorted(changed.items()))
        return ROOT / "results" / f"{self.name}{suffix}"

    @property
    def ablation_seeds(self) -> tuple[int, ...]:
        """Student seeds of the ablations."""
        return self.seeds[: self.n_ablation_seeds]

    def pick(self, *names: str) -> dict:
        """The named fields: what a stage depends on, and so what its cache key holds."""
        return {name: getattr(self, name) for name in names}


def _short(value) -> str:
    """A value as part of a folder's name; different values never look the same."""
    text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return "".join(c if c.isalnum() or c in ",.-_" else f"%{ord(c):02x}" for c in text)


# Hints and repairs come in pools of ten a problem: PURE drops floor(0.2 n) of a pool, which is none of four.
SCALES = {
    "smoke": Scale("smoke", n_distil=12, n_samples=10, n_hinted=4, n_failed=3, n_candidates=4, n_test=12, k_eval=2,
                   n_development=8, seeds=(0, 1), train_tokens=30_000, n_boot=500),
    "demo": Scale("demo", n_distil=150, n_hinted=10, n_failed=2, n_candidates=5, n_test=50, train_tokens=1_000_000),
    "full": Scale("full", n_distil=150, n_hinted=10, n_failed=2, n_candidates=5, n_test=100, train_tokens=1_000_000,
                  n_development=40, seeds=tuple(range(10)), n_ablation_seeds=5, learning_rates=(3e-3, 1e-2, 3e-2),
                  n_boot=10_000, all_methods=True, sweep_hinted=(0.25, 0.5, 0.75, 0.95),
                  sweep_unprompted=(0.003, 0.03, 0.1), sweep_sizes=("small", "student", "teacher")),
    # Pretrained models on one GPU of 16 GiB or more; not run yet.
    "llm": Scale("llm", teacher="unsloth/Qwen3-4B-bnb-4bit", student="Qwen/Qwen3-0.6B", worlds=("math",),
                 difficulties=("aime",), benchmarks=("aime24", "aime25", "math500"), n_distil=900, n_hinted=10,
                 n_test=500, seeds=(0, 1, 2), train_tokens=20_000_000, learning_rates=(1e-4,), max_new_tokens=4096,
                 backend="unsloth", finetune="lora"),
}


def names() -> list[str]:
    """Names of all scales."""
    return list(SCALES)


def get(name: str, /, **overrides) -> Scale:
    """The scale of that name with some fields replaced; a list stands for a tuple, None for "leave it". The variable
    BACKEND, if set, chooses what trains students.

    Raises HealError for an unknown scale or field (with the nearest name), or a value of another kind."""
    if name not in SCALES:
        raise HealError(f"unknown scale '{name}'; choose one of {', '.join(SCALES)}")
    overrides = {"backend": os.environ.get("BACKEND") or None, **overrides}
    scale, known = SCALES[name], {f.name for f in fields(Scale)} - {"name"}
    changes = {}
    for key, value in overrides.items():
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            mend = f"did you mean '{near[0]}'?" if near else "see heal_lib/scales.py"
            raise HealError(f"unknown parameter '{key}'; {mend}")
        if value is None:
            continue
        default = getattr(scale, key)
        value = tuple(value) if isinstance(value, list) else value
        if isinstance(default, float) and type(value) is int:
            value = float(value)
        if type(value) is not type(default):
            raise HealError(f"parameter '{key}' is {value!r}; give a {type(default).__name__}, such as {default!r}")
        changes[key] = value
    scale = replace(scale, **changes)
    _check(scale)
    return scale


def _check(scale: Scale) -> None:
    """Sizes that cannot work, named before anything runs."""
    for key in ("n_distil", "n_samples", "n_failed", "n_candidates", "n_hinted", "n_test", "k_eval", "batch_size",
                "train_tokens", "per_problem_cap", "lora_rank", "n_development", "n_boot", "n_ablation_seeds",
                "processes"):
        if getattr(scale, key) < 1:
            raise HealError(f"{key} is {getattr(scale, key)}; it must be at least 1")
    for key, ceiling in (("temperature", float("inf")), ("top_p", 1.0)):
        if not 0 < getattr(scale, key) <= ceiling:
            raise HealError(f"{key} is {getattr(scale, key)}; it must be above 0" + " and at most 1" * (ceiling == 1))
    if not 0 < scale.window <= 1:
        raise HealError(f"window is {scale.window}; it is a share of the trajectory, above 0 and at most 1")
    if not scale.learning_rates or not all(rate > 0 for rate in scale.learning_rates):
        raise HealError(f"learning_rates are {scale.learning_rates}; give at least one, each above 0, such as [0.001]")
    if not scale.seeds or len(set(scale.seeds)) < len(scale.seeds):
        raise HealError(f"seeds are {scale.seeds}; give at least one, each once")
    if scale.entropy != "full":
        raise HealError(f"entropy='{scale.entropy}' is not available with the hf engine, which gives 'full'")
    from heal_lib import backends, worlds
    from heal_lib.engines import choose

    choose.check(scale.engine)
    how = backends.Finetune(scale.backend, scale.finetune, processes=scale.processes)
    if how not in (backends.Finetune(), backends.Finetune(method="lora")):  # the others may ask for a GPU
        backends.check(how)
    here = [worlds.get(name) for name in scale.worlds]
    if not here:
        raise HealError("worlds are empty; give at least one, such as 'equations'")
    known = {difficulty for world in here for difficulty in world.difficulties}
    for difficulty in (*scale.difficulties, *scale.benchmarks):
        if not any(world.knows(difficulty) for world in here):
            raise HealError(f"no world here has the difficulty '{difficulty}'; choose from {', '.join(sorted(known))}")
    if not scale.difficulties:
        raise HealError("difficulties are empty; give at least one, such as 'hard'")
