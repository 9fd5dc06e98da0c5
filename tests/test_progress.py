"""Progress: what is shown where, how often, and that nothing else changes. Clock and streams are this file's."""

import copy
import io
import re
import subprocess
import sys
import types

import numpy as np
import pytest

from heal_lib import progress, training, workers
from heal_lib.engines import SamplingParams
from heal_lib.engines.hf import HFEngine
from heal_lib.files import ROOT
from heal_lib.stage import Stage
from heal_lib.store import Store

LINE = re.compile(r"sampling: \d+/\d+ samples, [\d.]+ samples/s; about \d\d:\d\d left")


class Stream(io.StringIO):
    terminal = False

    def isatty(self):
        return self.terminal


def streams(monkeypatch):
    """Streams that are `progress`'s alone: pytest has plans with the others."""
    it = types.SimpleNamespace(stderr=Stream(), stdout=Stream(), __stderr__=Stream(), modules=dict(sys.modules))
    monkeypatch.setattr(progress, "sys", it)
    return it


@pytest.fixture
def err(monkeypatch):
    monkeypatch.delenv(progress.IN_WORKER, raising=False)
    monkeypatch.delenv("RANK", raising=False)
    return streams(monkeypatch).stderr


@pytest.fixture
def clock(monkeypatch):
    """A clock that goes on when it is told to."""
    import tqdm.std

    it = types.SimpleNamespace(now=1000.0)
    it.wait = lambda seconds: setattr(it, "now", it.now + seconds)
    monkeypatch.setattr(tqdm.std, "time", lambda: it.now)
    return it


def work(clock, n, seconds, what="sampling"):
    with progress.bar(what, n, "sample"):
        for _ in range(n):
            clock.wait(seconds)
            progress.tick()


# --- how much, and where
def test_a_log_gets_whole_lines_with_rate_and_time_left_at_most_one_in_ten_seconds(err, clock):
    work(clock, 1000, 0.125)  # two minutes
    lines = err.getvalue().splitlines()
    assert len(lines) == 12 and all(LINE.fullmatch(line) for line in lines)
    assert lines[4] == "sampling: 400/1000 samples, 8.0 samples/s; about 01:15 left"
    assert "\r" not in err.getvalue() and err.getvalue().endswith("\n")


def test_slow_steps_get_a_line_each_and_no_more(err, clock):
    work(clock, 3, 60)
    assert [line.split(",")[0] for line in err.getvalue().splitlines()] == [
        "sampling: 1/3 samples", "sampling: 2/3 samples", "sampling: 3/3 samples"]
    assert "about 02:00 left" in err.getvalue()


@pytest.mark.parametrize("terminal", [False, True])
def test_what_takes_less_than_two_seconds_shows_nothing(err, clock, terminal):
    err.terminal = terminal
    work(clock, 15, 0.1)
    assert not err.getvalue().strip()


def test_a_terminal_has_one_line_that_is_written_over_and_taken_away(err, clock):
    err.terminal = True
    work(clock, 100, 0.1)
    shown = err.getvalue()
    assert "\n" not in shown and 10 <= shown.count("\r") <= 25 and "about" in shown
    assert shown.split("\r")[-2].strip() == "" == shown.split("\r")[-1]


def test_an_inner_bar_tells_the_outer_one_s_place(err, clock):
    with progress.bar("working", 4, "student"):
        progress.tick()
        work(clock, 2, 15, "training")
        progress.tick(9)  # more than there are
    assert [line.split(" samples")[0] for line in err.getvalue().splitlines()] == [
        "1/4 students, training: 1/2", "1/4 students, training: 2/2",
        "working: 4/4 students, 7.5 s each; about 00:00 left"]


def test_workers_and_other_ranks_show_nothing_and_count_all_the_same(err, clock, monkeypatch):
    for name, value in ((progress.IN_WORKER, "1"), ("RANK", "1")):
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            work(clock, 3, 60)
    assert err.getvalue() == ""
    progress.tick()  # outside of any bar


def test_a_failure_leaves_no_bar_behind(err, clock):
    with pytest.raises(ValueError), progress.bar("working", 2, "student"):
        raise ValueError
    assert progress._open == []


def test_a_line_on_stdout_takes_an_unfinished_one_off_the_terminal(err, monkeypatch):
    out = progress.sys.stdout
    monkeypatch.setattr(progress, "print", lambda text, end, flush: out.write(text + end), raising=False)
    progress.say("made a")
    with progress.bar("working", 2, "student"):
        progress.say("made b")
        out.terminal = True
        progress.say("made c")
    assert out.getvalue() == "made a\nmade b\n\r\x1b[Kmade c\n"


def test_a_notebook_of_the_driver_s_holds_no_progress_and_one_in_jupyterlab_a_bar(monkeypatch, clock):
    from tqdm.notebook import tqdm as notebook_bar

    class Kernels(Stream):
        pass

    Kernels.__module__ = "ipykernel.iostream"
    its = streams(monkeypatch)
    its.modules["ipykernel"], its.stderr = None, Kernels()
    monkeypatch.delenv("HEAL_EVENTS", raising=False)
    monkeypatch.delenv(progress.IN_WORKER, raising=False)
    assert progress._look()[0] is notebook_bar
    monkeypatch.setenv("HEAL_EVENTS", "events")
    work(clock, 3, 60)
    assert its.stderr.getvalue() == "" and len(its.__stderr__.getvalue().splitlines()) == 3


# --- who shows it
def test_sampling_and_scoring_count_rows_and_change_nothing(tiny, words, err, clock):
    plain = HFEngine(tiny, words, batch_rows=4, batch_tokens=32)
    shown = progress.Watched(plain)
    asked = [plain.encode(text) for text in ("equation x*3+2=23\n\n", "facts\n\n", "countdown 3 4 6 to 27\n\n", "path")]
    params = SamplingParams(6)
    hook = tiny.register_forward_pre_hook(lambda *_: clock.wait(11))
    drawn = shown.sample(asked, 2, params, 0)
    samples = err.getvalue().splitlines()
    scores = shown.score(asked, [group[0].token_ids for group in drawn])
    tails = shown.tail_nll(asked, [group[0].token_ids for group in drawn], [[0]] * 4, [[5]] * 4)
    hook.remove()
    assert [[d.token_ids for d in group] for group in drawn] == [
        [d.token_ids for d in group] for group in plain.sample(asked, 2, params, 0)]
    for mine, right in zip(scores, plain.score(asked, [g[0].token_ids for g in drawn]), strict=True):
        np.testing.assert_array_equal(mine.nll, right.nll)
    assert [tail.shape for tail in tails] == [(1, 1)] * 4 and shown.vocabulary == plain.vocabulary
    assert samples[0].startswith("sampling: 4/8 samples") and "scoring: " in err.getvalue()
    assert not tiny._forward_pre_hooks  # none is left behind


def test_training_tells_updates_tokens_per_second_and_the_time_left(tiny, words, err, clock):
    rows = [{"input_ids": [5, 6, 7, 8], "completion_mask": [0, 0, 1, 1]}] * 12
    model = copy.deepcopy(tiny).train()
    model.register_forward_pre_hook(lambda *_: clock.wait(20))
    log = training.fit(model, words, rows, training.TrainConfig(1e-3, batch_size=4))
    lines = err.getvalue().splitlines()
    assert len(log) == 3 and [line.split(",")[0] for line in lines if "training" in line] == [
        "training: 1/3 updates", "training: 2/3 updates", "training: 3/3 updates"]
    assert lines[0].endswith("20.0 s each, 1 tokens/s; about 00:40 left")


def test_a_worker_s_training_shows_nothing(tiny, words, err, clock, monkeypatch):
    monkeypatch.setenv(progress.IN_WORKER, "1")
    rows = [{"input_ids": [5, 6, 7, 8], "completion_mask": [0, 0, 1, 1]}] * 8
    model = copy.deepcopy(tiny).train()
    model.register_forward_pre_hook(lambda *_: clock.wait(20))
    assert len(training.fit(model, words, rows, training.TrainConfig(1e-3, batch_size=4))) == 2
    assert err.getvalue() == ""


def noted(*, folder, word):
    (folder / "word").write_text(word)


def test_stages_are_counted_by_who_asked_for_them(err, clock, monkeypatch, tmp_path):
    some = Store(tmp_path)
    monkeypatch.setattr(some, "get", lambda stage: clock.wait(30))
    workers.have(some, [Stage(f"stage {i}", noted, {"word": str(i)}) for i in range(3)], 1)
    said = [line.split(",")[0] for line in err.getvalue().splitlines()]
    assert said == [f"working: {i}/3 stages" for i in (1, 2, 3)]


def test_a_worker_tells_who_started_it_how_far_it_is(err, monkeypatch):
    times = iter(range(0, 1000, 3))
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(times))
    heard = []
    monkeypatch.setattr(progress, "told", heard.append)
    with progress.bar("sampling", 40, "sample"):
        for _ in range(4):
            progress.tick(10)
    assert [words.split(",")[1] for words in heard] == [" 10/40 samples", " 20/40 samples", " 30/40 samples"]
    assert all("s left" in words for words in heard)


def test_the_command_line_loads_no_tqdm_before_it_shows_something():
    code = "import sys, heal_lib.cli, heal_lib.progress; sys.exit('tqdm' in sys.modules or 'torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
