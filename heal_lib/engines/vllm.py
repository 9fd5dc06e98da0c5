"""Sampling with vLLM in this process, on one GPU or several; scoring with a local model. Not run yet.

vLLM takes `memory` of each card and leaves the rest to the scorer. HEAL_VLLM holds more of its arguments, as JSON, such
as {"tensor_parallel_size": 2}. Truncated log-probabilities are never asked for: entropies are the scorer's."""

from __future__ import annotations

import json
import os

from heal_lib import embedded
from heal_lib.engines import SamplingParams, device, needs
from heal_lib.engines.elsewhere import DrawnElsewhere
from heal_lib.engines.hf import HFEngine
from heal_lib.errors import HealError


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
        except ValueError:
            raise HealError('HEAL_VLLM is no JSON object; give one, such as {"tensor_parallel_size": 2}') from None
        self.llm = LLM(**{"model": model, "gpu_memory_utilization": memory, **more, "trust_remote_code": False})

    def answers(self, prompts, params: SamplingParams, seeds: list[int]) -> list[tuple[list[int], bool]]:
        """See `DrawnElsewhere.answers`."""
        from vllm import SamplingParams as Settings

        settings = [Settings(max_tokens=params.max_new_tokens, temperature=params.temperature, top_p=params.top_p,
                             top_k=params.top_k, seed=seed, stop_token_ids=sorted(self.scorer.eos), detokenize=False)
                    for seed in seeds]
        given = [{"prompt_token_ids": list(prompt)} for prompt in prompts]
        drawn = [out.outputs[0] for out in self.llm.generate(given, settings, use_tqdm=False)]
        return [(list(draw.token_ids), draw.finish_reason == "stop") for draw in drawn]
