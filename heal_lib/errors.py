"""The one exception of the library, and the check that every numeric function starts with."""

import numpy as np


class HealError(Exception):
    """Bad input or a bad setting: one line that names the thing and the mend."""


def as_floats(values, what, mend="look for padding or an empty sequence upstream"):
    """`values` as a float array of the same shape; HealError if it is not numeric or holds a NaN."""
    try:
        array = np.asarray(values, dtype=float)
    except (TypeError, ValueError) as error:
        raise HealError(f"{what}: not numbers ({error}); pass a rectangular numeric array") from None
    if np.isnan(array).any():
        raise HealError(f"{what}: holds NaN; {mend}")
    return array
