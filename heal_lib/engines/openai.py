"""Sampling from any server that speaks OpenAI's completions protocol (vLLM, SGLang, ...); scoring with a local model.

    prompts as token ids -> POST /v1/completions -> text (and token ids, where the server tells them)

A request carries a seed of its own, so a draw does not depend on what runs beside it. What was answered is kept in a
journal, one line each: a run that is stopped goes on, and asks for nothing twice. OPENAI_BASE_URL says where the server
is, HEAL_SERVED_MODEL what the model is called there."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

from heal_lib import embedded, progress
from heal_lib.engines import SamplingParams, needs
from heal_lib.engines.elsewhere import DrawnElsewhere
from heal_lib.engines.hf import HFEngine
from heal_lib.engines.words import BROKEN
from heal_lib.errors import HealError
from heal_lib.files import default_root, hash_of


def check() -> None:
    """Raises HealError where it cannot run."""
    needs("openai")
    if not os.environ.get("OPENAI_BASE_URL"):
        raise HealError("engine 'openai' needs OPENAI_BASE_URL, such as http://localhost:8000/v1")


def build(name: str) -> OpenAIEngine:
    """The server at OPENAI_BASE_URL beside a local copy of the model."""
    return OpenAIEngine(HFEngine(*embedded.load(name)), os.environ["OPENAI_BASE_URL"],
                        os.environ.get("HEAL_SERVED_MODEL") or name,
                        journal=default_root() / "answers" / f"{embedded.weights_hash(name)[:16]}.jsonl")


class OpenAIEngine(DrawnElsewhere):
    """scorer: a local `HFEngine` of the same model. base_url: such as http://localhost:8000/v1. model: its name there.

    The key is read from the environment (OPENAI_API_KEY), never stored."""

    def __init__(self, scorer: HFEngine, base_url: str, model: str, *, concurrency: int = 16, retries: int = 6,
                 timeout: float = 600.0, journal: Path | None = None):
        super().__init__(scorer)
        self.where = self.base_url = base_url
        self.model, self.journal = model, journal
        self.concurrency, self.retries, self.timeout = concurrency, retries, timeout

    def answers(self, prompts, params: SamplingParams, seeds: list[int]) -> list[tuple[list[int], bool]]:
        """See `DrawnElsewhere.answers`. Raises HealError where the server cannot be reached or answers nonsense."""
        asked = [self._request(prompt, params, seed) for prompt, seed in zip(prompts, seeds, strict=True)]
        known = self._known()
        asyncio.run(self._ask([request for request in asked if hash_of(request) not in known], known))
        answers = [known[hash_of(request)] for request in asked]
        return [(self._ids(answer), answer["finish_reason"] == "stop") for answer in answers]

    def _ids(self, answer: dict) -> list[int]:
        """The token ids of an answer, which have to spell its text."""
        ids, text = answer["token_ids"], answer["text"]
        if ids is None:
            return self.encode(text)
        known = all(type(token) is int and 0 <= token < len(self.tokenizer) for token in ids)  # if not: see `_whole`
        if known and BROKEN not in text and "".join("".join(self.pieces(ids)).split()) != "".join(text.split()):
            raise HealError(f"{self.base_url}: its token ids spell another text here; does it serve the same model?")
        return ids

    def _request(self, prompt, params: SamplingParams, seed: int) -> dict:
        extra = {"return_token_ids": True, **({"top_k": params.top_k} if params.top_k else {})}
        return {"model": self.model, "prompt": list(prompt), "max_tokens": params.max_new_tokens, "seed": seed,
                "temperature": params.temperature, "top_p": params.top_p, "extra_body": extra}

    async def _ask(self, requests: list[dict], known: dict) -> None:
        """Sends what is not known yet; every answer is written down before the next is waited for."""
        from openai import AsyncOpenAI

        free = asyncio.Semaphore(self.concurrency)
        client = AsyncOpenAI(base_url=self.base_url, api_key=os.environ.get("OPENAI_API_KEY", "none"),
                             max_retries=self.retries, timeout=self.timeout)

        async def one(request):
            async with free:
                choice = (await client.completions.create(**request)).choices[0].model_dump()
                answer = {key: choice.get(key) for key in ("text", "finish_reason", "token_ids")}
                if not isinstance(answer["text"], str) or not isinstance(answer["token_ids"] or [], list):
                    raise ValueError
                self._whole(self._ids(answer), answer["finish_reason"] == "stop")  # or nonsense would be kept
                known[hash_of(request)] = answer
                self._write(request, answer)
                progress.tick()

        try:
            async with client, asyncio.TaskGroup() as group:
                for request in requests:
                    group.create_task(one(request))
        except ExceptionGroup as errors:
            raise self._said(errors.exceptions[0]) from None

    def _said(self, error: Exception) -> Exception:
        """One line for what a server does wrong; any other error as it is."""
        from openai import APIConnectionError, APIStatusError

        if isinstance(error, APIConnectionError):  # a timeout is one
            return HealError(f"{self.base_url}: no answer after {self.retries} retries ({error}); start the server, "
                             "what was answered is kept")
        if isinstance(error, APIStatusError):
            return HealError(f"{self.base_url}: the server says {error.status_code} ({error.message[:120]})")
        if isinstance(error, IndexError | TypeError | AttributeError | ValueError):
            return HealError(f"{self.base_url}: the answer is no completion; does it speak OpenAI's protocol?")
        return error

    def _known(self) -> dict:
        if not self.journal or not self.journal.exists():
            return {}
        known = {}
        for line in self.journal.read_text().splitlines():
            try:
                entry = json.loads(line)
                known[entry["request"]] = entry["answer"]
            except (ValueError, KeyError, TypeError):
                continue  # a line that was being written when the run was stopped
        return known

    def _write(self, request: dict, answer: dict) -> None:
        if self.journal:
            self.journal.parent.mkdir(parents=True, exist_ok=True)
            with self.journal.open("ab", buffering=0) as file:  # a line in one piece: processes may share a journal
                file.write(f"{json.dumps({'request': hash_of(request), 'answer': answer})}\n".encode())
