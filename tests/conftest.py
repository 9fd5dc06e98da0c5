"""What several test files share: tiny random models, and an engine that says what it is told to say."""

import gc
import os
import sys

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # two threads of one process wait for each other on a busy machine

import hypothesis
import numpy as np
import pytest

from heal_lib.engines import Sample, Score

pytest_plugins = ("micro", "driven")  # the fixtures of a tiny run, and of the driver's

sys.modules.setdefault("rfc3987_syntax", None)  # a second of grammar, which nbformat imports and never asks

os.fsync = lambda handle: None  # what a test writes need not outlast the machine, and a busy disk takes its time

hypothesis.settings.register_profile("busy", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("busy")  # a machine that does other things as well is no failure


LONGEST = ("llm", "site", "engines_elsewhere", "damage", "torture", "processes", "cli", "experiment", "training",
           "packaging", "keys", "reproduce", "sweep", "fuzz", "openai", "backends", "rivals", "paper", "architectures",
           "distributed", "tables", "choose", "pages", "workers", "embedded", "compare", "bits", "security")


def pytest_collection_modifyitems(items):
    """The longest files first, so that no worker ends long after another: `make test` gives each a file at a time."""
    last = {f"test_{name}": i - len(LONGEST) for i, name in enumerate(LONGEST)}
    items.sort(key=lambda item: last.get(item.path.stem, 0))


def pytest_collection_finish():
    """What was imported until here stays: collecting garbage, as training does, need not look at it each time."""
    gc.freeze()


class ScriptedEngine:
    """An `Engine` without a model. `script(prompt_text, key, j)` gives a draw's text, or (text, finished).

    One token per character, unless a tokenizer is given. `calls` keeps the prompts (text) and keys of `sample`;
    `nll` and `tail` are what `score` and `tail_nll` answer."""

    eos = 0

    def __init__(self, script=None, tokenizer=None, nll=None, tail=None):
        self.script, self.nll, self.tail = script, nll, tail
        self.tokenizer, self.calls, self.scored, self.tails = tokenizer, [], [], []
        if tokenizer is not None:
            self.eos = tokenizer.eos_token_id

    def encode(self, text):
        return self.tokenizer.encode(text, add_special_tokens=False) if self.tokenizer else [ord(c) for c in text]

    def prompt(self, question):
        return self.encode(question)

    vocabulary = "one"

    def pieces(self, token_ids):
        say = self.tokenizer.decode if self.tokenizer else lambda ids: chr(ids[0])
        return ["" if i == self.eos else say([i]) for i in token_ids]

    def sample(self, prompts, n, params, seed, keys=None):
        texts = ["".join(self.pieces(prompt)) for prompt in prompts]
        self.calls += [{"prompt": t, "key": k, "n": n, "params": params, "seed": seed}
                       for t, k in zip(texts, keys, strict=True)]
        return [[self._say(text, key, j) for j in range(n)] for text, key in zip(texts, keys, strict=True)]

    def _say(self, prompt, key, j):
        said = self.script(prompt, key, j)
        text, finished = said if isinstance(said, tuple) else (said, True)
        ids = self.encode(text) + [self.eos] * finished
        return Sample(ids, text, np.linspace(0.5, 1.5, len(ids), dtype=np.float32), finished)

    def score(self, prompts, completions):
        self.scored += [("".join(self.pieces(p)), "".join(self.pieces(c)))
                        for p, c in zip(prompts, completions, strict=True)]
        return [Score(self.nll(c) if self.nll else np.ones(len(c)), np.ones(len(c)), np.ones(len(c)))
                for c in completions]

    def tail_nll(self, prompts, completions, ends, tails):
        self.tails += [("".join(self.pieces(p)), list(e), "".join(self.pieces(t)))
                       for p, e, t in zip(prompts, ends, tails, strict=True)]
        return [self.tail(e, t) if self.tail else np.ones((len(e), len(t))) for e, t in zip(ends, tails, strict=True)]


@pytest.fixture(scope="session")
def scripted():
    return ScriptedEngine


@pytest.fixture(scope="session")
def words():
    """The embedded models' tokenizer."""
    from heal_lib.embedded import tokenizer

    return tokenizer.build()


@pytest.fixture(scope="session")
def tiny(words):
    """A small random model. Its weights are enlarged, so that its distributions are far from uniform."""
    import torch

    from heal_lib.embedded import models

    torch.set_num_threads(1)
    model = models.new_model("student", words, 0).eval()
    with torch.no_grad():
        model.get_input_embeddings().weight.mul_(6)
        for layer in model.model.layers:  # sharp attention that matters: otherwise a wrong cache would go unseen
            layer.self_attn.q_norm.weight.mul_(3)
            for part in (layer.self_attn.v_proj, layer.self_attn.o_proj, layer.mlp.down_proj):
                part.weight.mul_(40)
    return model


@pytest.fixture(scope="session")
def real(tiny, words):
    """The hf engine around the tiny model."""
    from heal_lib.engines.hf import HFEngine

    return HFEngine(tiny, words)


@pytest.fixture(scope="session")
def models_folder(tmp_path_factory, words):
    """A folder with a random teacher and student, as HEAL_MODELS expects it. The student's size serves for both."""
    from heal_lib.embedded import models

    folder = tmp_path_factory.mktemp("models")
    for seed, name in enumerate(("teacher", "student")):
        models.new_model("student", words, seed).save_pretrained(folder / name)
        words.save_pretrained(folder / name)
    return folder


@pytest.fixture(scope="module")
def kernels():
    """What kernels are forked from, for notebooks that need no torch."""
    from heal_lib import run, workers

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workers, "PRELOADED", ("ipykernel.kernelapp", "pandas", "matplotlib"))
        with run.pool():
            yield
