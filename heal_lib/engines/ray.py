"""Any engine on many machines: Ray's actors each build it once, and take shards of the rows.

    rows -> shards of BATCH -> whichever worker is free -> what was found, in the order of the rows

A draw depends on (seed, key, its index) alone, so it is the same wherever its row lands; a worker that is lost is
started again by Ray, and its shard run again. RAY_ADDRESS names a cluster; without it the workers are processes here,
HEAL_WORKERS of them.
Actors rather than Ray Data: that starts its pool anew, and so loads every model anew, at each call."""

from __future__ import annotations

import functools
import os

from heal_lib import embedded, watch
from heal_lib.engines import SamplingParams, device, needs
from heal_lib.engines.words import Words

BATCH = 16  # rows that a worker takes at a time
LIKE_HF = True
RETRIES = 3  # of a worker, and of a shard, before the run gives up


def check() -> None:
    """Raises HealError where it cannot run."""
    needs("ray")


def build(name: str) -> RayEngine:
    """Workers around a model, as many as there are cores or GPUs."""
    import torch

    from heal_lib.engines.choose import engine

    here = torch.cuda.device_count() if device() == "cuda" else len(os.sched_getaffinity(0))
    workers = int(os.environ.get("HEAL_WORKERS") or here)
    return RayEngine(embedded.load(name)[1], functools.partial(engine, name), workers)


class RayEngine(Words):
    """build: a function without arguments that gives a worker its engine; tokenizer: that engine's."""

    def __init__(self, tokenizer, build, workers: int):
        super().__init__(tokenizer)
        self.build, self.workers = build, workers

    def sample(self, prompts, n: int, params: SamplingParams, seed: int, keys=None) -> list:
        """See `Engine.sample`."""
        keys = keys or [str(i) for i in range(len(prompts))]
        return self._spread("sample", (prompts, keys), n=n, params=params, seed=seed)

    def score(self, prompts, completions) -> list:
        """See `Engine.score`."""
        return self._spread("score", (prompts, completions))

    def tail_nll(self, prompts, completions, ends, tails) -> list:
        """See `Engine.tail_nll`."""
        return self._spread("tail_nll", (prompts, completions, ends, tails))

    def _spread(self, verb: str, columns: tuple, **settings) -> list:
        """`verb` of the engine on the rows of these columns."""
        rows = len(columns[0])
        shards = [[list(column[at : at + BATCH]) for column in columns] for at in range(0, rows, BATCH)]
        found = []
        for part in self._pool.map(lambda worker, shard: worker.work.remote(verb, shard, settings), shards):
            found += part
            watch.tick(len(part) * settings.get("n", 1))
        return found

    @functools.cached_property
    def _pool(self):
        """The workers, kept for the next call: their models stay loaded."""
        import ray
        from ray.util import ActorPool

        if not ray.is_initialized():
            here = {} if os.environ.get("RAY_ADDRESS") else {"num_cpus": self.workers, "include_dashboard": False}
            start(**here)
        worker = ray.remote(max_restarts=RETRIES, max_task_retries=RETRIES, num_gpus=int(device() == "cuda"))(_Worker)
        return ActorPool([worker.remote(self.build) for _ in range(self.workers)])


def start(**options) -> None:
    """`ray.init`, tried again once: on a busy machine its processes may miss the half minute that Ray gives them."""
    import ray

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    options = {"log_to_driver": False, "logging_level": "error", **options}
    try:
        ray.init(**options)
    except Exception as error:  # Ray raises no class of its own here
        if "timed out during startup" not in str(error):
            raise
        ray.shutdown()
        ray.init(**options)


class _Worker:
    """One process of Ray's, with an engine of its own."""

    def __init__(self, build):
        self.engine = build()

    def work(self, verb: str, shard: list, settings: dict) -> list:
        if verb == "sample":
            prompts, keys = shard
            return self.engine.sample(prompts, **settings, keys=keys)
        return getattr(self.engine, verb)(*shard)
