"""The meta-test: query loss after 0 to N inner steps on fixed tasks, and its statistics."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from mamlcli.methods.inner_loops import constant
from mamlcli.methods.method import InnerLoop, State
from mamlcli.plain import Over
from mamlcli.rows import EvalRow
from mamlcli.statistics import (
    NO_INTERVAL,
    OVER_SEEDS_AND_TASKS,
    OVER_TASKS,
    OVER_TASKS_OF_ONE_SEED,
    crossed_half_width,
    half_width,
)
from mamlcli.tasks.samples import Samples, Task
from mamlcli.types import LossFn, Params, finite_or_none


def adaptation_losses(
    inner: InnerLoop, loss_fn: LossFn[Samples], params: Params, tasks: Task, *, inner_steps: int
) -> dict[str, Float[Tensor, "seeds tasks steps *targets"]]:
    """Measure the query loss of every task after 0 to inner_steps steps of adaptation, walking once through them.

    Args:
        inner: What adapts.
        loss_fn: Maps (the parameters of a predictor, samples) to a scalar loss, or to a vector of several.
        params: Meta-parameters of S seeds, name -> (S, ...).
        tasks: T tasks, the same for every seed: support (T, K, ...), query (T, Q, ...).
        inner_steps: N, >= 0.

    Returns:
        Losses of each predictor, of shape (S, T, N + 1), the first predictor first; one that is a vector adds an axis.
        All of them are measured on query samples, step 0 too.
    """

    def one(params: Params, task: Task) -> dict[str, Tensor]:
        state = inner.start(params)
        walked = [_losses_of(inner, loss_fn, params, state, task, 0)]
        for step in range(inner_steps):
            state = inner.step(params, state, task.support, step, constant)
            walked.append(_losses_of(inner, loss_fn, params, state, task, step + 1))
        return {name: torch.stack([losses[name] for losses in walked]) for name in walked[0]}

    with torch.no_grad():
        found: dict[str, Tensor] = torch.vmap(torch.vmap(one, in_dims=(None, 0)), in_dims=(0, None))(params, tasks)
    return found


def _losses_of(
    inner: InnerLoop, loss_fn: LossFn[Samples], params: Params, state: State, task: Task, steps: int
) -> dict[str, Tensor]:
    predictors = inner.predictors(params, state, task.support, steps, constant)
    return {name: loss_fn(predictor, task.query) for name, predictor in predictors.items()}


def summarise(
    losses: Float[Tensor, "seeds tasks steps"], *, seeds: Sequence[int], shots: int, diverged_above: float
) -> list[EvalRow]:
    """Summarise losses per seed and over seeds, a row for each inner step.

    A task that diverged stays in the mean and in the median, and is counted beside them.

    Args:
        losses: Of one predictor, as `adaptation_losses` returns them.
        seeds: The seeds behind the first axis.
        shots: K, for the rows.
        diverged_above: A task counts as diverged where its loss is not finite or above this.

    Returns:
        Rows of which no seed was frozen in training. `ci95` is the half-width
        of the 95% interval of the mean: over tasks in the rows of a seed, over seeds and tasks in the rows of
        seed "all" (null for one seed); `interval` says so. What is not finite is null.
    """
    values = losses.double().cpu().numpy()
    diverged = ~(values <= diverged_above)
    many = len(seeds) > 1
    by_seed = half_width(values.transpose(2, 0, 1))
    over_all = crossed_half_width(values.transpose(2, 0, 1)) if many else np.full(values.shape[2], np.nan)
    over_tasks: Over = OVER_TASKS if many else OVER_TASKS_OF_ONE_SEED
    over_both: Over = OVER_SEEDS_AND_TASKS if many else NO_INTERVAL
    rows: list[EvalRow] = []
    for step in range(values.shape[2]):
        for index, seed in enumerate(seeds):
            chosen = values[index, :, step], diverged[index, :, step]
            rows.append(_row(seed, shots, step, *chosen, by_seed[step, index], over_tasks))
        rows.append(_row("all", shots, step, values[:, :, step], diverged[:, :, step], over_all[step], over_both))
    return rows


def _row(
    seed: int | Literal["all"],
    shots: int,
    step: int,
    values: NDArray[np.float64],
    diverged: NDArray[np.bool_],
    ci95: float,
    interval: Over,
) -> EvalRow:
    return {
        "seed": seed,
        "shots": shots,
        "inner_steps": step,
        "mean": finite_or_none(values.mean()),
        "ci95": finite_or_none(ci95),
        "median": median_or_none(values),
        "num_diverged": int(diverged.sum()),
        "interval": interval,
        "diverged_at_step": None,
        "num_diverged_seeds": 0,
    }


def median_or_none(sample: NDArray[np.float64]) -> float | None:
    """The median, for which a loss that is no number any more is a large one; None where it is not finite."""
    return finite_or_none(np.median(np.where(np.isnan(sample), np.inf, sample)))
