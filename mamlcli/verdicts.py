"""What an interval of a difference says of two means: a statement with known error rates, never a wish.

Numbers in, a word out. `docs/statistics.md` has the error rates as a simulation found them.
"""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from mamlcli.plain import Statement as Statement
from mamlcli.statistics import crossed_half_width


class Difference(NamedTuple):
    """A mean difference of losses with its intervals; a negative one is in favour of what is compared."""

    mean: float
    half95: float
    """Half-width of the 95% interval."""
    half90: float
    """Half-width of the 90% interval, whose ends are two one-sided tests at 5% each."""


def paired_difference(values: Float[np.ndarray, "seeds tasks"]) -> Difference:
    """The mean of paired differences over seeds and tasks; see `mamlcli.statistics.crossed_half_width`."""
    with np.errstate(invalid="ignore"):
        halves = (float(crossed_half_width(values, confidence=confidence)) for confidence in (0.95, 0.90))
        return Difference(float(values.mean()), *halves)


def statement(difference: Difference, *, margin: float) -> Statement:
    """Say what a difference of losses shows.

    `equivalent` where both one-sided tests at 5% refuse a difference as large as the margin, that is, where the 90%
    interval lies within it (Schuirmann 1987, doi:10.1007/BF01068419); else `better` or `worse` where the 95% interval
    lies below or above zero; else `inconclusive`: a wide interval shows nothing. `diverged` where the difference is
    not finite.

    Args:
        difference: Ours less theirs, in the unit of the loss.
        margin: The largest difference that does not matter, >= 0.

    >>> statement(Difference(0.01, half95=0.03, half90=0.025), margin=0.05)
    'equivalent'
    >>> statement(Difference(-0.2, half95=0.1, half90=0.08), margin=0.05)
    'better'
    >>> statement(Difference(-0.2, half95=0.9, half90=0.7), margin=0.05)
    'inconclusive'
    """
    mean, half95, half90 = difference
    if not math.isfinite(mean):
        return "diverged"
    if abs(mean) + half90 < margin:
        return "equivalent"
    if abs(mean) > half95:
        return "better" if mean < 0 else "worse"
    return "inconclusive"
