"""Workers: many stages side by side, whatever happens to them or to who asked."""

import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

import pytest

from heal_lib import workers
from heal_lib.errors import HealError
from heal_lib.files import ROOT

STAGES = """
    import os, time
    from heal_lib.errors import HealError

    def say(*, word, after=(), folder):
        (folder / "said").write_text(f"{word} {os.getpid()}")

    def refuse(*, folder):
        raise HealError("refused; give another")

    def break_down(*, folder):
        {}["nothing"]

    def die(*, folder):
        os.kill(os.getpid(), 9)

    def sleep(*, folder, note):
        open(note, "w").write(str(os.getpid()))
        time.sleep(600)
"""


def test_on_a_gpu_nothing_that_takes_hold_of_it_is_imported_before_workers_are_forked(monkeypatch):
    """peft and TRL import bitsandbytes, which does: seen on a card."""
    commands = []

    class Ended:
        def __init__(self, command, **_):
            commands.append(command)

        def poll(self):
            return 0

    monkeypatch.setattr(workers.subprocess, "Popen", Ended)
    for device in ("cpu", "cuda"):
        monkeypatch.setenv("DEVICE", device)
        workers.start()
    cpu, cuda = (set(command) for command in commands)
    assert set(workers.PRELOADED) <= cpu and set(workers.PRELOADED) & cuda == {*workers.PRELOADED} - {
        "peft", "trl.trainer.sft_trainer"}


def test_a_long_name_of_the_folder_for_temporary_files_is_no_hindrance(tmp_path, monkeypatch):
    """The system's names of sockets are short."""
    (long := tmp_path / ("long" * 25)).mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    monkeypatch.setattr(workers, "PRELOADED", ())
    name, process = workers.start()
    assert process.poll() is None and len(name) < 100 and not list(long.iterdir())
    process.communicate(timeout=30)
    assert not Path(name).parent.exists()


def test_a_pool_that_does_not_start_is_told_at_once(monkeypatch, capfd):
    monkeypatch.setattr(workers.sys, "executable", "/bin/false")
    with pytest.raises(HealError, match=r"pool of workers did not start \(exit code 1\); mend what it says above"):
        workers.start()


def run(tmp_path, script, wait=True):
    """Runs a script that finds the module `work` with the functions above, and a store in `store`."""
    (tmp_path / "work.py").write_text(textwrap.dedent(STAGES))
    head = ("import os, sys, work\nfrom heal_lib import workers\nfrom heal_lib.errors import HealError\n"
            "from heal_lib.stage import Stage\nfrom heal_lib.store import Store\nworkers.PRELOADED = ()\n"
            f"store = Store({str(tmp_path / 'cache')!r})\n")
    (tmp_path / "script.py").write_text(head + textwrap.dedent(script))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(tmp_path)])}
    for name in ("HEAL_POOL", "HEAL_IN_WORKER", "HEAL_EVENTS"):
        environment.pop(name, None)
    process = subprocess.Popen([sys.executable, "script.py"], cwd=tmp_path, env=environment, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True, start_new_session=True)
    if not wait:
        return process
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0 and "Traceback" not in err, err
    return out


def alive(pid):
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


def test_stages_are_made_by_workers_in_the_order_that_they_need(tmp_path):
    out = run(tmp_path, """
        first = [Stage(f"first {i}", work.say, {"word": i}) for i in range(3)]
        last = Stage("last", work.say, {"word": "last", "after": first})
        workers.have(store, [last, first[0]], 2)
        pids = {(store.get(s).folder / "said").read_text().split()[1] for s in [*first, last]}
        print(len(pids) <= 2, str(os.getpid()) in pids, [e.what for e in store.events])
        again = Store(store.root)
        workers.have(again, [last], 2)
        print([e.what for e in again.events])
    """)
    lines = [line for line in out.splitlines() if not line.startswith("made ")]
    assert lines == ["True False ['made', 'made', 'made', 'made']", "['reused', 'reused', 'reused', 'reused']"]


def test_what_goes_wrong_in_a_worker_reaches_who_asked_and_the_next_call_works(tmp_path):
    out = run(tmp_path, """
        for function in (work.refuse, work.break_down, work.die):
            try: workers.have(store, [Stage("bad", function), Stage("good", work.say, {"word": function.__name__})], 2)
            except Exception as error: print(type(error).__name__, error)
        workers.have(store, [Stage("good", work.say, {"word": "end"})], 2)
        print(store.events[-1].what)
    """)
    lines = [line for line in out.splitlines() if not line.startswith("made ")]
    assert lines[0] == "HealError refused; give another" and lines[1] == "KeyError 'nothing'"
    assert lines[2].startswith("HealError bad: its worker was killed") and lines[3] == "made"


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_no_process_outlives_who_asked(tmp_path, how):
    """Also where signals are ignored: workers end with their line, and their parent with its input."""
    process = run(tmp_path, """
        import signal
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs ignore it
        workers.have(store, [Stage(f"long {i}", work.sleep, {"note": f"pid-{i}"}) for i in range(2)], 2)
    """, wait=False)
    notes = [tmp_path / f"pid-{i}" for i in range(2)]
    for _ in range(1200):
        if all(note.exists() and note.read_text() for note in notes):
            break
        time.sleep(0.1)
    pids = [int(note.read_text()) for note in notes]
    parents = [int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]) for pid in pids]
    os.kill(process.pid, how)
    process.communicate(timeout=60)
    for _ in range(100):
        if not any(map(alive, [*pids, *parents])):
            return
        time.sleep(0.1)
    raise AssertionError("a worker, or what it was forked from, is still there")


def test_the_pool_ends_while_it_still_imports(tmp_path):
    """What a run is stopped in: its first seconds."""
    (tmp_path / "long.py").write_text("import time\nprint('begun', flush=True)\ntime.sleep(60)\n")
    (tmp_path / "pool").mkdir()
    path = os.pathsep.join([str(tmp_path), str(ROOT), os.environ.get("PYTHONPATH", "")])
    process = subprocess.Popen([sys.executable, "-m", "heal_lib.workers", str(tmp_path / "pool" / "pool"), "long"],
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": path})
    assert process.stdout.readline() == b"begun\n"
    process.communicate(timeout=5)
    assert process.returncode == 0 and not (tmp_path / "pool").exists()
