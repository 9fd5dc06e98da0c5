"""How cost grows with batch, length, samples, model size and workers: curves and their exponents, for `make bench`.

    seconds = c * value ** exponent      least squares on the logarithms of the curve's upper half

An exponent below 1 says that more together costs less each (below 0 where the work is held). Models are untrained: what
they say does not matter here, and nothing ends early. Seconds are medians, memory is the process's gain at its peak."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from heal_lib import embedded, timing, training
from heal_lib.engines import SamplingParams, hf

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# hidden size, layers: about 0.3, 1, 3, 10, 30 and 100 M weights besides the embeddings
SHAPES = ((96, 2), (128, 4), (192, 5), (320, 6), (512, 8), (768, 11))
THREADS = 1  # of every job where workers are counted
JOBS = 4


def model(hidden: int = 128, layers: int = 4) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """An untrained Qwen3 with the shipped vocabulary, and its tokenizer."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    words = embedded.load("student")[1]
    torch.manual_seed(0)
    config = Qwen3Config(vocab_size=len(words), hidden_size=hidden, num_hidden_layers=layers,
                         num_attention_heads=hidden // 32, num_key_value_heads=hidden // 32, head_dim=32,
                         intermediate_size=4 * hidden, max_position_embeddings=2**15, pad_token_id=words.pad_token_id)
    return Qwen3ForCausalLM(config), words


def weights(of: PreTrainedModel) -> int:
    """Weights besides embedding and output."""
    return sum(p.numel() for name, p in of.named_parameters() if "embed" not in name and "lm_head" not in name)


def draw(made: tuple[PreTrainedModel, PreTrainedTokenizerBase], n_prompts: int = 8, n: int = 8,
         length: int = 32) -> Callable[[], object]:
    """A function that draws, from (model, tokenizer), n samples of exactly `length` tokens for each of some prompts."""
    engine = hf.HFEngine(*made, batch_rows=2**20)
    engine.eos = {-1}
    prompts = [[5 + i % 50] * 16 for i in range(n_prompts)]
    return lambda: engine.sample(prompts, n, SamplingParams(length), 0)


def read(made: tuple[PreTrainedModel, PreTrainedTokenizerBase], length: int) -> Callable[[], object]:
    """A function that reads one text of that many tokens as PURE does, with an answer after every 16th."""
    engine = hf.HFEngine(*made)
    ids = np.random.default_rng(0).integers(5, 200, length).tolist()

    def both():
        engine.score([ids[:16]], [ids[16:]])
        engine.tail_nll([ids[:16]], [ids[16:]], [list(range(0, length - 16, 16))], [ids[:4]])

    return both


def train(made: tuple[PreTrainedModel, PreTrainedTokenizerBase], rows: int = 64, length: int = 128,
          batch: int = 8) -> Callable[[], object]:
    """A function that trains a model once on some rows of that length."""
    ids = np.random.default_rng(0).integers(5, 200, (rows, length)).tolist()
    data = [{"input_ids": row, "completion_mask": [0] * 16 + [1] * (length - 16)} for row in ids]
    return lambda: training.fit(made[0].train(), made[1], data, training.TrainConfig(1e-3, batch_size=batch))


def _job(_) -> None:
    import torch

    torch.set_num_threads(THREADS)
    draw(model(), length=64)()
    train(model())()


def side_by_side(n_workers: int) -> float:
    """Seconds for `JOBS` jobs (drawing, then training), spread over that many processes that are up already."""
    with ProcessPoolExecutor(n_workers, get_context("spawn")) as pool:
        list(pool.map(_job, range(n_workers)))
        start = time.perf_counter()
        list(pool.map(_job, range(JOBS)))
        return time.perf_counter() - start


def curves() -> list[dict[str, Any]]:
    """curve, knob, value, seconds, peak_mib: what each value of each knob costs, the other knobs held."""
    usual, table = model(), []
    sizes = {weights(made[0]): made for made in (functools.partial(model, *shape)() for shape in SHAPES)}
    plans = {
        ("sampling", "rows"): {n: draw(usual, n_prompts=n // 8) for n in (8, 32, 128, 512, 2048)},
        ("sampling", "tokens per sample"): {n: draw(usual, length=n) for n in (32, 64, 128, 256, 512, 1024)},
        ("sampling", "samples per prompt"): {n: draw(usual, n=n) for n in (1, 4, 16, 64, 256)},
        ("sampling", "weights"): {size: draw(made) for size, made in sizes.items()},
        ("reading", "tokens per text"): {n: read(usual, n) for n in (128, 256, 512, 1024, 2048, 4096, 8192)},
        ("reading", "weights"): {size: read(made, 256) for size, made in sizes.items()},
        ("training", "rows per update"): {n: train(usual, batch=n) for n in (1, 4, 16, 64)},
        ("training", "tokens per row"): {n: train(usual, rows=16, length=n) for n in (64, 128, 256, 512, 1024)},
        ("training", "weights"): {size: train(made, rows=16) for size, made in sizes.items()},
    }
    for (curve, knob), values in plans.items():
        for value, run in values.items():
            table.append({"curve": curve, "knob": knob, "value": value, "seconds": timing.in_turn(it=run)["it"],
                          "peak_mib": timing.peak(run)})
    for n in (1, 2):
        table.append({"curve": "jobs", "knob": "workers", "value": n, "seconds": side_by_side(n), "peak_mib": np.nan})
    return table


def exponents(table: pd.DataFrame) -> pd.DataFrame:
    """curve, knob, factor, exponent, standard_error, least, most: seconds = factor * value ** exponent over the upper
    half of each curve's values, three at least; two give no standard error."""
    from scipy.stats import linregress

    found = []
    for (curve, knob), part in table.groupby(["curve", "knob"], sort=False):
        part = part.sort_values("value").tail(max(3, -(-len(part) // 2)))
        fit = linregress(np.log(part["value"]), np.log(part["seconds"]))
        found.append({"curve": curve, "knob": knob, "factor": np.exp(fit.intercept), "exponent": fit.slope,
                      "standard_error": fit.stderr if len(part) > 2 else np.nan,
                      "least": part["value"].min(), "most": part["value"].max()})
    return pd.DataFrame(found)
