"""Whether the pinned vLLM has every name and argument that `engines/vllm.py` uses: read from its source, which is not
imported, for that asks for a GPU. `make test-vllm` fetches it; elsewhere these are skipped."""

import ast
import importlib.util
import re
from functools import cache
from pathlib import Path

import pytest

from heal_lib.files import ROOT

SPEC = importlib.util.find_spec("vllm")
pytestmark = pytest.mark.skipif(SPEC is None, reason="vllm is not installed")


@cache
def declared(file, name):
    """(fields, {method: arguments}) of a class of vLLM's."""
    tree = ast.parse(Path(SPEC.submodule_search_locations[0], file).read_text())
    (found,) = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and node.name == name]
    methods = {node.name: [a.arg for a in (*node.args.args, *node.args.kwonlyargs)] + ["**"] * bool(node.args.kwarg)
               for node in found.body if isinstance(node, ast.FunctionDef)}
    return {node.target.id: node.value for node in found.body if isinstance(node, ast.AnnAssign)}, methods


def calls(name):
    """The calls of that name in the engine."""
    tree = ast.parse((ROOT / "heal_lib" / "engines" / "vllm.py").read_text())
    return [node for node in ast.walk(tree) if isinstance(node, ast.Call)
            and getattr(node.func, "attr", getattr(node.func, "id", "")) == name]


def test_all_that_the_engine_is_started_with_is_an_argument():
    source = (ROOT / "heal_lib" / "engines" / "vllm.py").read_text()
    used = {"model", "gpu_memory_utilization", "enable_prefix_caching", "logprobs_mode", "trust_remote_code"}
    assert all(f'"{name}"' in source for name in used)
    own, more = declared("entrypoints/llm.py", "LLM")[1]["__init__"], declared("engine/arg_utils.py", "EngineArgs")[0]
    assert "**" in own  # what it does not name itself goes to EngineArgs
    assert used | {"tensor_parallel_size", "max_logprobs"} <= {*own, *more}


def test_a_request_is_one_that_it_takes():
    fields = declared("sampling_params.py", "SamplingParams")[0]
    (request,) = calls("Settings")
    assert {keyword.arg for keyword in request.keywords} <= fields.keys()
    assert {"prompt_token_ids"} <= declared("inputs/llm.py", "TokensPrompt")[0].keys()
    (asked,) = calls("generate")
    taken = declared("entrypoints/llm.py", "LLM")[1]["generate"]
    assert taken[:3] == ["self", "prompts", "sampling_params"] and {k.arg for k in asked.keywords} <= {*taken}


def test_an_answer_holds_what_is_read_from_it():
    assert {"token_ids", "finish_reason", "logprobs"} <= declared("outputs.py", "CompletionOutput")[0].keys()
    assert "outputs" in declared("outputs.py", "RequestOutput")[1]["__init__"]


def test_log_probabilities_can_be_raw_and_of_the_whole_vocabulary():
    modes = Path(SPEC.submodule_search_locations[0], "config", "model.py").read_text()
    assert "raw_logprobs" in re.search(r"LogprobsMode = Literal\[(.*?)\]", modes, re.S)[1]
    checks = Path(SPEC.submodule_search_locations[0], "sampling_params.py").read_text()
    assert "max_logprobs == -1" in checks and "self.logprobs != -1" in checks
