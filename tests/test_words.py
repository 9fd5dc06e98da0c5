"""Tokenizers of other families: text joins back from its tokens, prompts begin as models expect, BOS stands once."""

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from heal_lib.engines.words import Words
from heal_lib.errors import HealError

TEXTS = ["two words", " a space before", "a\n\nb c", "\\boxed{7}", "x  y ", "b² − 4ac 🙂", "\n\n", "7"]


def ready(core, bos=None, **special):
    if bos:
        core.post_processor = processors.TemplateProcessing(single=f"{bos} $A", special_tokens=[
            (bos, core.token_to_id(bos))])
        special["bos_token"] = bos
    return PreTrainedTokenizerFast(tokenizer_object=core, **special)


def llama2(pre):
    """A space is put before every text, and taken away when it is decoded; what is no token is spelled in bytes. `pre`:
    by a pre-tokenizer, or by a normalizer as the first files of the family do."""
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256)), "▁", *"abcdefghijklmnopqrstuvwxyz",
              *"0123456789\\{}.[]/INST", "▁t", "▁w", "tw", "▁tw", "▁two", "or"]
    vocabulary = {token: i for i, token in enumerate(dict.fromkeys(tokens))}
    core = Tokenizer(models.BPE(vocabulary, [("▁", "t"), ("▁", "w"), ("t", "w"), ("▁t", "w"), ("▁tw", "o"), ("o", "r")],
                                unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    if pre:
        core.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="first", split=False)
    else:
        core.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    core.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
                                      decoders.Strip(" ", 1, 0)])
    return ready(core, "<s>", eos_token="</s>", unk_token="<unk>")


def bytes_(prefix=False, bos=None, **special):
    """GPT-2's kind; `prefix`: with a space put before every text."""
    vocabulary = {c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    core = Tokenizer(models.BPE(vocabulary, []))
    core.pre_tokenizer, core.decoder = pre_tokenizers.ByteLevel(add_prefix_space=prefix), decoders.ByteLevel()
    core.add_special_tokens(["<|endoftext|>", "<|begin|>"])
    return ready(core, bos, eos_token="<|endoftext|>", **special)


KINDS = {"llama-2": lambda: llama2(True), "llama-2, old": lambda: llama2(False), "bytes": bytes_,
         "bytes, prefix": lambda: bytes_(True), "bytes, bos": lambda: bytes_(bos="<|begin|>")}


@pytest.fixture(params=KINDS)
def kind(request):
    return Words(KINDS[request.param]())


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_joins_back_from_its_pieces(kind, text):
    ids = kind.encode(text)
    assert "".join(kind.pieces(ids)) == text and len(kind.pieces(ids)) == len(ids)


def test_a_text_goes_on_from_another_without_a_space_of_the_tokenizer_s_own(kind):
    """A hint after a kept prefix, an answer after its opening."""
    parts = ["two wor", "ds\n\n", "\\boxed{", "7", "}", " two"]
    assert "".join(kind.pieces([i for part in parts for i in kind.encode(part)])) == "".join(parts)


def test_a_base_model_s_prompt_begins_with_the_bos_that_its_tokenizer_adds(kind):
    words, ids = kind.tokenizer, kind.prompt("two words")
    assert ids == words.encode("two words")
    assert ids.count(words.bos_token_id) == (words.bos_token is not None)
    assert words.bos_token_id not in kind.encode("a")
    assert "".join(kind.pieces(ids)).strip() == "two words"


def test_a_template_that_writes_bos_itself_gives_one(kind):
    words = kind.tokenizer
    words.chat_template = "{{ bos_token or '' }}[INST] {{ messages[0]['content'] }} [/INST]"
    ids = kind.prompt("two words")
    assert ids.count(words.bos_token_id) == (words.bos_token is not None)
    assert words.decode(ids, skip_special_tokens=True).strip() == "[INST] two words [/INST]"


HYBRID = """{{ messages[0]['content'] }}[INST]{% if enable_thinking is defined and enable_thinking is false %}<think>

</think>

{% endif %}"""


def test_where_a_model_may_think_first_a_hint_stands_where_its_steps_do(monkeypatch):
    """Known wrong turn: a hint from the start stood before <think>, the steps of what was kept behind it."""
    words = Words(bytes_(chat_template=HYBRID))
    assert words.tokenizer.decode(words.prompt("two")) == "two[INST]<think>\n"
    monkeypatch.setenv("HEAL_THINKING", "0")
    assert words.tokenizer.decode(words.prompt("two")) == "two[INST]<think>\n\n</think>\n\n"
    off = Words(bytes_(chat_template=HYBRID.replace("is false", "is true").replace("{% endif %}", "{% else %}<think>"
                                                                                  "\n\n</think>\n\n{% endif %}")))
    monkeypatch.delenv("HEAL_THINKING")
    assert off.tokenizer.decode(off.prompt("two")).count("<think>") == 1
    opened = Words(bytes_(chat_template="{{ messages[0]['content'] }}{# enable_thinking #}<think>\n"))
    assert opened.tokenizer.decode(opened.prompt("two")).count("<think>") == 1


@pytest.mark.parametrize("template", [
    "{% if not date_string is defined %}{% set date_string = strftime_now('%d %b %Y') %}{% endif %}{{ date_string }}",
    "{% set today = strftime_now('%d %B %Y') %}{{ today }}"])
def test_a_prompt_does_not_change_overnight(template):
    words = Words(bytes_(chat_template=template))
    assert words.tokenizer.decode(words.prompt("two")) in ("01 Jan 2025", "01 January 2025")


def test_a_tokenizer_that_closes_texts_does_not_close_a_prompt():
    words = bytes_()
    words.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<|begin|> $A <|endoftext|>", special_tokens=[(t, words.convert_tokens_to_ids(t))
                                                             for t in ("<|begin|>", "<|endoftext|>")])
    words.bos_token = "<|begin|>"
    ids = Words(words).prompt("a")
    assert ids[0] == words.bos_token_id and ids[-1] != words.eos_token_id and len(ids) == 2


def test_an_unknown_that_is_also_the_end_of_text_may_stand_in_a_template():
    words = bytes_(unk_token="<|endoftext|>")
    words.chat_template = "<|endoftext|>{{ messages[0]['content'] }}:"
    kind = Words(words)
    assert words.decode(kind.prompt("two words")) == "<|endoftext|>two words:"
    assert kind.prompt("two words")[0] == words.unk_token_id


def test_what_a_tokenizer_cannot_write_is_named_even_where_unknown_is_the_end():
    core = Tokenizer(models.WordLevel({"<|end|>": 0, "a": 1}, unk_token="<|end|>"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    kind = Words(ready(core, eos_token="<|end|>", unk_token="<|end|>"))
    kind.tokenizer.chat_template = "<|end|>{{ messages[0]['content'] }}"
    assert kind.prompt("a a") == [0, 1, 1]
    for call in (kind.prompt, kind.encode):
        with pytest.raises(HealError, match="cannot write this text"):
            call("a b")
