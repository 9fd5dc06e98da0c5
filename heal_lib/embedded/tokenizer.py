"""The embedded models' tokenizers: one token per word, number, letter or edge, and text that joins back exactly."""

from __future__ import annotations

import re
import string
from typing import TYPE_CHECKING

from heal_lib.worlds import equations, programs

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

PAD, EOS, UNK = "<pad>", "<eos>", "<unk>"
WORDS = ["\n\n", "\\boxed{", "}", "equation ", "path", "countdown ", "facts", "hint ", "goal ", "sorted ", "try ",
         "give up", "from ", "into ", "go ", "back to ", "guess ", "check", "none", " to ", ": ", ":", " ", "x",
         "=", "<", ">", "+", "-", "*", "/"]
LETTERS = string.ascii_uppercase
EDGES = [f" {a}>{b}" for a in LETTERS for b in LETTERS if a != b]
PROGRAM_WORDS = ["\n\n", "\\boxed{", "}", "program ", "facts", "hint ", " even ", " odd ", " ", "=", *"+-*",
                 *programs.GLYPHS, *(name + mark for name in programs.NAMES for mark in ("=", ": "))]
VOCABULARIES = {
    "": [PAD, EOS, UNK, *WORDS, *LETTERS, *EDGES, *map(str, range(equations.MAX_VALUE + 1))],
    "registers": [PAD, EOS, UNK, *PROGRAM_WORDS, *map(str, range(programs.MAX_VALUE + 1))],
}


def build(family: str = "") -> PreTrainedTokenizerFast:
    """A `PreTrainedTokenizerFast` in which decode(encode(text)) == text for every text of the family's worlds."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    ids = {token: i for i, token in enumerate(VOCABULARIES[family])}
    core = Tokenizer(models.WordLevel(ids, unk_token=UNK))
    sorted_words = sorted(PROGRAM_WORDS if family else WORDS, key=len, reverse=True)
    words = "|".join(re.escape(word).replace("\\\n", "\\n") for word in sorted_words)
    edges = "" if family else " [A-Z]>[A-Z]|:(?= [A-Z]>)|"
    core.pre_tokenizer = pre_tokenizers.Split(Regex(f"{edges}{words}|[0-9]+|[A-Z]"), "isolated")
    core.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=core, pad_token=PAD, eos_token=EOS, unk_token=UNK,
                                   clean_up_tokenization_spaces=False)
