"""The commands for larger machines, as far as the driver reads them; the script for Slurm, with stand-ins for Slurm's
commands: what it starts where, and when it gives up; and how many cores there are where the system does not say."""

import os
import re
import shlex
import shutil
import subprocess
from unittest import mock

import pytest
from micro import micro

from heal_lib import backends, notebooks, progress, provenance, reproduce, workers
from heal_lib.engines import choose
from heal_lib.engines import ray as spread
from heal_lib.experiment import Experiment
from heal_lib.files import ROOT

SCRIPT = ROOT / "docs" / "slurm.sh"
STANDINS = {
    "scontrol": 'printf "node1\\nnode2\\nnode3\\n"',
    "srun": '[[ "$*" == *hostname* ]] && echo "10.0.0.1 fe80::1" || echo "srun $*" >>"$LOG"',
    "python": 'if [[ $1 == -c ]]; then echo "$UP"; else echo "python $* at $RAY_ADDRESS" >>"$LOG"; fi',
    "ray": "exit 1",  # srun starts it
    "sleep": "true",
}


def run(tmp_path, nodes, up, *arguments):
    for name, body in STANDINS.items():
        (tmp_path / name).write_text(f"#!/usr/bin/env bash\n{body}\n")
        (tmp_path / name).chmod(0o755)
    log = tmp_path / "log"
    log.touch()
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "LOG": str(log), "UP": str(up),
                   "HEAL_BIN": str(tmp_path), "SLURM_SUBMIT_DIR": str(tmp_path), "SLURM_JOB_NODELIST": "node[1-3]",
                   "SLURM_JOB_ID": "7", "SLURM_NNODES": str(nodes), "SLURM_CPUS_PER_TASK": "8"}
    done = subprocess.run(["bash", str(SCRIPT), *arguments], env=environment, capture_output=True, text=True,
                          timeout=60)
    return done, log.read_text().replace(str(tmp_path), "bin")


def test_ray_is_started_on_all_nodes_and_the_driver_on_the_first(tmp_path):
    done, log = run(tmp_path, 3, 3, "--scale", "full", "-p", "step_delimiter", "a b")
    assert done.returncode == 0, done.stderr
    assert ("srun --nodes=1 --ntasks=1 --nodelist=node1 bin/ray start --head --node-ip-address=10.0.0.1 --port=20007 "
            "--num-cpus=8 --block") in log
    assert ("srun --nodes=2 --ntasks=2 --exclude=node1 bin/ray start --address=10.0.0.1:20007 --num-cpus=8 --block"
            in log)
    assert "python -m heal_lib.reproduce --scale full -p step_delimiter a b at 10.0.0.1:20007" in log


def test_one_node_is_a_cluster_too_and_a_node_that_stays_away_is_named(tmp_path):
    done, log = run(tmp_path, 1, 1, "--scale", "smoke")
    assert done.returncode == 0 and log.count("srun") == 1 and "reproduce --scale smoke" in log
    done, log = run(tmp_path, 3, 2)
    assert done.returncode == 2 and "heal: 2 of 3 nodes joined" in done.stderr and log.count("reproduce") == 1


@pytest.mark.parametrize("page", ["README.md", "docs/machines.md"])
def test_every_command_that_a_page_gives_is_taken(page, monkeypatch):
    import torch

    taken, flags = [], {"SCALE": "--scale", "GPU_PRESET": "--gpu-preset"}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(backends, "check", lambda how: None)  # of Unsloth
    monkeypatch.setattr(choose, "check", lambda kind: choose.names().index(kind))
    monkeypatch.setattr(reproduce, "Run", lambda scale, paths, pairs: mock.MagicMock(
        cfg=taken.append(notebooks.settings(scale, pairs, {path.stem: notebooks.declared(path) for path in paths}))))
    monkeypatch.setattr(reproduce, "alone", lambda folder: mock.MagicMock())
    text = re.sub(r"<!-- results:begin.*results:end -->", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.S)
    found = re.findall(r"`([^`\n]*make reproduce[^`\n]*|sbatch[^`]*)`", text)
    for command in found:
        variables, words = re.match(r"((?:\w+=\S* )*)(?:make reproduce|sbatch .*slurm.sh)(.*)", command).groups()
        words = shlex.split(words)
        given = dict(word.split("=", 1) for word in words) if "make" in command else {"ARGS": shlex.join(words)}
        line = [part for name, flag in flags.items() if name in given for part in (flag, given[name])]
        with mock.patch.dict(os.environ, dict(word.split("=", 1) for word in variables.split())):
            os.environ.pop("HEAL_SERVED_MODEL", None)
            assert reproduce.main([*line, *shlex.split(given.get("ARGS", ""))]) == 0, command
    assert len(taken) == len(found) > 2


def test_a_system_that_does_not_say_what_a_process_may_use_has_all_its_cores(monkeypatch, tmp_path):
    import ray

    for name in (progress.IN_WORKER, "HEAL_WORKERS", "RAY_ADDRESS", "DEVICE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)  # macOS
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    assert provenance.cores() == provenance.environment()["cores"] == Experiment(micro())._n_workers() == 3
    asked = []
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", lambda **options: asked.append(options["num_cpus"]))
    spread.start()
    monkeypatch.setenv("HEAL_CACHE", str(tmp_path))
    monkeypatch.setattr(workers, "have", lambda store, stages, n: asked.append(n))
    monkeypatch.setattr(reproduce, "Stage", mock.MagicMock())
    monkeypatch.setattr(reproduce, "Store", mock.MagicMock())
    reproduce.train_models()
    assert asked == [3, 3]
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert provenance.cores() == 1


@pytest.mark.skipif(not shutil.which("shellcheck"), reason="shellcheck is not installed")
def test_shellcheck_finds_nothing():
    done = subprocess.run(["shellcheck", str(SCRIPT)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
