"""Central differences of a meta-loss along random directions, which know nothing of how its gradient is found."""

import math
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from mamlcli.proofs.checks import DIFFERENCE, Check, MetaGradient, attempt, part_of_norm
from mamlcli.tasks.samples import Task
from mamlcli.types import Params

# The step of a difference, as a part of the parameters' norm: large enough that rounding is far below the
# tolerance, small enough that few ReLU units change sides. It shrinks by half after so many draws.
_STEP = 2e-6
_HALVE_AFTER = 15
_NUM_DIRECTIONS = 5
_MAX_DRAWS = 90
# How well the differences of two step sizes agree where the loss is smooth.
_SMOOTH = 3e-7


class Slope(NamedTuple):
    """The slope of each seed's meta-loss along one direction."""

    direction: Params
    value: Tensor
    smooth: Tensor
    """The seeds whose loss is smooth there."""


def slope_check(
    gradient: MetaGradient,
    params: Params,
    tasks: Task,
    *,
    mistaken: MetaGradient,
    name: str = "slope of the meta-loss",
    along: str = "along random directions",
) -> Check:
    """Check a meta-gradient against the slope of its meta-loss; see `attempt` for `mistaken`."""
    measured = cache(lambda: slopes(gradient, params, tasks))

    def error_of(under_test: MetaGradient) -> float:
        return slope_error(under_test(params, tasks)[0], measured())

    return attempt(name, f"central differences {along}", DIFFERENCE, error_of, gradient, mistaken=mistaken)


def slope_error(grads: Params, found: list[Slope]) -> float:
    """Norm of the errors over the norm of the slopes, over all directions and seeds; 0 where both are zero."""
    errors, values = [], []
    for direction, value, smooth in found:
        products = [(grads[name] * direction[name]).flatten(1).sum(dim=1) for name in grads]
        errors.append((value - torch.stack(products).sum(dim=0))[smooth])
        values.append(value[smooth])
    return part_of_norm(float(torch.cat(errors).norm()), float(torch.cat(values).norm()))


def slopes(meta_gradient: MetaGradient, params: Params, tasks: Task) -> list[Slope]:
    """Measure slopes of the meta-loss along random directions.

    Where an activation changes sides between the two ends of a difference, the loss is not smooth and its
    difference says nothing. That shows in the differences alone: those of step h and h/2 disagree. Such a
    direction is drawn again.

    Raises:
        RuntimeError: If hardly any direction is smooth.
    """
    grads, _ = meta_gradient(params, tasks)
    # A slope along a random direction is about the gradient's norm over the root of the dimension.
    scale = _norm_per_seed(grads) / math.sqrt(sum(value[0].numel() for value in params.values()))
    generator = torch.Generator().manual_seed(0)
    found: list[Slope] = []
    for draw in range(_MAX_DRAWS):
        direction = _unit_direction(params, generator)
        step = _STEP * float(_norm_per_seed(params).min()) * 0.5 ** (draw // _HALVE_AFTER)
        coarse, fine = (_central_difference(meta_gradient, params, tasks, direction, h) for h in (step, step / 2))
        smooth = (coarse - fine).abs() <= _SMOOTH * torch.maximum(scale, fine.abs())
        extrapolated = (4 * fine - coarse) / 3  # cancels the error of second order in h
        found.append(Slope(direction, extrapolated, smooth))
        if sum(int(slope.smooth.sum()) for slope in found) >= _NUM_DIRECTIONS * len(smooth):
            return found
    raise RuntimeError(f"fewer than {_NUM_DIRECTIONS} of {_MAX_DRAWS} directions are smooth")


def _unit_direction(params: Params, generator: torch.Generator) -> Params:
    """A random direction of unit length for each seed."""
    drawn = {
        name: torch.randn(value.shape, generator=generator, dtype=torch.float64).to(value)
        for name, value in params.items()
    }
    lengths = _norm_per_seed(drawn)
    return {name: value / lengths.view(-1, *[1] * (value.ndim - 1)) for name, value in drawn.items()}


def _norm_per_seed(values: Params) -> Tensor:
    flat = torch.cat([value.flatten(1) for value in values.values()], dim=1)
    norms: Tensor = torch.linalg.vector_norm(flat, dim=1)
    return norms


def _central_difference(
    meta_gradient: MetaGradient, params: Params, tasks: Task, direction: Params, step: float
) -> Tensor:
    ahead, behind = (
        meta_gradient({name: value + sign * step * direction[name] for name, value in params.items()}, tasks)[1]
        for sign in (1, -1)
    )
    # Where the gradient is of another loss than the logged one, that is logged too.
    loss = "meta_loss" if "meta_loss" in ahead else "post_adapt_loss"
    slope: Tensor = (ahead[loss] - behind[loss]) / (2 * step)
    return slope
