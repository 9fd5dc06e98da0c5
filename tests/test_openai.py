"""The engine for OpenAI-compatible servers, against a real one on this machine around the embedded student."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch

from heal_lib import embedded, worlds
from heal_lib.engines import SamplingParams
from heal_lib.engines.hf import HFEngine
from heal_lib.errors import HealError

pytest.importorskip("openai")
from heal_lib.engines.openai import OpenAIEngine  # noqa: E402

PARAMS = SamplingParams(60)


@pytest.fixture(scope="module")
def local():
    torch.set_num_threads(1)
    return HFEngine(*embedded.load("student"))


@pytest.fixture
def server(local):
    """Serves /v1/completions as vLLM does, token ids included. `faults` are used up first: a status, "drop", or a body;
    `asked` keeps what was asked for and answered."""
    faults, asked, lock = [], [], threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                fault = faults.pop(0) if faults else None
                if fault == "drop":
                    return self.connection.close()
                if isinstance(fault, int):
                    return self._say(fault, {"error": {"message": "injected"}})
                if fault is not None:
                    return self._say(200, fault)
                asked.append(request)
                params = SamplingParams(request["max_tokens"], request["temperature"], top_p=request["top_p"])
                noise = np.random.default_rng(request["seed"]).random((1, params.max_new_tokens))
                (draw,) = local._decode([request["prompt"]], 1, noise, params)
            reason = "stop" if draw.finished else "length"
            choice = {"index": 0, "text": draw.text, "finish_reason": reason, "logprobs": None}
            if not getattr(self.server, "hides_ids", False):
                choice["token_ids"] = draw.token_ids
            self._say(200, {"id": "1", "object": "text_completion", "created": 0, "model": request["model"],
                            "choices": [choice]})

        def _say(self, status, body):
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_):
            pass

    it = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    it.faults, it.asked, it.url = faults, asked, f"http://127.0.0.1:{it.server_port}/v1"
    threading.Thread(target=it.serve_forever, daemon=True).start()
    yield it
    it.shutdown()
    it.server_close()


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
    server.hides_ids = True  # a server that tells the text only
    assert same(there.sample(prompts, 3, PARAMS, 5, ["a", "b"]), here)


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
    ({"hello": 1}, "no completion"), ({"choices": []}, "no completion"),
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
