"""Samples and tasks, which know nothing of where they come from."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from mamlcli.types import Params


class Samples(NamedTuple):
    """Inputs of shape (..., K, features) and targets of shape (..., K, outputs)."""

    x: Float[Tensor, "*batch shots features"]
    y: Float[Tensor, "*batch shots outputs"]


class Task(NamedTuple):
    """Samples to adapt on and samples to measure on; leading axes are tasks, or seeds and tasks."""

    support: Samples
    query: Samples

    def map(self, function: Callable[[Tensor], Tensor]) -> "Task":
        """Apply a function to each of the four tensors."""
        return Task(*(Samples(*map(function, side)) for side in self))


def all_samples(tasks: Task) -> Samples:
    """Support and query samples of each task as one set."""
    return Samples(*(torch.cat(parts, dim=-2) for parts in zip(*tasks, strict=True)))


def some_tasks(tasks: Task, chosen: slice) -> Task:
    """The same tasks of every seed, of a meta-batch (S, B, ...)."""
    return tasks.map(lambda part: part[:, chosen])


def in_parts(tasks: Task, size: int) -> Iterator[Task]:
    """Cut a meta-batch (S, B, ...) into parts of at most so many tasks, in their order."""
    return (some_tasks(tasks, slice(first, first + size)) for first in range(0, tasks.query.x.shape[1], size))


def each_alone(params: Params, tasks: Task) -> tuple[Params, Task]:
    """Make every task of (S, B, ...) that of a seed of its own, (S B, 1, ...): seeds know nothing of each other."""
    alone = {name: value.repeat_interleave(tasks.query.x.shape[1], dim=0) for name, value in params.items()}
    return alone, tasks.map(lambda part: part.flatten(0, 1).unsqueeze(1))


class Loss(NamedTuple):
    """How far predictions are from targets, both of shape (n, outputs)."""

    mean: Callable[[Tensor, Tensor], Tensor]
    """Of a set of samples: a scalar."""
    each: Callable[[Tensor, Tensor], Tensor]
    """Of each sample, shape (n,); `mean` is their mean."""


def squared_error(
    predictions: Float[Tensor, "shots outputs"], targets: Float[Tensor, "shots outputs"]
) -> Float[Tensor, ""]:
    """Mean squared error. The shapes must agree: (K, 1) against (K,) would broadcast to (K, K)."""
    # torch's own mse_loss costs a quarter more under vmap and double backward.
    return (predictions - targets).square().mean()


def squared_errors(
    predictions: Float[Tensor, "shots outputs"], targets: Float[Tensor, "shots outputs"]
) -> Float[Tensor, " shots"]:
    """Squared error of each sample, the mean over its outputs."""
    return (predictions - targets).square().mean(dim=-1)


def present_squared_error(
    predictions: Float[Tensor, "shots outputs"], targets: Float[Tensor, "shots outputs"]
) -> Float[Tensor, ""]:
    """Mean squared error over the targets that are there: one that is not a number (NaN) does not count."""
    there = ~targets.isnan()
    return _where_there(predictions, targets, there).square().sum() / there.sum().clamp(min=1)


def present_squared_errors(
    predictions: Float[Tensor, "shots outputs"], targets: Float[Tensor, "shots outputs"]
) -> Float[Tensor, " shots"]:
    """The share of each sample in `present_squared_error`, whose mean over all samples it is."""
    there = ~targets.isnan()
    summed = _where_there(predictions, targets, there).square().sum(dim=-1)
    return summed * len(targets) / there.sum().clamp(min=1)


def _where_there(predictions: Tensor, targets: Tensor, there: Tensor) -> Tensor:
    # The target is replaced before the difference is taken: a derivative through NaN is NaN, however it is weighted.
    return (predictions - targets.where(there, 0)) * there


SQUARED_ERROR = Loss(squared_error, squared_errors)
"""The loss of regression, which the fast backends are made for."""

PRESENT_SQUARED_ERROR = Loss(present_squared_error, present_squared_errors)
"""The same where tasks have unequal numbers of samples: the shorter ones are filled up with targets that are NaN."""
