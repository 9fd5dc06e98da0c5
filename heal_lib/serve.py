"""Models behind OpenAI's completions protocol, on this machine only: what `-p engine openai` talks to, for rehearsals,
tests and `make bench`. Like `vllm serve` it takes token ids and seeds, and tells token ids, usage and logprobs.

    python -m heal_lib.serve teacher registers-teacher --port 8000"""

from __future__ import annotations

import json
import queue
import sys
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from heal_lib import console, embedded
from heal_lib.engines import Sample, SamplingParams
from heal_lib.engines.hf import HFEngine

if TYPE_CHECKING:
    from email.message import Message

GATHER = 0.01  # seconds: answers to a batch bring the next requests, one after the other


class Server(ThreadingHTTPServer):
    """engine: a local `HFEngine`; port 0 is any free one, see `url`. Requests that wait are worked on together. models:
    those that are asked for by these names; what is asked for by any other is `engine`.

    most: log-probabilities that it tells of a token, at most. `asked` keeps the requests."""

    daemon_threads: bool = True
    request_queue_size: int = 128

    def __init__(self, engine: HFEngine, port: int = 0, most: int = 20, models: Mapping[str, HFEngine] | None = None):
        super().__init__(("127.0.0.1", port), _Handler)
        self.engine: HFEngine = engine
        self.models: Mapping[str, HFEngine] = models or {}
        self.most: int = most
        self.asked: list[dict[str, Any]] = []
        self.waiting: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.turn: threading.Lock = threading.Lock()
        self.url: str = f"http://127.0.0.1:{self.server_port}/v1"

    def __enter__(self) -> Server:
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()  # how soon it can be ended
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    def answer(self, request: dict[str, Any], headers: Message) -> tuple[int, object]:
        """(status, body) for a request."""
        params = SamplingParams(request["max_tokens"], request["temperature"],
                                max(0, request.get("top_k", 0)), request["top_p"])
        self.asked.append(request)
        how = self.models.get(request["model"], self.engine), params
        self.waiting.put((request, how, body := Future()))
        with self.turn:  # whoever comes first answers all that wait
            taken = []
            if not body.done():
                time.sleep(GATHER)
            while not body.done():
                try:
                    taken.append(self.waiting.get_nowait())
                except queue.Empty:
                    self._draw(taken)
        return 200, body.result()

    def _draw(self, taken: list[tuple]) -> None:
        """Answers requests, those of a model with the same parameters in one batch; an error goes to all that wait for
        it."""
        for engine, params in dict.fromkeys(how for _, how, _ in taken):
            alike = [(request, body) for request, how, body in taken if how == (engine, params)]
            try:
                noise = [np.random.default_rng(request["seed"]).random(params.max_new_tokens) for request, _ in alike]
                draws = engine._decode([request["prompt"] for request, _ in alike], 1, np.stack(noise), params)
                for (request, body), draw in zip(alike, draws, strict=True):
                    body.set_result(self._body(engine, request, draw))
            except Exception as error:
                for _, body in alike:
                    if not body.done():
                        body.set_exception(error)

    def _body(self, engine: HFEngine, request: dict, draw: Sample) -> dict:
        told = self._logprobs(engine, request, draw.token_ids) if request.get("logprobs") else None
        choice = {"index": 0, "text": draw.text, "finish_reason": "stop" if draw.finished else "length",
                  "logprobs": told, "token_ids": draw.token_ids}
        usage = {"prompt_tokens": len(request["prompt"]), "completion_tokens": len(draw.token_ids)}
        usage["total_tokens"] = sum(usage.values())
        return {"id": "1", "object": "text_completion", "created": 0, "model": request["model"], "choices": [choice],
                "usage": usage}

    @torch.inference_mode()
    def _logprobs(self, engine, request, ids) -> dict:
        """The largest raw log-probabilities at each token drawn."""
        read = torch.tensor([[*request["prompt"], *ids]])
        logp = torch.log_softmax(engine.model(read).logits[0, len(request["prompt"]) - 1 : -1].float(), -1)
        top, which = logp.topk(min(request["logprobs"], self.most, logp.shape[-1]))
        rows = [{f"token_id:{i}": p for i, p in zip(names, row, strict=True)}
                for names, row in zip(which.tolist(), top.tolist(), strict=True)]
        return {"top_logprobs": rows, "tokens": [f"token_id:{i}" for i in ids], "text_offset": [],
                "token_logprobs": logp[range(len(ids)), ids].tolist()}


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        status, body = self.server.answer(request, self.headers)
        if body is None:
            return self.connection.close()
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args) -> None:
        """Says nothing."""


def main(argv: list[str] | None = None) -> int:
    """Serves models until it is interrupted."""
    parser = console.Parser("serve", __doc__.splitlines()[0])
    parser.add_argument("model", nargs="+", help="a shipped model's name, or a folder")
    parser.add_argument("--port", type=int, default=8000)
    args = parser.parse_args(argv)
    models = {name: HFEngine(*embedded.load(name)) for name in args.model}
    server = Server(models[args.model[0]], args.port, most=10**6, models=models)
    print(f"{', '.join(models)} at {server.url}; Ctrl-C ends it", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        server.server_close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
