"""What an interval of a difference says of two means: a statement with known error rates, never a wish.

Numbers in, a word out. `docs/statistics.md` has the error rates as a simulation found them.
"""

import math
from collections.abc import Callable
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Float

from mamlcli.plain import BoundStatement
from mamlcli.plain import Statement as Statement
from mamlcli.statistics import crossed_half_width, half_width, quantile

Relation: TypeAlias = Literal["equals", "at_most", "at_least"]
"""How a loss stands to a number that it is held against: the number is meant as it is, or as a bound."""


class Difference(NamedTuple):
    """A mean difference of losses with its intervals; a negative one is in favour of what is compared."""

    mean: float
    half95: float
    """Half-width of the 95% interval."""
    half90: float
    """Half-width of the 90% interval, whose ends are two one-sided tests at 5% each."""


class Spread(NamedTuple):
    """How far a mean may be from the truth: half-widths of its 95% and its 90% interval, >= 0."""

    half95: float
    half90: float


def paired_difference(values: Float[np.ndarray, "seeds tasks"]) -> Difference:
    """The mean of paired differences over seeds and tasks; see `mamlcli.statistics.crossed_half_width`."""
    with np.errstate(invalid="ignore"):
        return Difference(float(values.mean()), *spread_of(values))


def spread_of(values: Float[np.ndarray, "seeds tasks"], *, fitted: int = 0) -> Spread:
    """That of a mean over seeds and tasks; see `mamlcli.statistics.crossed_half_width`."""
    return _spread(lambda confidence: float(crossed_half_width(values, fitted=fitted, confidence=confidence)))


def spread_over_tasks(values: Float[np.ndarray, "seeds tasks"]) -> Spread:
    """That of a mean over other tasks, for these seeds."""
    return _spread(lambda confidence: float(half_width(values.mean(axis=0), confidence=confidence)))


def spread_of_trainings(values: Float[np.ndarray, "seeds tasks"], trainings: int) -> Spread:
    """How far the mean of so many other trainings may be from that of all: as far as these seeds differ.

    Together with `spread_of` the seeds' part is Student's prediction interval, which is exact for normal seeds. Of one
    seed nothing is known of others, and it is zero.
    """
    seeds = len(values)
    if seeds == 1:
        return Spread(0.0, 0.0)
    means, other = values.mean(axis=1), math.sqrt(seeds / trainings)
    return _spread(lambda confidence: other * float(half_width(means, confidence=confidence)))


def published_spread(half95: float, degrees: int | None = None) -> Spread:
    """That of a published 95% interval.

    Args:
        half95: Its half-width.
        degrees: Student's degrees of freedom that its factor is of; None for a normal interval.
    """
    return Spread(half95, half95 * quantile(degrees, 0.90) / quantile(degrees, 0.95))


def against(ours: float, theirs: float, *spreads: Spread) -> Difference:
    """The difference of two means that know nothing of each other, each uncertain by its spreads.

    Half-widths are added as the root of their summed squares. Where their quantiles differ that is at least what
    Cochran's weighted quantile gives (Cochran 1964, Biometrics 20), so that it errs to the wide side.
    """
    return Difference(ours - theirs, *(math.hypot(*halves) for halves in zip(*spreads, strict=True)))


def _spread(half: Callable[[float], float]) -> Spread:
    return Spread(half(0.95), half(0.90))


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


def bound_statement(difference: Difference, *, margin: float, relation: Relation) -> BoundStatement:
    """Say of a loss whether it keeps a bound.

    `met` where a one-sided test at 5% refuses that it is beyond the bound by the margin or more; else `not met` where
    the 95% interval lies beyond the bound; else `inconclusive`. `diverged` where the difference is not finite.

    Args:
        difference: Ours less the bound.
        margin: How far beyond it does not matter, >= 0.
        relation: Whether the loss is to be at most or at least the bound.

    >>> bound_statement(Difference(-0.04, half95=0.01, half90=0.01), margin=0.005, relation="at_most")
    'met'
    """
    mean, half95, half90 = difference
    if not math.isfinite(mean):
        return "diverged"
    beyond = mean if relation == "at_most" else -mean
    if beyond + half90 < margin:
        return "met"
    return "not met" if beyond > half95 else "inconclusive"
