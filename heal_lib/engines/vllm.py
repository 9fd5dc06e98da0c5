"""Sampling with vLLM in this process, on one GPU or several; scoring with a local model. Not run yet: checked is that
the pinned version has every name used here (tests/test_vllm.py).

vLLM takes `memory` of each card and leaves the rest to the scorer. HEAL_VLLM holds more of its arguments, as JSON, such
as {"tensor_parallel_size": 2}. Entropies are the scorer's, or with {"max_logprobs": -1} those of the whole vocabulary
as vLLM tells it, raw: an object for each token of the vocabulary at each place, so for small ones. Truncated ones are
never asked for. The draws of a prompt are requests with a seed each; prefix caching reads the prompt once."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any

from heal_lib import embedded
from heal_lib.engines import SamplingParams, device, needs
from heal_lib.engines.elsewhere import Drawn, DrawnElsewhere, whole_entropy
from heal_lib.engines.hf import HFEngine
from heal_lib.errors import HealError

VARIABLES = ("HEAL_VLLM",)


def check() -> None:
    """Raises HealError where it cannot run."""
    needs("vllm")
    if device() != "cuda":
        raise HealError("engine 'vllm' needs a CUDA GPU and DEVICE=cuda; 'hf' works here")


def build(name: str) -> VLLMEngine:
    """vLLM beside a local copy of the model."""
    return VLLMEngine(HFEngine(*embedded.load(name)), str(embedded.folder(name)))


class VLLMEngine(DrawnElsewhere):
    """model: a folder of safetensors, or a name on the hub. scorer: a local `HFEngine` of the same model."""

    where = "vllm"

    def __init__(self, scorer: HFEngine, model: str, *, memory: float = 0.5):
        super().__init__(scorer)
        from vllm import LLM

        try:
            more = dict(json.loads(os.environ.get("HEAL_VLLM") or "{}"))
        except (ValueError, TypeError):
            raise HealError('HEAL_VLLM is no JSON object; give one, such as {"tensor_parallel_size": 2}') from None
        self.whole: bool = more.get("max_logprobs") == -1
        usual = {"model": model, "gpu_memory_utilization": memory, "enable_prefix_caching": True}
        self.llm: Any = LLM(**{**usual, **more, "logprobs_mode": "raw_logprobs", "trust_remote_code": False})

    def answers(self, prompts: Sequence[Sequence[int]], params: SamplingParams, seeds: list[int]) -> list[Drawn]:
        """See `DrawnElsewhere.answers`."""
        from vllm import SamplingParams as Settings

        settings = [Settings(max_tokens=params.max_new_tokens, temperature=params.temperature, top_p=params.top_p,
                             top_k=params.top_k, seed=seed, stop_token_ids=sorted(self.scorer.eos), detokenize=False,
                             logprobs=-1 if self.whole else None)
                    for seed in seeds]
        given = [{"prompt_token_ids": list(prompt)} for prompt in prompts]
        drawn = [out.outputs[0] for out in self.llm.generate(given, settings, use_tqdm=False)]
        return [Drawn(list(draw.token_ids), draw.finish_reason == "stop", self._entropy(draw)) for draw in drawn]

    def _entropy(self, draw):
        rows = [[told.logprob for told in row.values()] for row in draw.logprobs or ()] if self.whole else []
        return whole_entropy(rows, self.width)
