"""The meta-test: query loss after 0 to N inner steps on fixed tasks, and its statistics."""

import functools
import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from mamlcli.tasks import Samples, Task
from mamlcli.types import AdaptStep, LossFn, Params, Row

# How many weights of a resampling are held at a time.
_BOOTSTRAP_NUMBERS = 2**22
# From here on an expansion in 1/degrees is exact to more digits than anyone prints.
_MANY_DEGREES = 1000


def adaptation_losses(
    loss_fn: LossFn[Samples], adapt_step: AdaptStep[Samples], params: Params, tasks: Task, *, inner_steps: int
) -> Float[Tensor, "seeds tasks steps"]:
    """Measure the query loss of every task after 0 to inner_steps steps of adaptation.

    Args:
        loss_fn: Maps (params, samples) to a scalar loss.
        adapt_step: Makes one inner step.
        params: Meta-parameters of S seeds, name -> (S, ...).
        tasks: T tasks, the same for every seed: support (T, K, 1), query (T, Q, 1).
        inner_steps: N, >= 0.

    Returns:
        Losses of shape (S, T, N + 1). All of them are measured on query samples, step 0 too.
    """

    def one(params: Params, task: Task) -> Tensor:
        losses = [loss_fn(params, task.query)]
        for step in range(inner_steps):
            params = adapt_step(params, task.support, step)
            losses.append(loss_fn(params, task.query))
        return torch.stack(losses)

    with torch.no_grad():
        return torch.vmap(torch.vmap(one, in_dims=(None, 0)), in_dims=(0, None))(params, tasks)


def summarise(
    losses: Float[Tensor, "seeds tasks steps"], *, seeds: Sequence[int], shots: int, diverged_above: float
) -> list[Row]:
    """Summarise losses per seed and over seeds, a row for each inner step.

    A task that diverged stays in the mean and in the median, and is counted beside them.

    Args:
        losses: As `adaptation_losses` returns them.
        seeds: The seeds behind the first axis.
        shots: K, for the rows.
        diverged_above: A task counts as diverged where its loss is not finite or above this.

    Returns:
        Rows of seed, shots, inner_steps, mean, ci95, median, num_diverged and interval. `ci95` is the half-width
        of the 95% interval of the mean: over tasks in the rows of a seed, over the seeds' means in the rows of
        seed "all" (null for one seed). What is not finite is null.
    """
    values = losses.double().cpu().numpy()
    diverged = ~(values <= diverged_above)
    rows: list[Row] = []
    for step in range(values.shape[2]):
        for index, seed in enumerate(seeds):
            rows.append(_row(seed, shots, step, values[index, :, step], diverged[index, :, step], "over tasks"))
        seed_means = values[:, :, step].mean(axis=1)
        row = _row("all", shots, step, seed_means, diverged[:, :, step], "over seeds")
        rows.append(row | {"median": _median(values[:, :, step])})
    return rows


def _row(
    seed: int | str, shots: int, step: int, sample: NDArray[np.float64], diverged: NDArray[np.bool_], interval: str
) -> Row:
    return {
        "seed": seed,
        "shots": shots,
        "inner_steps": step,
        "mean": finite_or_none(sample.mean()),
        "ci95": finite_or_none(half_width(sample)),
        "median": _median(sample),
        "num_diverged": int(diverged.sum()),
        "interval": interval,
    }


def _median(sample: NDArray[np.float64]) -> float | None:
    """The median, for which a loss that is no number any more is a large one."""
    return finite_or_none(np.median(np.where(np.isnan(sample), np.inf, sample)))


def finite_or_none(value: float | np.floating) -> float | None:
    """A plain float, or None for what JSON has no number for."""
    return float(value) if math.isfinite(value) else None


def half_width(sample: NDArray[np.float64]) -> float:
    """Half-width of the 95% Student interval of a mean; NaN for fewer than two values."""
    if len(sample) < 2 or not np.isfinite(sample).all():
        return math.nan
    return student_quantile(len(sample) - 1) * float(sample.std(ddof=1)) / math.sqrt(len(sample))


@functools.cache
def student_quantile(degrees: int, probability: float = 0.95) -> float:
    """The t with P(-t < T < t) = probability, for Student's distribution.

    Bisects the finite sums for whole degrees of freedom (Abramowitz and Stegun, 26.7.3 and 26.7.4), and expands
    in 1/degrees where there are many (26.7.5).

    Args:
        degrees: Degrees of freedom, >= 1.
        probability: In (0, 1).

    >>> round(student_quantile(2), 3)
    4.303
    """
    if degrees > _MANY_DEGREES:
        z = NormalDist().inv_cdf((1 + probability) / 2)
        first, second = (z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96
        third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
        return z + first / degrees + second / degrees**2 + third / degrees**3

    def inside(theta: float) -> float:
        """P(|T| < t) at t = tan(theta) * sqrt(degrees)."""
        cosine, odd = math.cos(theta), degrees % 2
        term, total = (cosine if odd else 1.0), 0.0
        for k in range(degrees // 2):
            total += term
            term *= cosine**2 * (2 * k + 1 + odd) / (2 * k + 2 + odd)
        total *= math.sin(theta)
        return 2 / math.pi * (theta + total) if odd else total

    low, high = 0.0, math.pi / 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if inside(middle) < probability else (low, middle)
    return math.tan(low) * math.sqrt(degrees)


def bootstrap_intervals(
    differences: NDArray[np.float64], *, num_resamples: int = 10_000, seed: int = 0
) -> list[tuple[float, float]]:
    """95% percentile intervals of means of paired differences, resampling seeds and tasks.

    Seeds and tasks are crossed (every seed meets every task), so both are drawn with replacement,
    independently of each other (the pigeonhole bootstrap, Owen 2007, doi:10.1214/07-AOAS122). With one seed the
    interval is over tasks.

    Args:
        differences: Of N comparisons, one number per seed and task, shape (N, S, T).
        num_resamples: How many resamples; all comparisons share them.
        seed: Seed of the resampling.

    Returns:
        Low and high of each comparison; NaN where a difference is not finite.
    """
    rng = np.random.default_rng(seed)
    _, num_seeds, num_tasks = differences.shape
    block = max(1, min(num_resamples, _BOOTSTRAP_NUMBERS // num_tasks))
    means = []
    for start in range(0, num_resamples, block):
        size = min(block, num_resamples - start)
        seed_weights = rng.multinomial(num_seeds, np.full(num_seeds, 1 / num_seeds), size=size) / num_seeds
        task_weights = rng.multinomial(num_tasks, np.full(num_tasks, 1 / num_tasks), size=size) / num_tasks
        with np.errstate(invalid="ignore"):  # inf - inf, where a task diverged in both
            by_seed = differences @ task_weights.T  # (N, S, size)
            means.append(np.einsum("rs,nsr->nr", seed_weights, by_seed))
    all_means = np.concatenate(means, axis=1)
    finite = np.array([np.isfinite(one).all() for one in differences], dtype=np.bool_)
    intervals = np.percentile(all_means[finite], [2.5, 97.5], axis=1).T.tolist() if finite.any() else []
    found = iter(intervals)
    return [(*next(found),) if is_finite else (math.nan, math.nan) for is_finite in finite.tolist()]
