"""Real processes: however a run ends, it says so in one line, and nothing that it started is left after 5 seconds."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from driven import notebook

# The notebook starts a worker, notes both their numbers, and both go on for a minute.
BODY = """
import os, pathlib, subprocess, sys, time
started = pathlib.Path({started!r})
worker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
part = started.with_suffix(".part")
part.write_text(f"{{os.getpid()}} {{worker.pid}}")
part.rename(started)
time.sleep(60)
"""
DRIVER = """
import signal, sys
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs, these tests perhaps, ignore it
sys.modules["rfc3987_syntax"] = None  # a grammar that takes nbformat a second to read
from heal_lib import places
places.ROOT = Path({root!r})
from heal_lib import reproduce, workers
workers.PRELOADED = ()
sys.exit(reproduce.main(["--scale", "smoke", "--only", "02"]))
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    (tmp_path / "notebooks").mkdir()
    body = BODY.format(started=str(tmp_path / "started"))
    notebook(tmp_path / "notebooks" / "02_gear.ipynb", body, 'scale = "smoke"')
    (tmp_path / "driver.py").write_text(DRIVER.format(root=str(tmp_path)))
    monkeypatch.setenv("HEAL_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("HEAL_RESULTS", raising=False)
    return tmp_path


def begun(project, driver):
    """Numbers of the kernel and of its worker, as soon as they are at work."""
    while not (project / "started").exists():
        assert driver.poll() is None, driver.communicate()
        time.sleep(0.02)
    return [int(number) for number in (project / "started").read_text().split()]


def start(project, **options):
    return subprocess.Popen([sys.executable, str(project / "driver.py")], stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True, **options)


def left(processes, seconds=5):
    """Those of some processes that are still there when the time is over."""
    end = time.monotonic() + seconds
    while (there := [p for p in processes if alive(p)]) and time.monotonic() < end:
        time.sleep(0.05)
    return there


def alive(process):
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize(("how", "times"), [(signal.SIGINT, 3), (signal.SIGTERM, 1), (signal.SIGHUP, 1)])
def test_a_stopped_run_says_how_to_go_on_and_leaves_nothing(project, how, times):
    driver = start(project)
    there = begun(project, driver)
    for _ in range(times):  # an impatient user, or `timeout`, which signals a process and then its group
        driver.send_signal(how)
        time.sleep(0.05)
    out, said = driver.communicate(timeout=30)
    assert driver.returncode == 130 and said == "heal: interrupted; the same command goes on from here\n"
    assert "Traceback" not in out and left(there) == []
    assert not list((project / "results").rglob("*02_gear*"))


def test_a_driver_killed_outright_takes_its_kernel_along(project):
    driver = start(project)
    kernel, worker = begun(project, driver)
    driver.kill()
    driver.wait()
    assert left([kernel]) == []
    os.kill(worker, signal.SIGKILL)  # a plain process of the notebook's own


def test_a_kernel_killed_outright_is_named_and_takes_its_workers_along(project):
    driver = start(project)
    kernel, worker = begun(project, driver)
    os.kill(kernel, signal.SIGKILL)
    said = driver.communicate(timeout=30)[1]
    assert driver.returncode == 1 and said.splitlines()[-1].startswith("heal: 02_gear: the kernel died")
    assert "Traceback" not in said and left([kernel, worker]) == []


def test_timeout_in_a_command_substitution_comes_back(project):
    """The shell waits until nobody holds the pipe; SIGTERM is ignored by the shell, and so by all that it starts."""
    script = f'trap "" TERM; said=$(timeout 60 {sys.executable} {project / "driver.py"} 2>&1); echo "$? $said"'
    shell = subprocess.Popen(["bash", "-c", script], stdout=subprocess.PIPE, text=True)
    there = begun(project, shell)
    (waiting,) = children(shell.pid)
    timeout = waiting if command_of(waiting).startswith("timeout") else children(waiting)[0]
    os.kill(timeout, signal.SIGTERM)  # what its alarm does, a minute early
    said = shell.communicate(timeout=30)[0]
    assert said.splitlines()[-1].endswith("interrupted; the same command goes on from here") and left(there) == []


def children(process):
    return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def command_of(process):
    return Path(f"/proc/{process}/cmdline").read_text().replace("\0", " ")


def test_a_process_whose_parent_is_gone_already_does_not_begin(tmp_path):
    done = subprocess.run([sys.executable, "-m", "heal_lib.child", "this"], env={**os.environ, "HEAL_PARENT": "1"},
                          capture_output=True, text=True)
    assert done.returncode == 1 and done.stdout == ""


def test_a_child_ends_with_its_parent(tmp_path):
    (tmp_path / "sleeps.py").write_text("import os, sys, time\nprint(os.getpid(), flush=True)\ntime.sleep(60)\n")
    code = ("import os, subprocess, sys\n"
            "subprocess.run([sys.executable, '-m', 'heal_lib.child', 'sleeps'],"
            " env={**os.environ, 'HEAL_PARENT': str(os.getpid())})")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True,
                              env={**os.environ, "PYTHONPATH": path})
    child = int(parent.stdout.readline())
    parent.kill()
    parent.communicate(timeout=30)
    assert left([child]) == []
