"""Sampling from any server that speaks OpenAI's completions protocol (vLLM, SGLang, ...); scoring with a local model.

    prompts as token ids -> POST /v1/completions -> text (and token ids, where the server tells them)

A request carries a seed of its own, so a draw does not depend on what runs beside it. What was answered is kept in a
journal, one line each, with the tokens it cost: a run that is stopped goes on, and asks for nothing twice.
OPENAI_BASE_URL says where the server is, HEAL_SERVED_MODEL what the model is called there; the parameters `base_url`
and `teacher_name` set them. With HEAL_LOGPROBS=1 the whole vocabulary's log-probabilities are asked for, and entropies
are theirs where the server gives them all: for small vocabularies, and with `vllm serve --max-logprobs -1`."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from heal_lib import embedded, watch
from heal_lib.engines import SamplingParams, needs
from heal_lib.engines.elsewhere import Drawn, DrawnElsewhere, untouched, whole_entropy
from heal_lib.engines.words import BROKEN
from heal_lib.errors import HealError
from heal_lib.files import default_root, hash_of

if TYPE_CHECKING:  # who only wants to know a server's name waits for no torch
    from heal_lib.engines.hf import HFEngine

VARIABLES = ("HEAL_LOGPROBS",)
EXAMPLE = "such as http://localhost:8000/v1"


def check() -> None:
    """Raises HealError where it cannot run."""
    needs("openai")
    if not os.environ.get("OPENAI_BASE_URL"):
        raise HealError(f"engine 'openai' needs a server: give base_url, or set OPENAI_BASE_URL, {EXAMPLE}")
    address(os.environ["OPENAI_BASE_URL"])


def build(name: str) -> OpenAIEngine:
    """The server at OPENAI_BASE_URL beside a local copy of the model."""
    from heal_lib.engines.hf import HFEngine

    return OpenAIEngine(HFEngine(*embedded.load(name)), os.environ["OPENAI_BASE_URL"], served(name),
                        journal=journal(name), logprobs=bool(os.environ.get("HEAL_LOGPROBS")))


def served(name: str) -> str:
    """What the server calls a model."""
    return os.environ.get("HEAL_SERVED_MODEL") or name


def journal(name: str) -> Path:
    """The file that keeps what servers answered for a model."""
    return default_root() / "answers" / f"{embedded.model_hash(name)[:16]}.jsonl"


def used(*names: str) -> dict[str, int]:
    """What servers were asked for these models, by the journals of this cache: answers, tokens of prompts, tokens
    drawn."""
    costs = [answer.get("usage") or [0, 0] for path in {journal(name) for name in names}
             for answer in _read(path).values()]
    return {"answers": len(costs), "prompt_tokens": sum(p for p, _ in costs), "drawn_tokens": sum(d for _, d in costs)}


def address(url: str) -> str:
    """A server's address as it may be shown: without user, password and what else could be secret. Raises HealError,
    which does not show it, for what is no address."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or parts.scheme not in ("http", "https"):
        raise HealError(f"base_url is no address of a server; give one {EXAMPLE}")
    if parts.query or parts.fragment:
        raise HealError(f"base_url has a ? or # in it; give one {EXAMPLE}, and a key as OPENAI_API_KEY")
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}{f':{port}' if port else ''}{parts.path}"


class OpenAIEngine(DrawnElsewhere):
    """scorer: a local `HFEngine` of the same model. base_url: such as http://localhost:8000/v1. model: its name there.

    The key is read from the environment (OPENAI_API_KEY), never stored; errors show neither it nor a password."""

    def __init__(self, scorer: HFEngine, base_url: str, model: str, *, concurrency: int = 16, retries: int = 6,
                 timeout: float = 600.0, journal: Path | None = None, logprobs: bool = False):
        super().__init__(scorer)
        self.where: str
        self.base_url: str
        self.model: str
        self.journal: Path | None
        self.logprobs: bool
        self.concurrency: int
        self.retries: int
        self.timeout: float
        self.where, self.base_url = address(base_url), base_url
        self.model, self.journal, self.logprobs = model, journal, logprobs
        self.concurrency, self.retries, self.timeout = concurrency, retries, timeout

    def answers(self, prompts: Sequence[Sequence[int]], params: SamplingParams, seeds: list[int]) -> list[Drawn]:
        """See `DrawnElsewhere.answers`. Raises HealError where the server cannot be reached or answers nonsense."""
        asked = [self._request(prompt, params, seed) for prompt, seed in zip(prompts, seeds, strict=True)]
        known = _read(self.journal)
        _finish(self._ask([request for request in asked if hash_of(request) not in known], known))
        found = [known[hash_of(request)] for request in asked]
        return [Drawn(self._ids(one), one["finish_reason"] == "stop", one.get("entropy")) for one in found]

    def _ids(self, answer: dict) -> list[int]:
        """The token ids of an answer, which have to spell its text."""
        ids, text = answer["token_ids"], answer["text"]
        if ids is None:
            return self.encode(text)
        known = all(type(token) is int and 0 <= token < len(self.tokenizer) for token in ids)  # if not: see `_whole`
        if known and BROKEN not in text and "".join("".join(self.pieces(ids)).split()) != "".join(text.split()):
            raise HealError(f"{self.where}: its token ids spell another text here; does it serve the same model?")
        return ids

    def _request(self, prompt, params: SamplingParams, seed: int) -> dict:
        # All is said: what is not, a server may take from the model's generation_config.json.
        extra = {"return_token_ids": True, "top_k": params.top_k or -1, "min_p": 0.0, "repetition_penalty": 1.0}
        request = {"model": self.model, "prompt": list(prompt), "max_tokens": params.max_new_tokens, "seed": seed,
                   "temperature": params.temperature, "top_p": params.top_p, "extra_body": extra}
        if self.logprobs and untouched(params):
            request["logprobs"] = self.width
            extra["return_tokens_as_token_ids"] = True  # by their text, tokens that look alike would be one
        return request

    async def _ask(self, requests: list[dict], known: dict) -> None:
        """Sends what is not known yet; every answer is written down before the next is waited for."""
        from openai import AsyncOpenAI

        free = asyncio.Semaphore(self.concurrency)
        client = AsyncOpenAI(base_url=self.base_url, api_key=os.environ.get("OPENAI_API_KEY", "none"),
                             max_retries=self.retries, timeout=self.timeout)

        async def one(request):
            async with free:
                completion = await client.completions.create(**request)
                known[hash_of(request)] = answer = self._answer(completion, request)
                self._write(request, answer)
                watch.tick()

        try:
            async with client, asyncio.TaskGroup() as group:
                for request in requests:
                    group.create_task(one(request))
        except ExceptionGroup as errors:
            raise self._said(errors.exceptions[0]) from None

    def _answer(self, completion, request: dict) -> dict:
        """What is kept of a completion. Raises what `_said` words where it is none: nonsense would be kept."""
        choice = completion.choices[0].model_dump()
        answer = {key: choice.get(key) for key in ("text", "finish_reason", "token_ids")}
        if not isinstance(answer["text"], str) or not isinstance(answer["token_ids"] or [], list):
            raise ValueError
        ids = self._ids(answer)
        self._whole(ids, answer["finish_reason"] == "stop")
        told = [getattr(completion.usage, name, None) for name in ("prompt_tokens", "completion_tokens")]
        answer["usage"] = told if all(type(n) is int for n in told) else [len(request["prompt"]), len(ids)]
        if "logprobs" in request and answer["token_ids"]:
            rows = (choice.get("logprobs") or {}).get("top_logprobs") or []
            entropy = whole_entropy([list(row.values()) for row in rows], self.width)
            answer["entropy"] = None if entropy is None else entropy.tolist()
        return answer

    def _said(self, error: Exception) -> Exception:
        """One line for what a server does wrong; any other error as it is."""
        from openai import APIConnectionError, APIStatusError, OpenAIError

        if isinstance(error, APIConnectionError):  # a timeout is one
            return HealError(f"{self.where}: no answer after {self.retries} retries ({self._shown(str(error))}); start "
                             "the server, what was answered is kept")
        if isinstance(error, APIStatusError):
            return HealError(f"{self.where}: the server says {error.status_code} ({self._shown(error.message)})")
        if isinstance(error, OpenAIError | IndexError | TypeError | AttributeError | ValueError):
            return HealError(f"{self.where}: the answer is no completion; does it speak OpenAI's protocol?")
        return error

    def _shown(self, text: str) -> str:
        """What a server says, as one short line that holds no secret: some repeat what they were sent."""
        parts = urlsplit(self.base_url)
        secrets = [os.environ.get("OPENAI_API_KEY"), parts.username, parts.password]
        for secret in filter(None, secrets):
            text = text.replace(secret, "***").replace(unquote(secret), "***")
        return " ".join(text.split())[:120]

    def _write(self, request: dict, answer: dict) -> None:
        if self.journal:
            self.journal.parent.mkdir(parents=True, exist_ok=True)
            with self.journal.open("ab", buffering=0) as file:  # a line in one piece: processes may share a journal
                file.write(f"{json.dumps({'request': hash_of(request), 'answer': answer})}\n".encode())


def _finish(work: Coroutine) -> None:
    """Runs a coroutine in a thread of its own: a notebook's cell is run by an event loop, and a thread has but one. Who
    is interrupted meanwhile asks for nothing more."""
    loop = asyncio.new_event_loop()
    try:
        with ThreadPoolExecutor(1) as pool:
            task = loop.create_task(work)
            try:
                pool.submit(loop.run_until_complete, task).result()
            except BaseException:
                loop.call_soon_threadsafe(task.cancel)
                raise
    finally:
        loop.close()


def _read(path: Path | None) -> dict:
    """{request: answer} of a journal."""
    known = {}
    for line in path.read_text().splitlines() if path and path.exists() else ():
        try:
            entry = json.loads(line)
            known[entry["request"]] = entry["answer"]
        except (ValueError, KeyError, TypeError):
            continue  # a line that was being written when the run was stopped
    return known
