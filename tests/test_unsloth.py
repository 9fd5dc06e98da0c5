"""The contract with Unsloth, without a GPU: every call that backends.py makes is one that the pinned version takes.

`make test-unsloth` runs this in an environment of its own, for importing Unsloth patches transformers and TRL for a
whole process. No model is loaded: the calls are caught, and bound to the real signatures."""

import importlib.util
import inspect
import os
import tomllib
from importlib.metadata import requires, version

import pytest
from packaging.requirements import Requirement

from heal_lib import backends
from heal_lib.files import ROOT

if importlib.util.find_spec("unsloth") is None or not os.environ.get("UNSLOTH_ALLOW_CPU"):
    pytest.skip("runs in an environment of its own: make test-unsloth", allow_module_level=True)

METHODS = ["full", "lora", "qlora"]


def taken(function, *args, **options):
    """Binds a call to a signature and returns {parameter: value}; an option that only **kwargs would swallow is not
    taken."""
    signature = inspect.signature(function)
    bound = signature.bind(*args, **options)
    unknown = options.keys() - {name for name, p in signature.parameters.items() if p.kind is not p.VAR_KEYWORD}
    assert not unknown, f"{function.__qualname__} does not name {', '.join(sorted(unknown))}"
    return bound.arguments


@pytest.fixture
def calls(monkeypatch):
    """The names of Unsloth's functions that were called, each with arguments that it takes."""
    import torch
    import unsloth

    made, fast = [], unsloth.FastLanguageModel
    real = {name: getattr(fast, name) for name in ("from_pretrained", "get_peft_model")}

    def catch(name, answer):
        def caught(*args, **options):
            taken(real[name], *args, **options)
            assert options.get("max_seq_length", 512) == 512  # more would stretch the positions of a model of 512
            made.append(name)
            return answer
        return staticmethod(caught)

    monkeypatch.setattr(fast, "from_pretrained", catch("from_pretrained", ("model", "tokenizer")))
    monkeypatch.setattr(fast, "get_peft_model", catch("get_peft_model", "adapted"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("DEVICE", "cuda")
    return made


@pytest.mark.parametrize("method", METHODS)
def test_loading_is_taken_as_it_is_asked(calls, method, tmp_path):
    from transformers import Qwen3Config

    Qwen3Config(max_position_embeddings=512).save_pretrained(tmp_path)
    model, tokenizer = backends.load(str(tmp_path), backends.Finetune("unsloth", method, rank=8, max_length=512))
    assert calls == ["from_pretrained"] + ["get_peft_model"] * (method != "full")
    assert (model, tokenizer) == ("model" if method == "full" else "adapted", "tokenizer")


@pytest.mark.parametrize("method", METHODS)
def test_saving_is_taken_as_it_is_asked(method, tmp_path):
    from transformers import PreTrainedModel, PreTrainedTokenizerBase
    from unsloth import save

    saved = []

    class Model:
        dtype = None

        def save_pretrained(self, *args, **options):
            taken(PreTrainedModel.save_pretrained, self, *args, **options)
            saved.append("whole")

        def save_pretrained_merged(self, *args, **options):
            taken(save.unsloth_save_pretrained_merged, self, *args, **options)
            taken(save.unsloth_generic_save_pretrained_merged, self, *args, **options)
            saved.append(options["save_method"])

    class Tokenizer:
        def save_pretrained(self, *args, **options):
            taken(PreTrainedTokenizerBase.save_pretrained, self, *args, **options)

    backends.save(Model(), Tokenizer(), tmp_path, backends.Finetune("unsloth", method))
    assert saved == ["whole" if method == "full" else "merged_16bit"]


def test_gguf_is_written_as_the_documentation_says():
    from unsloth import save

    told = taken(save.unsloth_save_pretrained_gguf, "model", "folder", "tokenizer", quantization_method="q4_k_m")
    assert list(told.values()) == ["model", "folder", "tokenizer", "q4_k_m"]


def test_the_trainer_s_settings_exist_after_unsloth_has_patched_it(tmp_path):
    import unsloth  # noqa: F401  it rebinds TRL's trainer

    from heal_lib import training

    arguments = training._arguments(training.TrainConfig(1e-4), 64, str(tmp_path), False, 1)
    assert arguments.completion_only_loss and not arguments.packing and arguments.max_length is None


def test_the_pins_are_within_unsloth_s_bounds_and_installed():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pins = dict(pin.split("==") for pin in (*project["dependencies"], *project["optional-dependencies"]["gpu"]))
    for package in ("unsloth", "unsloth_zoo"):
        assert version(package) == pins[package]
        for bound in map(Requirement, requires(package)):
            if bound.name in pins and not bound.marker:
                assert bound.specifier.contains(pins[bound.name]), f"{package} wants {bound}"
