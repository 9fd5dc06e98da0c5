"""The process that compares answers: it ends in time, with its caller, and is started again."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from heal_lib.errors import HealError
from heal_lib.worlds import compare
from heal_lib.worlds.mathematics import equal


def test_a_comparison_that_takes_too_long_is_not_equal(monkeypatch):
    monkeypatch.setattr(compare, "SECONDS", -4.5)  # half a second in all
    assert equal("10^{10^{10^{10}}}", "\\prod_{i=1}^{10^9} i!") is False
    monkeypatch.undo()
    assert equal("1/2", "0.5")  # and the next one finds a process again


def _run(script, **how):
    return subprocess.run([sys.executable, "-"], input=script, text=True, capture_output=True, timeout=120, **how)


def test_a_script_without_a_main_guard_compares_answers_and_ends_also_where_termination_is_ignored():
    ignoring = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    done = _run(ignoring + "from heal_lib.worlds.mathematics import equal\n"
                "print(equal('1/2', '0.5'), equal('1/2', '0.6'))")
    assert done.stdout == "True False\n", done.stderr


def test_a_killed_comparer_is_started_again_and_one_that_cannot_start_is_an_error(monkeypatch):
    assert equal("1/2", "0.5")
    compare._process(os.getpid()).kill()
    assert equal("1/3", "2/6")
    compare._end(compare._process(os.getpid()))
    monkeypatch.setattr(compare.sys, "executable", "/bin/false")
    with pytest.raises(HealError, match="cannot be compared"):
        equal("1/2", "0.5")
    compare._process.cache_clear()


def test_the_comparer_ends_with_a_killed_caller():
    caller = subprocess.Popen(
        [sys.executable, "-c", "from heal_lib.worlds import compare\ncompare.equal('1/2', '0.5')\n"
         "import os\nprint(compare._process(os.getpid()).pid, flush=True)\nimport time; time.sleep(600)"],
        stdout=subprocess.PIPE, text=True)
    comparer = int(caller.stdout.readline())
    caller.kill()
    caller.wait()
    for _ in range(100):
        status = Path(f"/proc/{comparer}/stat")
        if not status.exists() or status.read_text().split()[2] == "Z":
            return
        time.sleep(0.05)
    raise AssertionError("the comparer outlives its caller")
