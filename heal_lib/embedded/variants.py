"""Other teachers and students of one world: a student base of another size, and a teacher that has read on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from heal_lib import embedded, training
from heal_lib.embedded import card, corpus, models, muon, tokenizer
from heal_lib.engines import choose
from heal_lib.files import write_json

if TYPE_CHECKING:
    from pathlib import Path

TEACHER = training.TrainConfig(learning_rate=1e-2, batch_size=24, warmup=0.05)
STUDENT = training.TrainConfig(learning_rate=1e-2, batch_size=8, warmup=0.02)


def base(*, world: str, size: str, n_texts: int, folder: Path) -> None:
    """A student base of a size of `models.SIZES` that has read one world's text only; known_facts.json: how well."""
    words = tokenizer.build()
    _read(models.new_model(size, words, 0), words, world, corpus.STUDENT, n_texts, STUDENT, folder)
    write_json(card.drill_skill(choose.engine(str(folder)), of=(world,)), folder / "known_facts.json")


def teacher(*, model: str, world: str, recipe: dict[str, Any], n_texts: int, folder: Path) -> None:
    """The teacher after some more texts of one world, written by another recipe (the fields of `corpus.Recipe`)."""
    _read(*embedded.load(model), world, corpus.Recipe(**recipe), n_texts, TEACHER, folder)


def _read(model, words, world, recipe, n_texts, config, folder):
    """Trains a model on a world's texts, and saves it."""
    rows = [corpus.encode(words, text) for text in corpus.texts(recipe, n_texts, 100, of=(world,))]
    training.fit(model.train(), words, rows, config, optimizer=muon.Muon(model, config.learning_rate))
    model.save_pretrained(folder)
    words.save_pretrained(folder)
