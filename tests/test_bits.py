"""What results are made of does not depend on the machine's cores, nor on how results are kept and shown."""

import ast

import torch

from heal_lib.embedded import models, tokenizer
from heal_lib.engines import SamplingParams
from heal_lib.engines.hf import HFEngine
from heal_lib.files import ROOT, hash_of
from heal_lib.training import TrainConfig, fit


def work():
    """A hash of weights, draws, entropies and scores, made with as many threads as torch is offered."""
    words, out = tokenizer.build(), []
    model = models.new_model("student", words, 0)
    rows = [{"input_ids": [5 + i % 9] * 40 + [7, 8, 9] * 8, "completion_mask": [0] * 40 + [1] * 24} for i in range(32)]
    fit(model.train(), words, rows, TrainConfig(1e-3, 16))
    out += [value.numpy().tobytes().hex() for value in model.state_dict().values()]
    engine, prompts = HFEngine(model, words), [row["input_ids"][:30] for row in rows]
    draws = engine.sample(prompts, 8, SamplingParams(24), 0)
    said = [group[0].token_ids for group in draws]
    out += [draw.entropy.tobytes().hex() for group in draws for draw in group]
    out += [part.tobytes().hex() for score in engine.score(prompts, said) for part in vars(score).values()]
    found = engine.tail_nll(prompts, said, [[0, len(ids)] for ids in said], [[5, 6, 7]] * len(said))
    out += [nll.tobytes().hex() for nll in found]
    return hash_of(out)


def test_no_bit_depends_on_the_number_of_threads_that_the_machine_offers():
    """OMP_NUM_THREADS sets what torch starts with, and so does this: without `one_thread` the two hashes differ."""
    found = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        found.append(work())
        assert torch.get_num_threads() == 1
    assert found[0] == found[1]


def test_what_computes_knows_nothing_of_what_shows():
    """A stage is found again by the code of all that it imports: a changed progress bar is no other result."""
    files = [*(ROOT / "heal_lib" / "engines").glob("*.py"), *(ROOT / "heal_lib" / "embedded").glob("*.py"),
             *(ROOT / "heal_lib" / f"{name}.py" for name in ("training", "backends", "distributed", "watch"))]
    assert len(files) > 15
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom):
                named = {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
            else:
                named = {alias.name for alias in node.names} if isinstance(node, ast.Import) else set()
            assert not named & {f"heal_lib.{other}" for other in ("progress", "scales", "report")}, file.name
