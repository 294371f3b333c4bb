"""95% intervals of means over tasks, and over crossed seeds and tasks; and means corrected by a control variate.

Arrays in, arrays out. Why these intervals, and what a simulation found them to hold, is in `docs/statistics.md`.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from mamlcli.plain import Over

OVER_TASKS: Over = "over tasks"
OVER_SEEDS_AND_TASKS: Over = "over seeds and tasks"
OVER_TASKS_OF_ONE_SEED: Over = "over tasks of one seed; nothing is known of other seeds"
NO_INTERVAL: Over = "none: one seed says nothing of other seeds"


def interval_over(num_seeds: int) -> Over:
    """What the interval of a mean over so many seeds and all tasks is over, in words.

    >>> interval_over(1)
    'over tasks of one seed; nothing is known of other seeds'
    """
    return OVER_SEEDS_AND_TASKS if num_seeds > 1 else OVER_TASKS_OF_ONE_SEED


class MeanSquares(NamedTuple):
    """The analysis of variance of a table with a row for each seed, a column for each task and one value in each cell.

    With variances a, b and e of the effects of seeds, of tasks and of what is left, S seeds and T tasks, their
    expectations are e + T a, e + S b and e.
    """

    seeds: Float[np.ndarray, "*batch"]
    tasks: Float[np.ndarray, "*batch"]
    residual: Float[np.ndarray, "*batch"]


def half_width(
    sample: Float[np.ndarray, "*batch n"], *, fitted: int = 0, confidence: float = 0.95
) -> Float[np.ndarray, "*batch"]:
    """Half-width of the Student interval of a mean over the last axis.

    Args:
        sample: Values; (..., n).
        fitted: How many coefficients were fitted to them before; each takes a degree of freedom.
        confidence: How often such intervals hold the truth, 0 to 1.

    Returns:
        Half-widths; NaN for fewer than 2 + fitted values, and where one is not finite or too large to be squared.
    """
    count = sample.shape[-1]
    if count < 2 + fitted:
        return np.full(sample.shape[:-1], np.nan)
    with np.errstate(invalid="ignore", over="ignore"):
        return _finite(quantile(count - 1 - fitted, confidence) * sample.std(axis=-1, ddof=1 + fitted) / np.sqrt(count))


def crossed_half_width(
    values: Float[np.ndarray, "*batch seeds tasks"], *, fitted: int = 0, confidence: float = 0.95
) -> Float[np.ndarray, "*batch"]:
    """Half-width of the interval of a mean over seeds and tasks, both of which are samples of more.

    Every seed meets every task, so the two are crossed random effects. With one seed the interval is over tasks.

    Args:
        values: A number for each seed and task, as losses or paired differences; (..., S, T) with S >= 1, T >= 1.
        fitted: How many coefficients were fitted to the tasks' means before; each takes a degree of freedom.
        confidence: How often such intervals hold the truth, 0 to 1.

    Returns:
        Half-widths; NaN where a value is not finite, and where there are too few tasks for any.
    """
    num_seeds, num_tasks = values.shape[-2:]
    if num_seeds == 1 or num_tasks < 2 + fitted:
        return half_width(values[..., 0, :], fitted=fitted, confidence=confidence)
    with np.errstate(invalid="ignore", over="ignore"):
        squares = mean_squares(values, fitted=fitted)
        found = half_width_of(squares, num_seeds=num_seeds, num_tasks=num_tasks, fitted=fitted, confidence=confidence)
        return _finite(found)


def mean_squares(values: Float[np.ndarray, "*batch seeds tasks"], *, fitted: int = 0) -> MeanSquares:
    """Analyse the variance of tables of S >= 2 seeds and T >= 2 + fitted tasks; see `crossed_half_width`."""
    num_seeds, num_tasks = values.shape[-2:]
    centred = values - values.mean(axis=(-2, -1), keepdims=True)
    seeds, tasks = centred.mean(axis=-1, keepdims=True), centred.mean(axis=-2, keepdims=True)
    left = centred - seeds - tasks
    return MeanSquares(
        seeds=num_tasks * np.square(seeds).sum(axis=(-2, -1)) / (num_seeds - 1),
        tasks=num_seeds * np.square(tasks).sum(axis=(-2, -1)) / (num_tasks - 1 - fitted),
        residual=np.square(left).sum(axis=(-2, -1)) / ((num_seeds - 1) * (num_tasks - 1)),
    )


def half_width_of(
    squares: MeanSquares, *, num_seeds: int, num_tasks: int, fitted: int = 0, confidence: float = 0.95
) -> Float[np.ndarray, "*batch"]:
    """Half-width of the interval of the mean of a table, from its analysis of variance.

    The variance of the mean, a / S + b / T + e / (S T), is estimated by (A + B) / (S T): A is the mean square of the
    side with the fewer degrees of freedom (seeds, as a rule), which holds the residual too; B, what the other side
    adds, is its mean square less the residual's, or zero. The quantile is the mean of both sides' Student quantiles,
    weighted with A and B (Cochran 1964, "Approximate significance levels of the Behrens-Fisher test", Biometrics 20).
    Satterthwaite's degrees, estimated from A and B, are too many where A is small by chance: with two seeds his
    interval can hold the truth in as few as 87% of cases.

    Args:
        squares: Of tables of S seeds and T tasks.
        num_seeds: S, >= 2.
        num_tasks: T, >= 2 + fitted.
        fitted: As for `crossed_half_width`.
        confidence: The same.
    """
    by_seeds = (squares.seeds, quantile(num_seeds - 1, confidence))
    by_tasks = (squares.tasks, quantile(num_tasks - 1 - fitted, confidence))
    (few, t_few), (many, t_many) = sorted((by_seeds, by_tasks), key=lambda side: -side[1])
    more = np.maximum(many - squares.residual, 0.0)
    variance = few + more
    scale = np.sqrt(np.where(variance == 0, 1.0, variance) * num_seeds * num_tasks)
    return np.asarray((t_few * few + t_many * more) / scale)


class Corrected(NamedTuple):
    """Values less what the tasks at hand are harder than all tasks, as a control variate tells it."""

    values: Float[np.ndarray, "seeds tasks"]
    """Their mean is the corrected one; `crossed_half_width(values, fitted=1)` belongs to it."""
    coefficient: float
    """How much the mean grows with the control's; the regression's slope over tasks."""
    offset: float
    """The plain mean less the corrected one."""


def control_variate(
    values: Float[np.ndarray, "seeds tasks"], control: Float[np.ndarray, " tasks"], *, expected: float
) -> Corrected:
    """Correct a mean over sampled tasks by another number of the same tasks, whose mean over all tasks is known.

    Subtracts c (control - expected) from each task, where c is the slope of the least-squares line of the tasks' means
    over the control (Owen, Monte Carlo theory, methods and examples, section 8.9). The bias by fitting c on the same
    tasks is of order 1 / T, and so small beside the interval, of order 1 / sqrt(T).

    Args:
        values: Of S seeds and T tasks.
        control: A number for each task.
        expected: Its expectation over all tasks.
    """
    spread = control - control.mean()
    total = float(spread @ spread)
    with np.errstate(invalid="ignore", over="ignore"):
        coefficient = float(spread @ values.mean(axis=0)) / total if total > 0 else 0.0
        shift = coefficient * (control - expected)
        return Corrected(values - shift, coefficient, float(shift.mean()))


def quantile(degrees: int | None, confidence: float) -> float:
    """The t with P(-t < T < t) = confidence.

    Args:
        degrees: Of freedom of Student's distribution, >= 1; None for the normal one.
        confidence: 0 to 1.
    """
    from scipy.special import ndtri, stdtrit  # takes a while to load, and no command needs it to answer a mistake

    upper = (1 + confidence) / 2
    return float(ndtri(upper) if degrees is None else stdtrit(degrees, upper))


def _finite(values: NDArray[np.float64] | np.float64) -> NDArray[np.float64]:
    """NaN in place of what is infinite."""
    return np.where(np.isfinite(values), values, np.nan)
