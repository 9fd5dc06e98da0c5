"""The embedded models' tokenizer: one token per word, number, letter or edge, and text that joins back exactly."""

from __future__ import annotations

import re
import string

from heal_lib.worlds.equations import MAX_VALUE

PAD, EOS, UNK = "<pad>", "<eos>", "<unk>"
WORDS = ["\n\n", "\\boxed{", "}", "equation ", "path", "countdown ", "facts", "hint ", "goal ", "sorted ", "try ",
         "give up", "from ", "into ", "go ", "back to ", "guess ", "check", "none", " to ", ": ", ":", " ", "x",
         "=", "<", ">", "+", "-", "*", "/"]
LETTERS = string.ascii_uppercase
EDGES = [f" {a}>{b}" for a in LETTERS for b in LETTERS if a != b]
VOCABULARY = [PAD, EOS, UNK, *WORDS, *LETTERS, *EDGES, *map(str, range(MAX_VALUE + 1))]


def build():
    """A `PreTrainedTokenizerFast` in which decode(encode(text)) == text for every text of the worlds."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.WordLevel({token: i for i, token in enumerate(VOCABULARY)}, unk_token=UNK))
    words = "|".join(re.escape(word).replace("\\\n", "\\n") for word in sorted(WORDS, key=len, reverse=True))
    core.pre_tokenizer = pre_tokenizers.Split(Regex(f" [A-Z]>[A-Z]|:(?= [A-Z]>)|{words}|[0-9]+|[A-Z]"), "isolated")
    core.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=core, pad_token=PAD, eos_token=EOS, unk_token=UNK,
                                   clean_up_tokenization_spaces=False)
