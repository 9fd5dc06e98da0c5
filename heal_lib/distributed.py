"""One student on several GPUs or machines: the same training, under `accelerate launch`.

    train(base, stages, ...) -> accelerate launch -m heal_lib.distributed JOB -> training.fit in every process

Each process takes its share of every batch, so an update is that of one process with the whole batch. ACCELERATE_CONFIG
names a file that `accelerate config` writes, for several machines or for FSDP (`fsdp.yaml` here is one for students
beyond 14 B parameters; not run yet). Full fine-tuning only: adapters fit on one card."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heal_lib import backends, files, training
from heal_lib.errors import HealError

if TYPE_CHECKING:
    from heal_lib.training import TrainConfig


def train(base: str, stages: list[list[dict[str, Any]]], configs: list[TrainConfig], folder: str,
          how: backends.Finetune, heldout: Sequence[dict[str, Any]] = ()) -> list[list[dict[str, Any]]]:
    """`training.train` on `how.processes` processes. Raises HealError where one fails, which has then said why."""
    for config in configs:
        if config.batch_size % how.processes:
            raise HealError(f"batch_size is {config.batch_size}; {how.processes} processes cannot share it evenly")
    with tempfile.TemporaryDirectory() as job:
        facts = {"base": os.path.abspath(base), "folder": os.path.abspath(folder), "how": asdict(how),
                 "configs": [asdict(config) for config in configs], "stages": stages, "heldout": list(heldout)}
        files.write_json(facts, Path(job, "job.json"))
        if subprocess.run([*_launch(how.processes), "-m", "heal_lib.distributed", job]).returncode:
            raise HealError(f"accelerate launch: one of {how.processes} processes failed; mend what it says above")
        return files.read_json(Path(job, "logs.json"))


def asked(processes: int) -> list[str]:
    """What decides how so many processes train, beside `backends.Finetune`: the sha256 of ACCELERATE_CONFIG's file.
    Raises HealError where there is none; nothing counts for one process."""
    file = os.environ.get("ACCELERATE_CONFIG")
    if processes == 1 or not file:
        return []
    if not os.path.isfile(file):
        raise HealError(f"ACCELERATE_CONFIG: no file at {file}; write one with accelerate config, or unset it")
    return [files.file_hash(file)]


def _launch(processes: int) -> list[str]:
    """accelerate's command line; `--multi_gpu` serves CPUs as well, where torch then talks over gloo."""
    command = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes", str(processes)]
    if config := os.environ.get("ACCELERATE_CONFIG"):
        return [*command, "--config_file", config]
    return [*command, "--multi_gpu", "--num_machines", "1", "--main_process_port", "0", "--mixed_precision", "no",
            "--dynamo_backend", "no"]


def work(job: str) -> None:
    """One of the processes: every stage goes on from the files of the one before, as sharded weights ask for."""
    facts = json.loads(Path(job, "job.json").read_text())
    how, base, logs = backends.Finetune(**facts["how"]), facts["base"], []
    for i, (rows, config) in enumerate(zip(facts["stages"], facts["configs"], strict=True), 1):
        model, tokenizer = backends.load(base, how, config["seed"])
        base = str(Path(facts["folder"], f"stage-{i}"))
        best = str(Path(job, f"best-{i}")) if facts["heldout"] else None  # where all find the best weights
        logs.append(training.fit(model, tokenizer, rows, training.TrainConfig(**config), folder=base, checkpoints=best,
                                 heldout=facts["heldout"]))
    if os.environ.get("RANK", "0") == "0":
        files.write_json(logs, Path(job, "logs.json"))


if __name__ == "__main__":
    work(sys.argv[1])
