"""What Ray's workers import for tests about workers: an engine without a model and functions of stages, so that each
starts quickly."""

import os

import numpy as np

from heal_lib.engines import Sample
from heal_lib.errors import HealError


class Toy:
    """Draws its key and the draw's number. With a marker, it takes its worker down at the sight of key 2 if that file
    is not there yet; the marker "" never is."""

    batch_rows = batch_tokens = 0

    def __init__(self, vocabulary, marker=None):
        self.vocabulary, self.marker = vocabulary, marker

    def sample(self, prompts, n, params, seed, keys):
        if self.marker is not None and "2" in keys and not os.path.exists(self.marker):
            open(self.marker or os.devnull, "w").close()
            os._exit(1)
        return [[Sample([seed, int(key), j], f"{key} {j}", np.zeros(3, np.float32), True) for j in range(n)]
                for key in keys]


def in_small_batches(engine):
    """So that a few rows are several shards."""
    engine.batch_rows, engine.batch_tokens = 4, 128
    return engine


def build_small(of, *arguments):
    return in_small_batches(of(*arguments))


# --- functions of stages
def say(*, word, folder, after=()):
    (folder / "said").write_text(f"{word} {os.getpid()}")


def die_once(*, folder, marker):
    if not os.path.exists(marker):
        open(marker, "w").close()
        os._exit(1)
    (folder / "said").write_text("again")


def die(*, folder):
    os._exit(1)


def refuse(*, folder):
    raise HealError("refused; give another")


def break_down(*, folder):
    {}["nothing"]
