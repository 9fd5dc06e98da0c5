"""What it costs to draw elsewhere: the same rows by `ray` and by `openai`, against the engine in this process.

    table()     one row for each way: rows, seconds, rows per second, and relative to `hf`

Everything runs on this machine: what is measured is the overhead, less what a second worker brings."""

from __future__ import annotations

import functools
import os
from typing import Any

from heal_lib import embedded, serve, timing, worlds
from heal_lib.engines import SamplingParams, openai, ray
from heal_lib.engines.hf import HFEngine

WORKERS = (1, 2)
PROBLEMS, SAMPLES = 32, 16  # two batches of the engine


def model() -> HFEngine:
    """The shipped teacher, in any process."""
    return HFEngine(*embedded.load("teacher"))


def table(problems: int = PROBLEMS, samples: int = SAMPLES) -> list[dict[str, Any]]:
    """Rows per second of each way; all draw the same tokens, which is checked before anything is timed."""
    local, world = model(), worlds.get("countdown")
    prompts = [local.prompt(world.prompt(p)) for p in world.problems("test", problems, 0, "hard")]
    params = SamplingParams(world.longest("hard"))
    os.environ.setdefault("HEAL_WORKERS", str(max(WORKERS)))
    with serve.Server(local) as server:
        asked = openai.OpenAIEngine(model(), server.url, "teacher", concurrency=local.batch_rows)
        spread = {f"ray, {n} worker{'s' * (n > 1)}": ray.RayEngine(local.tokenizer, model, n) for n in WORKERS}
        ways: dict[str, Any] = {"hf": local, **spread, "openai over loopback": asked}
        drawn = {name: [[one.token_ids for one in group] for group in it.sample(prompts, samples, params, 0)]
                 for name, it in ways.items()}
        if other := [name for name, tokens in drawn.items() if tokens != drawn["hf"]]:
            raise AssertionError(f"{', '.join(other)}: other draws than hf")
        # One way after the other, for workers of Ray stay only while they are in use.
        seconds = {name: timing.in_turn(it=functools.partial(it.sample, prompts, samples, params, 0))["it"]
                   for name, it in ways.items()}
    ray.release()
    rows = problems * samples
    return [{"way": name, "rows": rows, "seconds": took, "rows_per_second": rows / took,
             "relative": seconds["hf"] / took} for name, took in seconds.items()]
