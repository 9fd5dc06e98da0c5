"""Stages side by side on a Ray cluster: `workers.have` with Ray's tasks in place of forked processes.

    have(store, stages)     what a shipped or named model draws and reads, one stage after another, each spread over all
                            workers (`engines.ray`); then all else, students and their evaluations, a task for a stage

The store lies on a path that all machines share, and so does this package: a worker with other code or other libraries
says so and makes nothing. A task whose worker is lost is run again by Ray."""

from __future__ import annotations

import functools
import os
from typing import Any

from heal_lib import progress, workers
from heal_lib.codehash import code_hash
from heal_lib.engines import device
from heal_lib.engines import ray as spread
from heal_lib.errors import HealError
from heal_lib.stage import Keyed, Stage, versions
from heal_lib.store import Store, Task


def have(store: Store, stages: list[Stage], share: int = 1) -> None:
    """Makes what is missing; a task holds `share` GPUs, or cores where there is none. See `workers.have`."""
    workers.have(store, [stage for stage in workers.in_order(stages, store) if _is_spread(stage)], 1)
    workers.have(store, stages, crew=Tasks(share))


def _is_spread(stage: Stage) -> bool:
    """Whether an engine of many workers makes a stage: the model is there from the start, unlike a student."""
    return "engine" in stage.inputs and isinstance(stage.inputs.get("model"), Keyed)


class Tasks:
    """Workers on the cluster, see `workers.Forked`. Nothing is started before the first is asked for."""

    def __init__(self, share: int):
        self.share = share

    @functools.cached_property
    def _room(self) -> int:
        spread.release()  # the engine's workers hold what tasks need
        return max(1, spread.room() // self.share)

    def size(self) -> int:
        """How many tasks there is room for."""
        return self._room

    def connect(self) -> _Line:
        """A line that sends its work as a task."""
        import ray

        kind = "num_gpus" if device() == "cuda" else "num_cpus"
        return _Line(ray.remote(max_retries=spread.RETRIES, scheduling_strategy="SPREAD", **{kind: self.share})(_fill))

    def wait(self, lines: list[_Line]) -> list[_Line]:
        """The lines whose task has ended, at least one."""
        import ray

        ready, _ = ray.wait([line.task for line in lines])
        return [line for line in lines if line.task in ready]


class _Line:
    """One task after another. What a task raised is raised; a worker that was lost too often is a HealError."""

    task: Any = None
    name: str = ""

    def __init__(self, remote: Any):
        self.remote: Any = remote

    def __enter__(self) -> _Line:
        return self

    def __exit__(self, *error: object) -> None:
        import ray

        if self.task is not None:  # nobody wants it any more
            ray.cancel(self.task, force=True)

    def send(self, work: tuple[str, Task]) -> None:
        """Sends (the store's folder, what there is to make)."""
        self.task, self.name = self.remote.remote(*work), work[1].name

    def recv(self) -> tuple[str, dict[str, Any] | Exception]:
        """Waits for the task: ("made" or "reused", manifest), or ("error", what it raised)."""
        import ray

        task, self.task = self.task, None
        try:
            what, manifest = ray.get(task)
        except ray.exceptions.RayError as error:
            return "error", spread.said(error, self.name)
        if what == "made":
            progress.say(f"made {self.name} in {manifest['seconds']:.1f} s")
        return what, manifest


def _fill(root: str, task: Task) -> tuple[str, dict]:
    """Makes a stage, on whichever machine this is."""
    os.environ[progress.IN_WORKER] = "1"
    if (code_hash(task.function.__module__), versions()) != (task.parts["code"], task.parts["versions"]):
        raise HealError(f"{task.name}: a worker of the cluster has other code or libraries; give all machines the same")
    return Store(root).fill(task)
