"""What an engine knows without a model: the tokenizer's side of the protocol."""

from __future__ import annotations

import datetime
import functools
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from heal_lib.errors import HealError
from heal_lib.files import hash_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

BROKEN = "\ufffd"  # what a part of a character decodes to
THINKING = "HEAL_THINKING"  # 0: a model that may think first or not, as its template has it, does not
DAY = datetime.datetime(2025, 1, 1)  # some templates tell the model the date; a prompt must not change overnight


class Words:
    """Text to tokens and back, exactly: a tokenizer that puts a space before every text is not let do so inside one."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase):
        self.tokenizer: Any = tokenizer

    def encode(self, text: str) -> list[int]:
        """Token ids of a text that goes on from another; raises HealError where the tokenizer has no token for a part
        of it."""
        found = self.tokenizer.encode(text, add_special_tokens=False)
        for before in ("", "\n", "a", "1"):  # what goes before may have to be there for the text to join on
            head, whole = (self.tokenizer.encode(part, add_special_tokens=False) for part in (before, before + text))
            if whole[: len(head)] == head and "".join(self.pieces(whole[len(head) :])) == text:
                found = whole[len(head) :]
                break
        return self._known(found, text)

    def prompt(self, question: str) -> list[int]:
        """See `Engine.prompt`. Without a template the text begins as the tokenizer begins one: with BOS, if it does."""
        if self.tokenizer.chat_template:
            text = self._turn(question)
            return self._known(self.tokenizer.encode(text, add_special_tokens=False), text)
        ids = self.tokenizer.encode(question)
        while ids and ids[-1] == self.tokenizer.eos_token_id != self.tokenizer.bos_token_id:
            ids.pop()  # some tokenizers also close the text
        return self._known(ids, question)

    def _turn(self, question: str) -> str:
        """The template's text up to where the model speaks. Where it may think first, it has begun to: a hint has to
        stand where the steps do, whether it comes first or later."""
        on = os.environ.get(THINKING) != "0"
        asked = "enable_thinking" in str(self.tokenizer.chat_template)
        told = {"enable_thinking": on} if asked else {}
        text = self.tokenizer.apply_chat_template(
            [{"role": "user", "content": question}], tokenize=False, add_generation_prompt=True,
            strftime_now=DAY.strftime, date_string=DAY.strftime("%d %b %Y"), **told)
        said = text.rstrip().endswith(("<think>", "</think>"))
        return text + "<think>\n" if asked and on and not said else text

    @functools.cached_property
    def opens_thought(self) -> bool:
        """Whether a prompt ends within a thought, which what is drawn has to close."""
        return bool(self.tokenizer.chat_template) and self._turn("").rstrip().endswith("<think>")

    def _known(self, ids: list[int], text: str) -> list[int]:
        """`ids`, if nothing of the text is unknown: the mark of the unknown may stand in the text itself, as EOS does
        where both are one."""
        unknown = self.tokenizer.unk_token_id
        if unknown is not None and ids.count(unknown) > text.count(self.tokenizer.unk_token):
            raise HealError(f"the tokenizer cannot write this text: {text[:60]!r}; use a world that the model knows")
        return ids

    def pieces(self, token_ids: Sequence[int]) -> list[str]:
        """Text of each token; special tokens are empty. A character that is spread over tokens belongs to the first."""
        cache = self.__dict__.setdefault("_pieces", dict.fromkeys(self.tokenizer.all_special_ids, ""))
        for i in set(token_ids) - cache.keys():
            cache[i] = self._text([i])
        out, i = [], 0
        while i < len(token_ids):
            text, end = cache[token_ids[i]], i + 1
            while text.endswith(BROKEN) and end < min(len(token_ids), i + 4):  # no character is longer than four bytes
                end += 1
                text = self._text(list(token_ids[i:end]))
            if text.endswith(BROKEN):
                text, end = cache[token_ids[i]], i + 1
            out += [text, *[""] * (end - i - 1)]
            i = end
        return out

    def _text(self, token_ids: list[int]) -> str:
        """What tokens spell inside a text: some decoders take the space from the first token that they are given."""
        before, text = self._anchor
        said = self.tokenizer.decode([*before, *token_ids], clean_up_tokenization_spaces=False)
        return said.removeprefix(text)

    @functools.cached_property
    def _anchor(self) -> tuple[list[int], str]:
        """A token that is one letter or digit whatever it stands beside, and its text; nothing where there is none."""
        known = self.tokenizer.get_vocab()
        for text in "aeitxA1":
            if text in known and self.tokenizer.decode([known[text]] * 2) == 2 * text:
                return [known[text]], text
        return [], ""

    @functools.cached_property
    def vocabulary(self) -> str:
        """Fingerprint of the tokenizer's vocabulary: engines that share it can read each other's token ids."""
        return hash_of(self.tokenizer.get_vocab())
