"""Sampling from any server that speaks OpenAI's completions protocol (vLLM, SGLang, ...); scoring with a local model.

    prompts as token ids -> POST /v1/completions -> text (and token ids, where the server tells them)
    entropy of what was drawn <- one teacher-forced pass of the local copy: a server gives the top few at most

A request carries a seed of its own, so a draw does not depend on what runs beside it. What was answered is kept in a
journal, one line each: a run that is stopped goes on, and asks for nothing twice."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import numpy as np

from heal_lib.engines import Sample, SamplingParams
from heal_lib.engines.hf import HFEngine
from heal_lib.errors import HealError
from heal_lib.store import hash_of
from heal_lib.trajectory import seed_of


class OpenAIEngine:
    """scorer: a local `HFEngine` of the same model. base_url: such as http://localhost:8000/v1. model: its name there.

    The key is read from the environment (OPENAI_API_KEY), never stored. `drawn` counts tokens the server generated."""

    def __init__(self, scorer: HFEngine, base_url: str, model: str, *, concurrency: int = 16, retries: int = 6,
                 timeout: float = 600.0, journal: Path | None = None):
        self.scorer, self.base_url, self.model = scorer, base_url, model
        self.concurrency, self.retries, self.timeout = concurrency, retries, timeout
        self.journal, self.drawn = journal, 0
        for name in ("encode", "prompt", "pieces", "score", "tail_nll", "vocabulary", "tokenizer"):
            setattr(self, name, getattr(scorer, name))

    def sample(self, prompts, n: int, params: SamplingParams, seed: int, keys=None) -> list[list[Sample]]:
        """See `Engine.sample`. Raises HealError where the server cannot be reached or answers nonsense."""
        keys = keys or [str(i) for i in range(len(prompts))]
        asked = [self._request(prompt, params, seed_of(seed, key, j))
                 for prompt, key in zip(prompts, keys, strict=True) for j in range(n)]
        known = self._known()
        asyncio.run(self._ask([request for request in asked if hash_of(request) not in known], known))
        answers = [self._read(known[hash_of(request)]) for request in asked]
        flat = [prompt for prompt in prompts for _ in range(n)]
        scores = self.scorer.score(flat, [ids for ids, _ in answers])
        self.drawn += sum(len(ids) for ids, _ in answers)
        draws = [Sample(ids, "".join(self.pieces(ids)), np.asarray(score.entropy), finished)
                 for (ids, finished), score in zip(answers, scores, strict=True)]
        return [draws[i : i + n] for i in range(0, len(draws), n)]

    def _request(self, prompt, params: SamplingParams, seed: int) -> dict:
        extra = {"return_token_ids": True, **({"top_k": params.top_k} if params.top_k else {})}
        return {"model": self.model, "prompt": list(prompt), "max_tokens": params.max_new_tokens, "seed": seed,
                "temperature": params.temperature, "top_p": params.top_p, "extra_body": extra}

    async def _ask(self, requests: list[dict], known: dict) -> None:
        """Sends what is not known yet; every answer is written down before the next is waited for."""
        from openai import APIConnectionError, APIStatusError, APITimeoutError, AsyncOpenAI

        free = asyncio.Semaphore(self.concurrency)
        client = AsyncOpenAI(base_url=self.base_url, api_key=os.environ.get("OPENAI_API_KEY", "none"),
                             max_retries=self.retries, timeout=self.timeout)

        async def one(request):
            async with free:
                choice = (await client.completions.create(**request)).choices[0].model_dump()
                answer = {key: choice.get(key) for key in ("text", "finish_reason", "token_ids")}
                known[hash_of(request)] = answer
                self._write(request, answer)

        try:
            async with client, asyncio.TaskGroup() as group:
                for request in requests:
                    group.create_task(one(request))
        except* (APIConnectionError, APITimeoutError) as error:
            raise HealError(f"{self.base_url}: no answer after {self.retries} retries ({error.exceptions[0]}); "
                            "start the server, what was answered is kept") from None
        except* APIStatusError as error:
            first = error.exceptions[0]
            raise HealError(f"{self.base_url}: the server says {first.status_code} ({first.message[:120]})") from None
        except* (IndexError, TypeError, AttributeError, ValueError):
            raise HealError(f"{self.base_url}: the answer is no completion; does it speak OpenAI's protocol?") from None

    def _read(self, answer: dict) -> tuple[list[int], bool]:
        """(token ids with their end, whether it ended by itself) of an answer."""
        finished, ids = answer["finish_reason"] == "stop", answer["token_ids"]
        if ids is None:
            ids = self.encode(answer["text"])
        size = len(self.tokenizer)
        if not all(isinstance(token, int) and 0 <= token < size for token in ids):
            raise HealError(f"{self.base_url}: token ids beyond this tokenizer's {size}; does it serve '{self.model}'?")
        if finished and not (ids and ids[-1] in self.scorer.eos):
            ids = [*ids, self.tokenizer.eos_token_id]
        if not ids:
            raise HealError(f"{self.base_url}: an empty completion that did not end; raise max_new_tokens")
        return list(ids), finished

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
            with self.journal.open("a") as file:
                file.write(json.dumps({"request": hash_of(request), "answer": answer}) + "\n")
