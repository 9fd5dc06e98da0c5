"""A damaged file is named, and made again or refused."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow  # test_store damages single files
def test_damaged_files_are_named_and_made_again_or_refused(tmp_path):
    """Four of what `make torture` does two hundred times: in a process of its own, for it forks."""
    out, here = tmp_path / "figures.json", Path(__file__)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(here.parents[1])}
    command = [sys.executable, str(here.with_name("damage.py")), "--damages", "4", "--out", str(out)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads(out.read_text())
    assert figures["damages"] == 4 and figures["made_again"] >= 2 and figures["failed"] == 0
