"""The one exception of the library, and the checks that several modules start with."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


class HealError(Exception):
    """Bad input or a bad setting: one line that names the thing and the mend."""


def as_floats(values: ArrayLike, what: str, mend: str = "look for padding or an empty sequence upstream") -> np.ndarray:
    """`values` as a float array of the same shape; HealError if it is not numeric or holds a NaN."""
    try:
        array = np.asarray(values, dtype=float)
    except (TypeError, ValueError) as error:
        raise HealError(f"{what}: not numbers ({error}); pass a rectangular numeric array") from None
    if np.isnan(array).any():
        raise HealError(f"{what}: holds NaN; {mend}")
    return array


def out_of_memory(error: Exception) -> bool:
    """Whether an error is torch's or Python's for too little memory, on a GPU or a CPU."""
    return isinstance(error, MemoryError) or isinstance(error, RuntimeError) and (
        type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(error))
