"""Losses of two runs on the same tasks, taken from each other: the same seed on the same task.

Whatever makes a task hard makes it so for both runs. Their difference on it is free of that, and the interval of its
mean much narrower than those of the two means.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from mamlcli.meta_test.losses import median_or_none
from mamlcli.rows import PairedRow
from mamlcli.statistics import crossed_half_width
from mamlcli.types import finite_or_none
from mamlcli.verdicts import Difference, statement


def paired_differences(
    one: Float[Tensor, "seeds tasks steps"], other: Float[Tensor, "seeds tasks steps"]
) -> list[Difference]:
    """The mean over seeds and tasks of `one - other` after each inner step, with its intervals.

    Args:
        one: Losses as `mamlcli.meta_test.losses.adaptation_losses` gives them of a predictor.
        other: Of another run: the same seeds and tasks, in the same order.

    Returns:
        What is not finite is NaN.
    """
    with np.errstate(invalid="ignore"):  # inf - inf, where a task diverged in both
        differences = _by_step(one) - _by_step(other)
        means = differences.mean(axis=(1, 2))
        halves = [crossed_half_width(differences, confidence=confidence) for confidence in (0.95, 0.90)]
    return [Difference(*map(float, of_step)) for of_step in zip(means, *halves, strict=True)]


def mean_losses(losses: Float[Tensor, "seeds tasks steps"]) -> list[float | None]:
    """The mean over seeds and tasks after each inner step; null where it is not finite."""
    return [finite_or_none(values.mean()) for values in _by_step(losses)]


def interval_ends(difference: Difference) -> tuple[float | None, float | None]:
    """Both ends of the 95% interval; null where it is not finite."""
    mean, half, _ = difference
    return finite_or_none(mean - half), finite_or_none(mean + half)


def paired_rows(
    losses: Mapping[str, Mapping[int, Tensor]], baseline: str, *, margin: float, diverged_above: float
) -> list[PairedRow]:
    """What every run scores at each K after each inner step, beside the baseline.

    Args:
        losses: By run and K, of shape (S, T, N + 1): the same seeds, tasks, K and steps of all of them.
        baseline: Which run the others are compared with; it stands first among the rows of a step.
        margin: The largest difference that does not matter, as a part of the baseline's mean, >= 0.
        diverged_above: A task counts as diverged where its loss is not finite or above this.
    """
    rows: list[PairedRow] = []
    order = [baseline, *(name for name in losses if name != baseline)]
    for shots, theirs in losses[baseline].items():
        expected = mean_losses(theirs)
        of_runs = [_rows_of(name, shots, losses[name][shots], diverged_above) for name in order]
        for name, own in zip(order[1:], of_runs[1:], strict=True):
            _add_differences(own, paired_differences(losses[name][shots], theirs), expected, margin)
        rows += [row for of_step in zip(*of_runs, strict=True) for row in of_step]
    return rows


def _rows_of(name: str, shots: int, losses: Tensor, diverged_above: float) -> list[PairedRow]:
    """The rows of one run at one K, of which nothing is compared yet."""
    by_step = _by_step(losses)
    halves = crossed_half_width(by_step)
    return [
        {
            "run": name,
            "shots": shots,
            "inner_steps": step,
            "mean": finite_or_none(values.mean()),
            "ci95": finite_or_none(half),
            "median": median_or_none(values),
            "num_diverged": int((~(values <= diverged_above)).sum()),
            "difference": None,
            "low": None,
            "high": None,
            "statement": None,
        }
        for step, (values, half) in enumerate(zip(by_step, halves, strict=True))
    ]


def _add_differences(
    rows: Sequence[PairedRow], differences: Sequence[Difference], expected: Sequence[float | None], margin: float
) -> None:
    for row, difference, level in zip(rows, differences, expected, strict=True):
        low, high = interval_ends(difference)
        row["difference"], row["low"], row["high"] = finite_or_none(difference.mean), low, high
        row["statement"] = statement(difference, margin=margin * (level or 0.0))


def _by_step(losses: Tensor) -> NDArray[np.float64]:
    """The same with the axis of inner steps first."""
    values: NDArray[np.float64] = losses.double().cpu().numpy().transpose(2, 0, 1)
    return values
