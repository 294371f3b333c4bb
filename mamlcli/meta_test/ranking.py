"""Runs ranked by their loss on meta-validation tasks, which none has trained on, each beside the first."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from mamlcli.plain import Statement, finite_or_none
from mamlcli.statistics import crossed_half_width
from mamlcli.verdicts import paired_difference, statement


class Ranked(NamedTuple):
    """A run among those that are ranked."""

    rank: int | None
    """From 1; None without a finite mean."""
    mean: float | None
    ci95: float | None
    """Half-width of the 95% interval of the mean, over seeds and tasks."""
    difference: float | None = None
    """The mean less that of the first."""
    difference_ci95: float | None = None
    """Half-width of its 95% interval, paired by seed and task."""
    statement: Statement | None = None
    """What that interval says of it beside the first."""


def ranked(losses: Mapping[str, Float[np.ndarray, "seeds tasks"]]) -> dict[str, Ranked]:
    """Rank runs by their mean losses, the least first; those without a finite one come last.

    Args:
        losses: By name: of the same seeds on tasks of the same numbers.

    >>> found = ranked({"a": np.array([[1.0, 2.0, 3.0]]), "b": np.array([[0.5, 1.0, 1.5]]), "c": np.array([[np.nan]])})
    >>> [(name, one.rank, one.difference) for name, one in found.items()]
    [('b', 1, None), ('a', 2, 1.0), ('c', None, None)]
    """
    means = {name: float(values.mean()) for name, values in losses.items()}
    order = sorted((name for name, mean in means.items() if math.isfinite(mean)), key=means.__getitem__)
    found = {}
    for rank, name in enumerate(order, start=1):
        half = finite_or_none(float(crossed_half_width(losses[name])))
        one = Ranked(rank, means[name], half)
        if rank > 1:
            difference = paired_difference(losses[name] - losses[order[0]])
            one = one._replace(
                difference=finite_or_none(difference.mean),
                difference_ci95=finite_or_none(difference.half95),
                statement=statement(difference, margin=0.0),
            )
        found[name] = one
    return found | {name: Ranked(None, None, None) for name in losses if name not in found}
