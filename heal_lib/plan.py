"""What fits on a card, and the parameters of scale `llm` for it: `python -m heal_lib.plan --gpu 24`.

    sampling  = weights + cache of the rows decoded together + one row of logits each
    training  = weights + adapters with gradient and Adam's two moments + saved activations + logits

Memory and work are computed from the models' configurations (`transformers` builds them without memory), not typed. The
hours rest on two assumptions that are printed: the card's peak and the share of it that is reached."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from heal_lib import console
from heal_lib.errors import HealError

GIB = 2**30
# Shapes of the Qwen3 family, as on its model cards; everything else is computed from them.
_SMALL = {"num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151_936}
MODELS = {
    "Qwen3-0.6B": {**_SMALL, "hidden_size": 1024, "num_hidden_layers": 28, "num_attention_heads": 16,
                   "intermediate_size": 3072, "tie_word_embeddings": True},
    "Qwen3-1.7B": {**_SMALL, "hidden_size": 2048, "num_hidden_layers": 28, "num_attention_heads": 16,
                   "intermediate_size": 6144, "tie_word_embeddings": True},
    "Qwen3-4B": {**_SMALL, "hidden_size": 2560, "num_hidden_layers": 36, "num_attention_heads": 32,
                 "intermediate_size": 9728, "tie_word_embeddings": True},
    "Qwen3-8B": {**_SMALL, "hidden_size": 4096, "num_hidden_layers": 36, "num_attention_heads": 32,
                 "intermediate_size": 12_288, "tie_word_embeddings": False},
    "Qwen3-14B": {**_SMALL, "hidden_size": 5120, "num_hidden_layers": 40, "num_attention_heads": 40,
                  "intermediate_size": 17_408, "tie_word_embeddings": False},
    "Qwen3-32B": {**_SMALL, "hidden_size": 5120, "num_hidden_layers": 64, "num_attention_heads": 64,
                  "intermediate_size": 25_600, "tie_word_embeddings": False},
}
# Bytes per weight. 4-bit (NF4): half a byte, block scales, and embeddings left in 16 bits.
FOUR_BIT = 0.5 + 4.5 / 64


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
    peak_tflops: float = 100.0  # assumption: of the card, 16 bits, dense
    sampling_share: float = 0.02  # assumption: of the peak, while decoding `rows` rows
    training_share: float = 0.3  # assumption: of the peak


PRESETS = {
    16: Preset(16, "Qwen3-4B", 4, "Qwen3-0.6B", length=4096, mean_length=2500, rows=4, peak_tflops=65),
    24: Preset(24, "Qwen3-8B", 4, "Qwen3-1.7B", peak_tflops=125),
    80: Preset(80, "Qwen3-32B", 4, "Qwen3-4B", length=16_384, mean_length=6000, rows=8, peak_tflops=312),
    141: Preset(141, "Qwen3-32B", 16, "Qwen3-4B", length=16_384, mean_length=6000, rows=16, peak_tflops=989),
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
    """Tokens that a student of a preset learns from: four rows a problem, over and over."""
    return p.epochs * p.n_problems * 4 * p.mean_length


# What a card of a preset is for: competition mathematics, at the scale's usual sizes.
TASK = {"worlds": ("math",), "difficulties": ("aime",), "benchmarks": ("aime24", "aime25", "math500"), "n_hinted": 10,
        "n_failed": 2, "n_candidates": 5, "n_test": 500, "k_eval": 4, "seeds": (0, 1, 2), "learning_rates": (1e-4,),
        "temperature": 1.0}


def here() -> dict[str, Any]:
    """`preset` of the GPU that torch sees; {} where there is none, it is too small, or the driver runs the notebook,
    which has its own word (`--gpu-preset`)."""
    import torch

    if os.environ.get("HEAL_RESULTS") or not torch.cuda.is_available():
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


@cache
def _config(name: str):
    from transformers import AutoConfig, Qwen3Config

    if name in MODELS:
        return Qwen3Config(**MODELS[name])
    with _readable(name):
        found = AutoConfig.from_pretrained(name, local_files_only=True, trust_remote_code=False)
        return found.get_text_config(decoder=True)  # of a model that sees as well, the part that writes


@contextlib.contextmanager
def _readable(name: str) -> Iterator[None]:
    """What cannot be read of a model is one line. The library has many kinds of errors for it, some of its own."""
    try:
        yield
    except Exception as error:
        what, why = f"unknown model '{name}'", str(error).partition("\n")[0][:80]
        if Path(name).is_dir():
            what = f"{name}: its config.json is of no model to plan with ({why})"
        raise HealError(f"{what}; choose one of {', '.join(MODELS)}, or a local folder") from None


@cache
def _shape(name: str) -> tuple[int, int, int, int, int, int]:
    """(layers, vocabulary, width of a layer's input, of its inner layer, of all its queries, of all its keys). Many
    configurations leave out what follows from the rest."""
    c = _config(name)
    with _readable(name):
        heads = c.num_attention_heads
        width = getattr(c, "head_dim", None) or c.hidden_size // heads
        keys = getattr(c, "num_key_value_heads", None) or heads
        inner = getattr(c, "intermediate_size", None) or 4 * c.hidden_size
        sizes = c.num_hidden_layers, c.vocab_size, c.hidden_size, inner, heads * width, keys * width
    return sizes


@cache
def parameters(name: str) -> tuple[int, int]:
    """(all weights, those of embedding and output) of a model, counted on the library's own modules."""
    import torch
    from transformers import AutoModelForCausalLM

    config = _config(name)
    with _readable(name), torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
        shared = {id(p): p.numel() for p in model.parameters()}
        ends = {id(p): p.numel() for m in (model.get_input_embeddings(), model.get_output_embeddings())
                for p in m.parameters()}
    return sum(shared.values()), sum(ends.values())


def weights(name: str, bits: int) -> float:
    """Bytes of the weights; in 4 bits all but embedding and output."""
    every, ends = parameters(name)
    if bits not in (4, 16, 32):
        raise HealError(f"{bits} bits per weight; choose 4, 16 or 32")
    return (every - ends) * FOUR_BIT + ends * 2 if bits == 4 else every * bits / 8


def cache_per_token(name: str) -> int:
    """Bytes of keys and values that one token leaves in the cache, in 16 bits."""
    layers, *_, keys = _shape(name)
    return 2 * layers * keys * 2


def sampling_memory(p: Preset) -> float:
    """Bytes at the peak of sampling: logits are in fp32, once raw and once as probabilities."""
    _, words, *_ = _shape(p.teacher)
    return weights(p.teacher, p.teacher_bits) + p.rows * (p.length * cache_per_token(p.teacher) + 3 * 4 * words)


def lora_parameters(name: str, rank: int) -> int:
    """Weights of adapters on all seven projections of every layer."""
    layers, _, h, m, q, kv = _shape(name)
    pairs = [(h, q), (h, kv), (h, kv), (q, h), (h, m), (h, m), (m, h)]
    return layers * rank * sum(a + b for a, b in pairs)


def training_memory(p: Preset) -> float:
    """Bytes at the peak of training with LoRA, layers checkpointed, the loss in slices of 1,024 tokens.

    Adapters: fp32 weight, gradient and two moments. Kept: each layer's input, one layer's inner activations in full."""
    (layers, words, h, m, q, _), tokens = _shape(p.student), p.micro_batch * p.length
    inner = 4 * h + 3 * m + 3 * q
    return (weights(p.student, p.student_bits) + 16 * lora_parameters(p.student, p.lora_rank)
            + 2 * tokens * (layers * h + 2 * inner) + 3 * 4 * 1024 * words)


def plan(p: Preset) -> dict[str, Any]:
    """Memory in GiB, tokens and hours of a preset; `fits` says whether both phases leave a tenth of the card free."""
    drawn = p.n_problems * p.n_samples * p.mean_length
    trained = tokens_trained(p)
    work = 2 * parameters(p.teacher)[0] * drawn, 6 * parameters(p.student)[0] * trained
    shares = p.sampling_share, p.training_share
    hours = [w / (share * p.peak_tflops * 1e12) / 3600 for w, share in zip(work, shares, strict=True)]
    sampling, training = sampling_memory(p) / GIB, training_memory(p) / GIB
    return {**asdict(p), "sampling_gib": round(sampling, 1), "training_gib": round(training, 1),
            "tokens_drawn": drawn, "tokens_trained": trained, "sampling_hours": round(hours[0], 1),
            "training_hours": round(hours[1], 1), "fits": max(sampling, training) <= 0.9 * p.gpu}


def on_paper(more: float = 1.0, p: Preset = PRESETS[80]) -> list[dict[str, Any]]:
    """Tokens and hours of the paper's setting by `SETTINGS`: draws are independent, so every card draws its part with a
    teacher of its own; a batch trains on as many cards as it has rows. `more`: HEAL's teacher tokens over the pool's,
    as measured elsewhere."""
    one = plan(p)
    return [{"setting": name, "teacher": f"{p.teacher}, {p.teacher_bits} bits", "student": p.student,
             "tokens_drawn": round(more * one["tokens_drawn"]), "sampling_hours": more * one["sampling_hours"] / cards,
             "tokens_trained": one["tokens_trained"], "training_hours": one["training_hours"] / min(cards, p.batch),
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
        *(f"{phase:9} {f[f'{phase}_gib']:6.1f} GiB  {f[f'tokens_{done}'] / 1e6:7.0f} M tokens  "
          f"about {f[f'{phase}_hours']:.0f} h" for phase, done in (("sampling", "drawn"), ("training", "trained"))),
        f"assumed: {f['peak_tflops']:g} TFLOP/s peak, {f['sampling_share']:.0%} of it when sampling {f['rows']} rows "
        f"of up to {f['length']} tokens, {f['training_share']:.0%} in training; nothing here was measured on such a "
        "card", "parameters of scale llm:", *(f"  {key} = {value}" for key, value in parameters.items())])


if __name__ == "__main__":
    sys.exit(main())
