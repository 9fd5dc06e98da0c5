"""Killed at any moment and run again: nothing lost, nothing made twice, nothing different."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow  # test_processes and test_backends kill what runs
def test_killed_runs_end_as_if_nothing_had_happened(tmp_path):
    """A handful of what `make torture` does a hundred times: in a process of its own, for it forks."""
    out, here = tmp_path / "figures.json", Path(__file__)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(here.parents[1])}
    environment.pop("HEAL_MODELS", None)
    command = [sys.executable, str(here.with_name("torture.py")), "--kills", "3", "--out", str(out)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads(out.read_text())
    assert figures["kills"] == 3 and figures["runs_that_differ"] == figures["finished_units_repeated"] == 0
    assert figures["most_units_lost_by_a_kill"] <= 1 and figures["temporary_folders_left"] == 0
