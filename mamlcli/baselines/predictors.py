"""Baselines that are fitted at once: means, and a line for each task that is drawn towards the line of all tasks.

Each is fitted to the rows of the meta-train tasks for one K, and then says targets from a support set. Everything is in
the units of a model, in float64. A target that is NaN is not there, and changes nothing.
"""

from collections.abc import Callable
from typing import TypeAlias

from jaxtyping import Float
from torch import Tensor

from mamlcli.tasks.samples import Samples

Predictor: TypeAlias = Callable[[Samples, Tensor], Tensor]
"""Maps support sets of T tasks (T, K, ...) and query inputs (T, Q, features) to predictions (1, T, Q, outputs)."""
Fit: TypeAlias = Callable[[Samples, int], Predictor]
"""Maps the meta-train tasks' rows (N, R, ...) and K to what predicts."""

POOLED_MEAN, OWN_MEAN = "pooled mean", "task's own mean"


def pooled_mean(train: Samples, shots: int) -> Predictor:  # noqa: ARG001
    """Say the mean target over all meta-train rows."""
    mean = mean_target(train.y)
    return lambda _, query_x: mean.expand(1, *query_x.shape[:2], -1)


def own_mean(train: Samples, shots: int) -> Predictor:  # noqa: ARG001
    """Say the mean of a task's support targets; the pooled mean where it has none."""
    pooled = mean_target(train.y)

    def predict(support: Samples, query_x: Tensor) -> Tensor:
        mean = support.y.double().nanmean(dim=1, keepdim=True)
        return mean.where(~mean.isnan(), pooled).expand(-1, query_x.shape[1], -1).unsqueeze(0)

    return predict


def mean_target(y: Float[Tensor, "tasks rows outputs"]) -> Float[Tensor, " outputs"]:
    """The mean over all rows that have the target; 0, the mean of standardised ones, where none has."""
    return y.double().nanmean(dim=(0, 1)).nan_to_num(nan=0.0)
