"""What fits on a card, and the parameters of scale `llm` for it: `python -m heal_lib.plan --gpu 24`.

    sampling  = weights + cache of the rows decoded together + one row of logits each
    training  = weights + adapters with gradient and Adam's two moments + saved activations + logits

Memory and work are computed from the models' configurations (`shapes`), not typed. The hours are of all that notebook
08 does (`tally`), and rest on assumptions that are printed: how long texts are, how many problems get hints and
repairs, the card's peak and the share of it that is reached."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from heal_lib import console, scales, tally
from heal_lib.errors import HealError
from heal_lib.shapes import MODELS, cache_per_token, lora_parameters, parameters, shape, weights

GIB = 2**30


@dataclass(frozen=True)
class Preset:
    """A teacher and a student, and how much is drawn. `gpu`: GiB of the card it is meant for."""

    gpu: float
    teacher: str
    teacher_bits: int
    student: str
    student_bits: int = 16
    n_problems: int = 900
    n_samples: int = 30
    length: int = 8192  # tokens of a trajectory, at most
    mean_length: int = 4000
    rows: int = 8  # decoded together
    batch: int = 8  # trained on between two updates
    micro_batch: int = 1
    lora_rank: int = 32
    epochs: int = 5
    # --- assumptions
    hinted_share: float = 0.5  # of the problems: solved by less than half of the samples, so given hints
    repaired_share: float = 0.3  # of the problems: solved by one sample at most, so repaired
    peak_tflops: float = 100.0  # of the card, 16 bits, dense
    sampling_share: float = 0.02  # of the peak, while decoding `rows` rows
    training_share: float = 0.3  # of the peak, reading included


PRESETS = {
    16: Preset(16, "Qwen3-4B", 4, "Qwen3-0.6B", length=4096, mean_length=2500, rows=4, peak_tflops=65),
    24: Preset(24, "Qwen3-8B", 4, "Qwen3-1.7B", peak_tflops=125),
    80: Preset(80, "Qwen3-32B", 4, "Qwen3-4B", length=16_384, mean_length=6000, rows=8, peak_tflops=312),
    141: Preset(141, "Qwen3-32B", 16, "Qwen3-4B", length=16_384, mean_length=6000, rows=16, peak_tflops=989,
                training_share=0.15),  # a little under what an H100 reached of this peak (Unsloth, 1.7 B, 8k: .19)
}


# A card has less than its name says: a T4 of "16 GB" 14.6 to 14.8 GiB, an L4 of "24 GB" 22, an H100 of "80 GB" 79.2.
NAMED = 0.9


def chosen(gib: float, **changes: Any) -> Preset:
    """The largest preset for a card of so many GiB, or of nine tenths of what its name says, with some of its fields
    replaced. Raises HealError below the smallest."""
    sizes = [size for size in PRESETS if NAMED * size <= gib]
    if not sizes:
        raise HealError(f"no preset for {gib:g} GiB; the smallest is for {min(PRESETS)}")
    return replace(PRESETS[max(sizes)], gpu=gib, **changes)


def preset(gib: float) -> dict[str, Any]:
    """Parameters of scale `llm` for a card: `scales.get("llm", **plan.preset(24))`. How many rows are decoded or
    trained on together is no parameter: engines and trainer halve it where memory is full, which changes no result."""
    return parameters_of(chosen(gib))


def parameters_of(p: Preset) -> dict[str, Any]:
    """A preset as fields of `scales.Scale`."""
    return {"teacher": _on_hub(p.teacher, p.teacher_bits), "student": _on_hub(p.student, 16), "n_distil": p.n_problems,
            "n_samples": p.n_samples, "max_new_tokens": p.length, "batch_size": p.batch, "backend": "unsloth", **TASK,
            "finetune": "qlora" if p.student_bits == 4 else "lora", "lora_rank": p.lora_rank,
            "train_tokens": tokens_trained(p)}


def _on_hub(name: str, bits: int) -> str:
    """Where a model of the family lies on the hub; other models are folders already."""
    if name not in MODELS:
        return name
    return f"unsloth/{name}-bnb-4bit" if bits == 4 else f"Qwen/{name}"


def tokens_trained(p: Preset) -> int:
    """Tokens that each student of a preset learns from: four rows a problem, over and over."""
    return p.epochs * p.n_problems * 4 * p.mean_length


# What a card of a preset is for: competition mathematics, at the scale's usual sizes.
TASK = {"worlds": ("math",), "difficulties": ("aime",), "benchmarks": ("aime24", "aime25", "math500"), "n_hinted": 10,
        "n_failed": 2, "n_candidates": 5, "n_test": 500, "k_eval": 4, "seeds": (0, 1, 2), "learning_rates": (1e-4,),
        "temperature": 1.0}
# Problems that its sets give at most; of `aime` the half that is distilled from.
HELD = {"aime": 450, "aime24": 30, "aime25": 30, "math500": 500}
# Operations per weight and token, and the share of the peak at which they are done.
WORK = {"draws": (2, "sampling_share"), "reads": (2, "training_share"), "trains": (6, "training_share")}


def here() -> dict[str, Any]:
    """`preset` of the GPU that torch sees; {} where there is none, it is too small, or the driver runs the notebook,
    which has its own word (`--gpu-preset`)."""
    import torch

    if os.environ.get("HEAL_EVENTS") or not torch.cuda.is_available():
        return {}
    gib = torch.cuda.get_device_properties(0).total_memory / GIB
    return preset(gib) if gib >= NAMED * min(PRESETS) else {}


def overrides(scale: str, preset: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """What notebook 08 changes of a scale: the fields of the card's `preset`, which is for scale `llm` alone, and over
    them those that are `given`; None stands for "not given"."""
    usual = preset if scale == "llm" else {}
    return {**usual, **{name: value for name, value in given.items() if value is not None}}


# The paper's setting [S] (32 B teacher, 30 samples of every problem of an AIME pool) on one card, one node, a cluster.
SETTINGS = {"1 x 80 GB": 1, "8 x 80 GB": 8, "64 x 80 GB under Ray": 64}


def sampling_memory(p: Preset) -> float:
    """Bytes at the peak of sampling: logits are in fp32, once raw and once as probabilities."""
    _, words, *_ = shape(p.teacher)
    return weights(p.teacher, p.teacher_bits) + p.rows * (p.length * cache_per_token(p.teacher) + 3 * 4 * words)


def training_memory(p: Preset) -> float:
    """Bytes at the peak of training with LoRA by Unsloth, layers checkpointed, the loss in slices of 1,024 tokens.

    Adapters: fp32 weight, gradient and two moments. Kept: each layer's input, one layer's inner activations in full.
    More than was measured (results/gpu/training.csv). Not for backend hf, which keeps logits whole: with two rows of 8k
    tokens 35.7 GiB at 0.6 B and 39.9 at 1.7 B, where this says 5.2 and 9.2."""
    (layers, words, h, m, q, _), tokens = shape(p.student), p.micro_batch * p.length
    inner = 4 * h + 3 * m + 3 * q
    return (weights(p.student, p.student_bits) + 16 * lora_parameters(p.student, p.lora_rank)
            + 2 * tokens * (layers * h + 2 * inner) + 3 * 4 * 1024 * words)


def hours(p: Preset, who: str, does: str, tokens: float) -> float:
    """Hours that a model of a preset (`who`: teacher, student) takes for so many tokens; does: a key of WORK."""
    operations, share = WORK[does]
    work = operations * parameters(getattr(p, who))[0] * tokens
    return round(work / (getattr(p, share) * p.peak_tflops * 1e12) / 3600, 1)


def parts(p: Preset) -> list[dict[str, Any]]:
    """What notebook 08 does with a preset, one row a part: the fields of `tally.Part`, tokens and hours. Every text is
    taken to have the mean length, a repair too; what is read is read twice, as text and for its answers."""
    cfg = replace(scales.SCALES["llm"], **parameters_of(p))
    problems, tested = (sum(min(n, HELD[name]) for name in names) for n, names in (
        (cfg.n_distil, cfg.difficulties), (cfg.n_test, cfg.benchmarks)))
    each = {"draws": p.mean_length, "reads": 2 * p.mean_length, "trains": tokens_trained(p)}
    return [{**part._asdict(), "tokens": part.n * each[part.does],
             "hours": hours(p, part.who, part.does, part.n * each[part.does])}
            for part in tally.parts(cfg, problems, tested, p.hinted_share, p.repaired_share)]


def plan(p: Preset) -> dict[str, Any]:
    """Memory in GiB, tokens and hours of a preset, and its `parts`; `fits` says whether both phases leave a tenth of
    the card free. Sampling is all that is drawn and read, training is of all students."""
    sampling, training, done = sampling_memory(p) / GIB, training_memory(p) / GIB, parts(p)

    def total(what, *verbs):
        return sum(row[what] for row in done if row["does"] in verbs)

    return {**asdict(p), "sampling_gib": round(sampling, 1), "training_gib": round(training, 1),
            "tokens_drawn": total("tokens", "draws"), "tokens_trained": total("tokens", "trains"),
            "sampling_hours": round(total("hours", "draws", "reads"), 1),
            "training_hours": round(total("hours", "trains"), 1), "parts": done,
            "fits": max(sampling, training) <= 0.9 * p.gpu}


def on_paper(more: float = 1.0, p: Preset = PRESETS[80]) -> list[dict[str, Any]]:
    """Tokens and hours of the paper's setting by `SETTINGS`, for HEAL alone and one student of it: draws are
    independent, so every card draws its part with a teacher of its own; a batch trains on as many cards as it has rows.
    `more`: HEAL's teacher tokens over the pool's, as measured elsewhere."""
    drawn, trained = p.n_problems * p.n_samples * p.mean_length, tokens_trained(p)
    sampling, training = hours(p, "teacher", "draws", drawn), hours(p, "student", "trains", trained)
    return [{"setting": name, "teacher": f"{p.teacher}, {p.teacher_bits} bits", "student": p.student,
             "tokens_drawn": round(more * drawn), "sampling_hours": more * sampling / cards,
             "tokens_trained": trained, "training_hours": training / min(cards, p.batch),
             "assumed_peak_tflops": p.peak_tflops, "assumed_share_sampling": p.sampling_share,
             "assumed_share_training": p.training_share} for name, cards in SETTINGS.items()]


def what_would_fit(p: Preset) -> list[str]:
    """Changes, one at a time and the gentlest first, that bring a preset onto its card."""
    models = list(MODELS)
    smaller = {name: models[models.index(name) - 1] for name in models[1:]}
    tries: list[tuple[str, Any]] = [
        ("rows", p.rows // 2), ("rows", 1), ("length", p.length // 2), ("length", p.length // 4), ("teacher_bits", 4),
        ("student_bits", 4), ("teacher", smaller.get(p.teacher)), ("student", smaller.get(p.student))]
    return [f"{key}={value}" for key, value in tries if value and plan(replace(p, **{key: value}))["fits"]]


def main(argv: list[str] | None = None) -> int:
    """Prints a plan, as words or as JSON; exit code 2 for what cannot fit."""
    parser = console.Parser("plan", __doc__.splitlines()[0])
    parser.add_argument("--gpu", type=int, required=True, metavar="GIB", help="memory of the card")
    for name in ("teacher", "student"):
        parser.add_argument(f"--{name}", help="model, instead of the preset's")
    for name in ("teacher-bits", "rows", "length", "n-problems"):
        parser.add_argument(f"--{name}", type=int, help="instead of the preset's")
    return console.run(parser, command, argv)


def command(args: argparse.Namespace) -> tuple[dict[str, Any], int]:
    """The plan that a command line asks for, told in words as well, and the exit code."""
    given = {key: value for key, value in vars(args).items() if key not in ("json", "gpu") and value is not None}
    p = chosen(args.gpu, **given)
    found, fields = plan(p), parameters_of(p)
    print(_words(found, fields))
    if not found["fits"]:
        would = what_would_fit(p)
        print(f"heal: does not fit on {p.gpu} GiB; would: {', '.join(would) or 'no single change'}", file=sys.stderr)
    return {**found, "parameters": fields}, 0 if found["fits"] else 2


def _words(f: dict, parameters: dict) -> str:
    return "\n".join([
        f"{f['teacher']} ({f['teacher_bits']} bits) teaches {f['student']} ({f['student_bits']} bits) "
        f"on {f['gpu']} GiB",
        *(f"{phase:10} {f[f'{phase}_gib']:6.1f} GiB  about {f[f'{phase}_hours']:.0f} h"
          for phase in ("sampling", "training")),
        "what 08 does:",
        *(f"  {row['name']:10} {row['who']} {row['does']:6} {row['tokens'] / 1e6:6.0f} M tokens  about "
          f"{row['hours']:4.0f} h  {row['product']}" for row in f["parts"]),
        f"assumed: of {f['n_problems']} problems asked for, the set to distil from has {HELD['aime']} at most; "
        f"{f['hinted_share']:.0%} of them are solved by less than half of the samples, {f['repaired_share']:.0%} by "
        f"one at most; {f['mean_length']} tokens a text, repairs too; {f['peak_tflops']:g} TFLOP/s peak, "
        f"{f['sampling_share']:.0%} of it when sampling {f['rows']} rows of up to {f['length']} tokens, "
        f"{f['training_share']:.0%} in training and reading; none of these hours was measured, and loading models, "
        "checking answers and figures are not counted; training's memory is Unsloth's, backend hf takes more",
        "parameters of scale llm:", *(f"  {key} = {value}" for key, value in parameters.items())])


if __name__ == "__main__":
    sys.exit(main())
