"""Chat models: prompts through the template, hints and repairs inside the open assistant turn, ends and padding.

The templates are this project's own, in the manner of Qwen2.5 and Qwen3; the tokenizer is bytes and a few marks."""

from pathlib import Path

import numpy as np
import pytest
import torch

from heal_lib import gear, sampling, worlds
from heal_lib.engines import Sample, SamplingParams
from heal_lib.engines.hf import HFEngine
from heal_lib.errors import HealError
from heal_lib.trajectory import Problem

TEMPLATES = Path(__file__).parent / "templates"
GOLDEN = {
    "qwen2.5": "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\nWhat is 1+1?<|im_end|>\n"
               "<|im_start|>assistant\n",
    "qwen3": "<|im_start|>user\nWhat is 1+1?<|im_end|>\n<|im_start|>assistant\n<think>\n",
}


def tokenizer(template=None):
    """Bytes, and the marks of the family; pad is not the end of a turn."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    bare = Tokenizer(models.BPE(vocabulary, []))
    bare.pre_tokenizer, bare.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    bare.add_tokens([AddedToken(mark, special=False) for mark in ("<think>", "</think>")])
    bare.add_special_tokens([AddedToken(m, special=True) for m in ("<|endoftext|>", "<|im_start|>", "<|im_end|>")])
    words = PreTrainedTokenizerFast(tokenizer_object=bare, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    if template:
        words.chat_template = (TEMPLATES / f"{template}.jinja").read_text()
    return words


@pytest.fixture(scope="module", params=GOLDEN)
def chat(request):
    """A tiny Qwen3 that knows nothing, behind a chat template."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    words = tokenizer(request.param)
    torch.manual_seed(0)
    config = Qwen3Config(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=2, head_dim=8,
                         intermediate_size=32, vocab_size=len(words), tie_word_embeddings=True)
    model = Qwen3ForCausalLM(config)
    model.generation_config.eos_token_id = [words.eos_token_id, words.pad_token_id]
    engine = HFEngine(model, words)
    engine.golden = GOLDEN[request.param]
    return engine


def test_a_prompt_is_the_template_s_with_the_assistant_s_turn_open(chat):
    ids = chat.prompt("What is 1+1?")
    assert chat.tokenizer.decode(ids) == chat.golden
    assert ids.count(chat.tokenizer.convert_tokens_to_ids("<|im_start|>")) == chat.golden.count("<|im_start|>")


def test_an_answer_within_a_thought_is_none(chat):
    """Known wrong turn: the prompt began the thought, and a box in what followed was judged without its end."""
    problem = Problem("math-1", "math", "own", "What is 1+1?", "2")

    def correct(text):
        ids = [*chat.encode(text), chat.tokenizer.eos_token_id]
        draw = Sample(ids, text, np.zeros(len(ids)), True)
        return sampling.candidate_row(chat, worlds.get("math"), problem, draw, source="sampled", sample=0)["correct"]

    assert chat.opens_thought == chat.golden.endswith("<think>\n")
    assert correct("So.\n\n</think>\n\n\\boxed{2}") and correct("\\boxed{2}") is not chat.opens_thought


def test_without_a_template_the_text_is_the_prompt():
    from heal_lib.embedded import load

    engine = HFEngine(*load("student"))
    assert engine.prompt("equation x+2=9\n\n") == engine.encode("equation x+2=9\n\n")


def test_a_repair_goes_on_inside_the_turn_and_the_hint_is_not_in_its_row(chat, monkeypatch):
    world, problem = worlds.get("math"), Problem("math-1", "math", "own", "What is 1+1?", "2")
    opens = "" if chat.golden.endswith("<think>\n") else "<think>\n"  # the prompt of a hybrid has begun to think
    wrote = f"{opens}Let us see.\n\nIt might be 3.\n\nOr 4.\n\n</think>\n\n\\boxed{{3}}"
    ids = [*chat.encode(wrote), chat.tokenizer.eos_token_id]
    entropy = np.full(len(ids), 0.1)
    kept = f"{opens}Let us see.\n\n"
    entropy[len(chat.encode(kept)) :][:10] = 3.0
    row = {"problem_id": problem.id, "world": "math", "difficulty": "own", "question": problem.question, "answer": "2",
           "sample": 0, "token_ids": ids, "entropy": entropy}
    seen = []
    draw = chat.sample

    def listen(prompts, n, params, seed, keys):
        seen.extend(prompts)
        return draw(prompts, n, params, seed, keys)

    monkeypatch.setattr(chat, "sample", listen)
    rows = gear.repair(chat, world, [row], n_candidates=2, params=SamplingParams(6), seed=0, backoff=0, window=1.0)
    asked = chat.tokenizer.decode(seen[0])
    assert "What is 1+1?" in asked
    assert asked.endswith(f"<|im_start|>assistant\n<think>\nLet us see.\n\n{world.hint(problem)}")
    for repaired in rows:
        assert repaired["text"].startswith(kept) and world.hint(problem) not in repaired["text"]
        assert repaired["n_kept"] == len(chat.encode(kept)) and repaired["genuine"] == -1


def test_every_end_of_text_stops_and_padding_is_never_one_in_the_loss(chat):
    words = chat.tokenizer
    assert chat.eos == {words.eos_token_id, words.pad_token_id} and words.pad_token_id != words.eos_token_id
    draws = chat.sample([chat.prompt("a"), chat.prompt("b")], 20, SamplingParams(60), 0)
    for draw in (d for group in draws for d in group):
        ends = [i for i, token in enumerate(draw.token_ids) if token in chat.eos]
        assert ends in ([], [len(draw.token_ids) - 1]) and draw.finished == bool(ends)


def test_a_character_spread_over_tokens_is_one_piece(chat):
    text = "Δ = b² − 4ac 🙂.\n\nnext"
    pieces = chat.pieces(chat.encode(text))
    assert "".join(pieces) == text and len(pieces) == len(text.encode())
    broken = chat.encode("🙂")[:2]
    assert len(chat.pieces(broken)) == 2  # cut off by the length limit: shown as it is


def test_students_with_their_own_vocabulary_are_told_apart(chat):
    other = tokenizer()
    other.add_tokens(["one more"])
    assert HFEngine(chat.model, other).vocabulary != chat.vocabulary == HFEngine(chat.model, tokenizer()).vocabulary


def test_a_tokenizer_without_an_end_is_named(chat, monkeypatch):
    words = tokenizer()
    words.eos_token = None
    monkeypatch.setattr(chat.model.generation_config, "eos_token_id", None)
    with pytest.raises(HealError, match="no end-of-text token"):
        HFEngine(chat.model, words)
