"""The default engine on many machines: Ray's actors hold the model, and take shards of the rows.

    rows -> shards, which are the batches of hf -> whichever worker is free -> what was found, in the order of the rows

A draw depends on (seed, key, its index) alone, and a shard is computed as hf would, so every bit is the same wherever a
row lands; a worker that is lost is started again by Ray, and its shard run again. RAY_ADDRESS names a cluster, whose
machines have this environment and the models at the same paths; without it the workers are processes here. HEAL_WORKERS
is how many, by default one for each core or GPU there is. They stay for the next call, and hold one model at a time.
Actors rather than Ray Data: that starts its pool anew, and so loads every model anew, at each call."""

from __future__ import annotations

import functools
import inspect
import os
import signal
import socket
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from heal_lib import embedded, provenance, watch
from heal_lib.engines import SamplingParams, device, needs
from heal_lib.engines.words import Words
from heal_lib.errors import HealError
from heal_lib.files import hash_of

if TYPE_CHECKING:
    import numpy as np
    from transformers import PreTrainedTokenizerBase

    from heal_lib.engines import Sample, Score
    from heal_lib.engines.hf import HFEngine

LIKE_HF = True
RETRIES = 3  # of a worker, and of a shard, before the run gives up
IN_WORKER = "HEAL_IN_WORKER"  # set where stages are made side by side: there a model is run as it is
# Variables that workers share.
PASSED_ON = ("HEAL_MODELS", "DEVICE", "DTYPE", "HEAL_THINKING", "BACKEND", "HF_HOME", "HF_HUB_OFFLINE")
ONE_THREAD = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def check() -> None:
    """Raises HealError where it cannot run: without the package, or a cluster that does not answer."""
    needs("ray")
    where = os.environ.get("RAY_ADDRESS") or "auto"
    parts = urlsplit(where if "//" in where else f"//{where}")
    try:
        if where not in ("auto", "local"):
            socket.create_connection((parts.hostname, parts.port), timeout=5).close()
    except (OSError, ValueError, TypeError) as error:
        raise HealError(f"RAY_ADDRESS={where}: no cluster answers there ({error}); start one with ray start --head, or "
                        "leave it out to run on this machine") from None


def build(name: str) -> RayEngine | HFEngine:
    """Workers around a model; inside a worker the model itself."""
    plain = functools.partial(_plain, name)
    return plain() if IN_WORKER in os.environ else RayEngine(embedded.load(name)[1], plain)


def _plain(name: str) -> HFEngine:
    from heal_lib.engines.hf import HFEngine

    return HFEngine(*embedded.load(name))


class RayEngine(Words):
    """build: a function without arguments that gives a worker its engine; tokenizer: that engine's; workers: how many,
    by default as many as there is room for."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, build: Callable[[], HFEngine], workers: int | None = None):
        from heal_lib.engines.hf import HFEngine

        super().__init__(tokenizer)
        self.build: Callable[[], HFEngine]
        self.workers: int | None
        self.batch_rows: int
        self.batch_tokens: int
        self.build, self.workers = build, workers
        usual = inspect.signature(HFEngine).parameters
        self.batch_rows, self.batch_tokens = (usual[name].default for name in ("batch_rows", "batch_tokens"))

    def sample(self, prompts: Sequence[Sequence[int]], n: int, params: SamplingParams, seed: int,
               keys: Sequence[str] | None = None) -> list[list[Sample]]:
        """See `Engine.sample`."""
        keys = keys or [str(i) for i in range(len(prompts))]
        order, step = sorted(range(len(prompts)), key=lambda i: len(prompts[i])), max(1, self.batch_rows // n)
        shards = [order[at : at + step] for at in range(0, len(order), step)]
        return self._spread("sample", shards, (prompts, keys), n=n, params=params, seed=seed)

    def score(self, prompts: Sequence[Sequence[int]], completions: Sequence[Sequence[int]]) -> list[Score]:
        """See `Engine.score`."""
        sizes = [len(p) + len(c) for p, c in zip(prompts, completions, strict=True)]
        return self._spread("score", self._batches(sizes), (prompts, completions))

    def tail_nll(self, prompts: Sequence[Sequence[int]], completions: Sequence[Sequence[int]],
                 ends: Sequence[Sequence[int]], tails: Sequence[Sequence[int]]) -> list[np.ndarray]:
        """See `Engine.tail_nll`."""
        sizes = [len(p) + len(c) + len(e) * len(t)
                 for p, c, e, t in zip(prompts, completions, ends, tails, strict=True)]
        return self._spread("tail_nll", self._batches(sizes), (prompts, completions, ends, tails))

    def _batches(self, sizes: list[int]) -> list[list[int]]:
        """Indices of the rows that hf reads together (`Reader._in_batches`)."""
        order, found = sorted(range(len(sizes)), key=lambda i: sizes[i]), []
        while order:
            take = max(1, self.batch_tokens // max(1, sizes[order[-1]]))
            found.append(order[-take:])
            del order[-take:]
        return found

    def _spread(self, verb: str, shards: list[list[int]], columns: tuple, **settings) -> list:
        """`verb` of the engine on rows of these columns. Raises what a worker raised, or HealError for lost ones."""
        from ray import cloudpickle
        from ray.exceptions import RayError

        model = hash_of(cloudpickle.dumps(self.build).hex()), self.build, self.vocabulary
        work, out = [[[column[i] for i in shard] for column in columns] for shard in shards], [None] * len(columns[0])
        try:
            parts = _pool(self.workers).map(lambda worker, part: worker.work.remote(*model, verb, part, settings), work)
            for shard, found in zip(shards, parts, strict=True):
                for i, mine in zip(shard, found, strict=True):
                    out[i] = mine
                watch.tick(len(shard) * settings.get("n", 1))
        except RayError as error:
            release()  # who has work left would hand it to the next call
            raise said(error, "ray") from None
        return out


def said(error: Any, what: str) -> Exception:
    """What a worker raised, or one line for a worker that was lost."""
    from ray.exceptions import RayTaskError

    if isinstance(error, RayTaskError):
        return error.cause
    return HealError(f"{what}: its workers were lost {RETRIES + 1} times ({type(error).__name__}), perhaps for want of "
                     "memory; give fewer HEAL_WORKERS; the same command goes on from here")


_held: dict = {}  # how many were asked for -> the workers of this process


def _pool(workers: int | None):
    """Workers to hand work to, those of the call before if as many were asked for."""
    import ray
    from ray.util import ActorPool

    start()
    if workers in _held:
        return ActorPool(_held[workers])
    release()
    gpu = device() == "cuda"
    worker = ray.remote(max_restarts=RETRIES, max_task_retries=RETRIES, num_cpus=0 if gpu else 1, num_gpus=int(gpu),
                        scheduling_strategy="SPREAD")(_Worker)
    _held[workers] = [worker.remote() for _ in range(workers or room())]
    return ActorPool(_held[workers])


def release() -> None:
    """Ends the workers of this process, and what they hold: an error that somebody keeps would keep them alive."""
    import ray

    for actor in sum(_held.values(), []) if ray.is_initialized() else []:
        ray.kill(actor)
    _held.clear()


def room() -> int:
    """How many workers the cluster has room for: HEAL_WORKERS, or one for each of its GPUs or cores."""
    import ray

    start()
    kind = "GPU" if device() == "cuda" else "CPU"
    has = int(ray.cluster_resources().get(kind, 0))
    if not has:
        raise HealError(f"the Ray cluster has no {kind}; start it with ray start --num-{kind.lower()}s")
    return min(int(os.environ.get("HEAL_WORKERS") or has), has)


def start(**options: Any) -> None:
    """`ray.init`, once, tried again once: on a busy machine its processes may miss the half minute that Ray gives them.
    Raises HealError for a cluster that does not take us."""
    import ray

    if ray.is_initialized():
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    where = os.environ.get("RAY_ADDRESS")
    workers = int(os.environ.get("HEAL_WORKERS") or provenance.cores())
    here = {} if where or "address" in options else {"num_cpus": workers, "include_dashboard": False}
    options = {"log_to_driver": False, "logging_level": "error", "runtime_env": {"env_vars": _environment()}, **here,
               **options}
    on_term = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(**options)
    except Exception as error:  # Ray raises no class of its own here
        ray.shutdown()
        if "timed out during startup" in str(error):
            ray.init(**options)
        elif where:
            raise HealError(f"RAY_ADDRESS={where}: {' '.join(str(error).split())[:200]}") from None
        else:
            raise
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, on_term)  # Ray's own prints where it was, at each end of a notebook's kernel


def _environment() -> dict[str, str]:
    """Variables that workers need: one thread each, this package, and what says where models run."""
    here = os.pathsep.join(filter(None, [str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH")]))
    passed = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    return {**passed, **dict.fromkeys(ONE_THREAD, "1"), "PYTHONPATH": here}


class _Worker:
    """One process of Ray's, with the engine that was last asked for."""

    key, engine = None, None

    def work(self, key: str, build, vocabulary: str, verb: str, part: list, settings: dict) -> list:
        if self.key != key:
            self.key = self.engine = None  # room for the next one
            self.engine = build()
            if self.engine.vocabulary != vocabulary:
                raise HealError("ray: a worker's tokenizer is not this machine's; put the same model on all machines")
            self.key = key
        if verb == "sample":
            prompts, keys = part
            return self.engine.sample(prompts, **settings, keys=keys)
        return getattr(self.engine, verb)(*part)
