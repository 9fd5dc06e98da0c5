"""What an engine knows without a model: the tokenizer's side of the protocol."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from heal_lib.errors import HealError
from heal_lib.files import hash_of

BROKEN = "\ufffd"  # what a part of a character decodes to


class Words:
    """Text to tokens and back."""

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer

    def encode(self, text: str) -> list[int]:
        """Token ids; raises HealError where the tokenizer has no token for a part of the text."""
        ids = self.tokenizer.encode(text, add_special_tokens=False)
        if self.tokenizer.unk_token_id is not None and self.tokenizer.unk_token_id in ids:
            raise HealError(f"the tokenizer cannot write this text: {text[:60]!r}; use a world that the model knows")
        return ids

    def prompt(self, question: str) -> list[int]:
        """See `Engine.prompt`."""
        if not self.tokenizer.chat_template:
            return self.encode(question)
        turns = [{"role": "user", "content": question}]
        return self.encode(self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))

    def pieces(self, token_ids: Sequence[int]) -> list[str]:
        """Text of each token; special tokens are empty. A character that is spread over tokens belongs to the first."""
        cache = self.__dict__.setdefault("_pieces", dict.fromkeys(self.tokenizer.all_special_ids, ""))
        for i in set(token_ids) - cache.keys():
            cache[i] = self.tokenizer.decode([i])
        out, i = [], 0
        while i < len(token_ids):
            text, end = cache[token_ids[i]], i + 1
            while text.endswith(BROKEN) and end < min(len(token_ids), i + 4):  # no character is longer than four bytes
                end += 1
                text = self.tokenizer.decode(list(token_ids[i:end]))
            if text.endswith(BROKEN):
                text, end = cache[token_ids[i]], i + 1
            out += [text, *[""] * (end - i - 1)]
            i = end
        return out

    @functools.cached_property
    def vocabulary(self) -> str:
        """Fingerprint of the tokenizer's vocabulary: engines that share it can read each other's token ids."""
        return hash_of(self.tokenizer.get_vocab())
