"""The engine for OpenAI-compatible servers, against a real one on this machine around the embedded student."""

import asyncio
import importlib.util
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from heal_lib import embedded, notebooks, scales, serve, teacher, worlds
from heal_lib.engines import SamplingParams, openai
from heal_lib.engines.elsewhere import whole_entropy
from heal_lib.engines.hf import HFEngine
from heal_lib.engines.openai import OpenAIEngine
from heal_lib.errors import HealError

pytestmark = pytest.mark.skipif(importlib.util.find_spec("openai") is None, reason="needs openai")  # a second's import

PARAMS = SamplingParams(60)
SECRETS = ("hunter2", "s3cr3t-key")


@pytest.fixture(scope="module")
def local():
    torch.set_num_threads(1)
    return HFEngine(*embedded.load("student"))


class Faulty(serve.Server):
    """`faults` are used up first: a status, "drop", bytes or a body; `heard` keeps the header Authorization. `hides`:
    parts of an answer that are not told."""

    def __init__(self, engine):
        super().__init__(engine)
        self.faults, self.heard, self.hides = [], [], ()

    def answer(self, request, headers):
        self.heard.append(headers["Authorization"])
        fault = self.faults.pop(0) if self.faults else None
        if fault == "drop":
            return 0, None
        if isinstance(fault, int):
            return fault, {"error": {"message": f"injected\nfor {headers['Authorization']}"}}
        if fault is not None:
            return 200, fault
        status, body = super().answer(request, headers)
        for name in self.hides:
            body["choices"][0].pop(name, body.pop(name, None))
        return status, body


@pytest.fixture
def server(local):
    with Faulty(local) as it:
        yield it


def test_all_that_shapes_a_draw_is_said(local, prompts, monkeypatch):
    """Known wrong turn: what is not said, vLLM takes from the model's generation_config.json (top_k 20 for some)."""
    asked = openai.OpenAIEngine(local, "http://localhost:1/v1", "m")._request(prompts[0], PARAMS, 3)
    assert asked["extra_body"] == {"return_token_ids": True, "top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0}
    assert (asked["temperature"], asked["top_p"], asked["seed"]) == (1.0, 1.0, 3)


@pytest.fixture(scope="module")
def prompts(local):
    problems = worlds.get("equations").problems("test", 2, 0, "easy")
    return [local.prompt(worlds.get("equations").prompt(p)) for p in problems]


def same(a, b):
    return all(x.token_ids == y.token_ids and x.finished == y.finished and x.text == y.text
               and np.allclose(x.entropy, y.entropy, atol=1e-4)
               for group, other in zip(a, b, strict=True) for x, y in zip(group, other, strict=True))


def test_the_same_seeds_give_the_same_draws_as_here(server, local, prompts):
    there = OpenAIEngine(local, server.url, "student")
    here = local.sample(prompts, 3, PARAMS, 5, ["a", "b"])
    assert same(there.sample(prompts, 3, PARAMS, 5, ["a", "b"]), here)
    assert there.drawn == sum(len(d.token_ids) for group in here for d in group)
    server.hides = ("token_ids", "usage")  # a server that tells the text only
    assert same(there.sample(prompts, 3, PARAMS, 5, ["a", "b"]), here)


def test_a_notebook_s_cell_can_ask_which_runs_inside_an_event_loop(server, local, prompts):
    async def cell():
        return OpenAIEngine(local, server.url, "student").sample(prompts, 1, PARAMS, 5)

    assert same(asyncio.run(cell()), local.sample(prompts, 1, PARAMS, 5))


def test_who_is_interrupted_asks_for_nothing_more(server, local, prompts):
    def interrupt():
        while not server.asked:
            time.sleep(0.001)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    there = OpenAIEngine(local, server.url, "student", concurrency=1)
    with server.turn, pytest.raises(KeyboardInterrupt):  # somebody else's turn: the first request waits
        threading.Thread(target=interrupt, daemon=True).start()
        there.sample(prompts, 3, PARAMS, 5)
    time.sleep(0.3)
    assert len(server.asked) == 1


def test_requests_that_wait_are_drawn_together_and_none_waits_for_ever(server, local, prompts, monkeypatch):
    """In batches of those alike; an error in one goes to all of its requests, and to no other."""
    sizes, decode = [], HFEngine._decode

    def counted(engine, asked, n, noise, params):
        sizes.append(len(asked))
        if params.temperature == 2:
            raise ValueError("no room")
        return decode(engine, asked, n, noise, params)

    monkeypatch.setattr(HFEngine, "_decode", counted)
    request = {"model": "m", "prompt": prompts[0], "max_tokens": 9, "top_p": 1.0, "temperature": 1.0}
    asked = [{**request, "seed": i, "temperature": 1.0 + (i == 3)} for i in range(5)]
    with ThreadPoolExecutor(5) as pool:
        with server.turn:  # somebody else's turn, in which all five come to wait
            answers = [pool.submit(serve.Server.answer, server, each, {}) for each in asked]
            while server.waiting.qsize() < 5:
                time.sleep(0.001)
        assert isinstance(answers[3].exception(timeout=60), ValueError) and sorted(sizes) == [1, 4]
        assert all(answers[i].result(timeout=60)[0] == 200 for i in (0, 1, 2, 4))


def test_busy_and_broken_servers_are_asked_again(server, local, prompts):
    server.faults += [429, 500, "drop"]
    there = OpenAIEngine(local, server.url, "student", concurrency=2)
    assert same(there.sample(prompts, 1, PARAMS, 5), local.sample(prompts, 1, PARAMS, 5))


def test_what_was_answered_is_kept_and_not_asked_again(server, local, prompts, tmp_path):
    journal = tmp_path / "deep" / "journal.jsonl"

    def engine():
        return OpenAIEngine(local, server.url, "student", concurrency=1, retries=0, journal=journal)

    server.faults += [{"nonsense": 1}]
    with pytest.raises(HealError):
        engine().sample(prompts[:1], 1, PARAMS, 5)
    first = engine().sample(prompts[:1], 2, PARAMS, 5)
    with journal.open("a") as file:
        file.write('{"request": "cut off')  # a kill in the middle of a line
    again = engine().sample(prompts, 2, PARAMS, 5)
    assert len(server.asked) == 4 and same(again[:1], first)


@pytest.mark.parametrize("fault, message", [
    (401, "the server says 401 .*injected"), (404, "the server says 404"), ("drop", "no answer after 0 retries"),
    ({"choices": [{"text": "x", "finish_reason": "stop", "token_ids": [9, 3]}]}, "its token ids spell another text"),
    ({"choices": [{"text": "x", "finish_reason": "stop", "token_ids": "x"}]}, "no completion"),
    ({"hello": 1}, "no completion"), ({"choices": []}, "no completion"), (b'{"choices": [{"text": "x', "no completion"),
    (b"<html>", "no completion"), (500, "the server says 500"), (429, "the server says 429"),
    ({"choices": [{"text": "x", "finish_reason": "stop", "token_ids": [10**6]}]}, "token ids beyond this tokenizer's"),
    ({"choices": [{"text": "", "finish_reason": "length", "token_ids": []}]}, "an empty completion")])
def test_bad_servers_are_named_in_one_line(server, local, prompts, fault, message):
    server.faults += [fault]
    with pytest.raises(HealError, match=message) as error:
        OpenAIEngine(local, server.url, "student", retries=0).sample(prompts[:1], 1, PARAMS, 5)
    assert "\n" not in str(error.value) and server.url in str(error.value)


def test_nonsense_is_not_kept(server, local, prompts, tmp_path):
    there = OpenAIEngine(local, server.url, "student", retries=0, journal=tmp_path / "journal.jsonl")
    server.faults += [{"choices": [{"text": "x", "finish_reason": "stop", "token_ids": [10**6]}]}]
    with pytest.raises(HealError, match="token ids beyond"):
        there.sample(prompts[:1], 1, PARAMS, 5)
    assert same(there.sample(prompts[:1], 1, PARAMS, 5), local.sample(prompts[:1], 1, PARAMS, 5))


def test_no_server_at_all(local, prompts):
    with pytest.raises(HealError, match="start the server"):
        OpenAIEngine(local, "http://127.0.0.1:9/v1", "student", retries=0).sample(prompts[:1], 1, PARAMS, 5)


def test_scoring_is_the_local_model_s(server, local, prompts):
    there = OpenAIEngine(local, server.url, "student")
    mine, theirs = (e.score(prompts[:1], [prompts[1]])[0] for e in (local, there))
    assert (mine.nll == theirs.nll).all() and there.vocabulary == local.vocabulary and not server.asked


# --- where the server is, and what nobody may read
def test_no_secret_is_said_or_kept(server, local, prompts, monkeypatch, tmp_path):
    monkeypatch.setenv("OPENAI_API_KEY", SECRETS[1])
    url = server.url.replace("http://", "http://me:hunter2@")
    journal = tmp_path / "journal.jsonl"
    other = {"choices": [{"text": "x", "finish_reason": "stop", "token_ids": [9, 3]}]}
    for fault in (401, {"hello": 1}, "drop", other):
        server.faults += [fault]
        with pytest.raises(HealError) as error:
            OpenAIEngine(local, url, "student", retries=0, journal=journal).sample(prompts[:1], 1, PARAMS, 5)
        assert not any(secret in str(error.value) for secret in SECRETS) and "\n" not in str(error.value)
    OpenAIEngine(local, url, "student", journal=journal).sample(prompts[:1], 1, PARAMS, 5)
    assert server.heard[-1].startswith("Basic ")  # the password has arrived, as it should
    OpenAIEngine(local, server.url, "student").sample(prompts[:1], 1, PARAMS, 5)
    assert server.heard[-1] == f"Bearer {SECRETS[1]}"
    assert not any(secret in journal.read_text() for secret in (*SECRETS, server.url))


@pytest.mark.parametrize("url", ["localhost:8000/v1", "http://", "ftp://me:hunter2@host/v1", "http://me:hunter2@[x/v1",
                                 "http://me@host:hunter2/v1", "http://host/v1?key=hunter2"])
def test_what_is_no_address_is_named_and_not_shown(url, monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", "")
    with pytest.raises(HealError, match="^base_url ") as error:
        scales.get("smoke", engine="openai", base_url=url)
    assert "hunter2" not in str(error.value) and "\n" not in str(error.value)


def test_an_address_is_shown_without_its_password():
    assert openai.address("https://me:hunter2@host:8000/v1") == "https://host:8000/v1"
    assert openai.address("http://[::1]:8000/v1") == "http://[::1]:8000/v1"


def test_a_notebook_sets_the_server_and_its_model_and_no_scale_holds_them(monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", "")
    monkeypatch.setenv("HEAL_SERVED_MODEL", "")
    there = {"engine": "openai", "worlds": ["equations"]}
    cfg = scales.get("smoke", **there, base_url="http://me:hunter2@host/v1", teacher_name="big")
    assert os.environ["OPENAI_BASE_URL"] == "http://me:hunter2@host/v1" and openai.served("teacher") == "big"
    assert cfg == scales.get("smoke", **there) and "host" not in repr(cfg) + str(cfg.results_dir)
    one = teacher.drawing(cfg)["engine"].by
    monkeypatch.setenv("HEAL_SERVED_MODEL", "other")
    assert teacher.drawing(cfg)["engine"].by != one and "hunter2" not in one
    with pytest.raises(HealError, match="base_url is for a server, and engine is 'hf'"):
        scales.get("smoke", base_url="http://host/v1")
    with pytest.raises(HealError, match="teacher_name is no text"):
        scales.get("smoke", **there, teacher_name=["big"])


def test_the_driver_injects_no_address_and_refuses_a_saved_one(monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", "")
    monkeypatch.setenv("HEAL_SERVED_MODEL", "")
    known = {"05_main": {"scale": "'demo'", "engine": "None", "base_url": "None", "teacher_name": "None"}}
    pairs = [("engine", "openai"), ("base_url", "http://me:hunter2@host/v1"), ("teacher_name", "big")]
    cfg, given = notebooks.settings("llm", pairs, known)
    assert given == {"engine": "openai"} and cfg.changed == {"engine": "openai"}
    assert os.environ["OPENAI_BASE_URL"] == "http://me:hunter2@host/v1"
    known["05_main"]["base_url"] = "'http://me:hunter2@host/v1'"
    with pytest.raises(HealError, match="parameters cell sets base_url") as error:
        notebooks.settings("llm", pairs, known)
    assert "hunter2" not in str(error.value)


def test_every_notebook_that_asks_the_teacher_can_ask_a_server():
    for path in notebooks.select(None, "smoke") + notebooks.select(None, "llm"):
        declared = notebooks.declared(path)
        if not path.name.startswith(("09_", "99_")):
            assert {"engine", *scales.SERVER} <= declared.keys(), path.name


# --- what it costs, and the whole vocabulary
def test_tokens_are_counted_as_the_server_bills_them(server, local, prompts, monkeypatch, tmp_path):
    monkeypatch.setenv("HEAL_CACHE", str(tmp_path))
    assert openai.used("student") == {"answers": 0, "prompt_tokens": 0, "drawn_tokens": 0}
    there = OpenAIEngine(local, server.url, "student", journal=openai.journal("student"))
    for _ in range(2):  # what is known is asked for, and paid, once
        there.sample(prompts, 2, PARAMS, 5)
    drawn = sum(len(s.token_ids) for group in local.sample(prompts, 2, PARAMS, 5) for s in group)
    assert openai.used("student") == {"answers": 4, "prompt_tokens": 2 * sum(map(len, prompts)), "drawn_tokens": drawn}
    server.hides = ("usage",)
    there.sample(prompts, 1, PARAMS, 6)
    assert openai.used("student")["prompt_tokens"] == 3 * sum(map(len, prompts))


def test_entropies_of_the_whole_vocabulary_are_taken_and_others_never(server, local, prompts, monkeypatch):
    right, scored = local.sample(prompts, 2, PARAMS, 5), []
    there = OpenAIEngine(local, server.url, "student", logprobs=True)
    monkeypatch.setattr(local, "score", lambda p, c: scored.append(len(p)) or HFEngine.score(local, p, c))
    server.most = there.width
    assert same(there.sample(prompts, 2, PARAMS, 5), right) and scored == [0]
    server.most = there.width - 1  # all but one: a bound, so it is read again here
    assert same(there.sample(prompts, 2, PARAMS, 5), right) and scored == [0, 4]
    server.asked.clear()
    warm = SamplingParams(60, temperature=0.7)  # nothing says whether a server tells them before or after temperature
    assert same(there.sample(prompts, 1, warm, 5), local.sample(prompts, 1, warm, 5))
    assert not any("logprobs" in request for request in server.asked)


def test_entropy_of_rows_by_hand():
    half, sure = [np.log(0.5), np.log(0.5), -9999.0], [0.0, -np.inf, -np.inf]
    assert whole_entropy([half, sure], 3) == pytest.approx([np.log(2), 0])
    assert whole_entropy([half[:2]], 3) is None and whole_entropy([[-1.0, -9.0, -9.0]], 3) is None
    assert whole_entropy([], 3) is None
