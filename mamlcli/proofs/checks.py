"""Checks of a meta-gradient, each against something computed another way."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from mamlcli.algorithms import MetaGradient
from mamlcli.tasks import Samples, Task
from mamlcli.training import flat_per_seed
from mamlcli.types import LossFn, Params

EXACT = 1e-10
"""Tolerance where both sides are exact in float64 but for rounding."""
DIFFERENCE = 1e-6
"""Tolerance of finite differences."""

# The step of a difference, as a part of the parameters' norm: large enough that rounding is far below the
# tolerance, small enough that few ReLU units change sides. It shrinks by half after so many draws.
_STEP = 2e-6
_HALVE_AFTER = 15
_NUM_DIRECTIONS = 5
_MAX_DRAWS = 90
# How well the differences of two step sizes agree where the loss is smooth.
_SMOOTH = 3e-7


class Check(NamedTuple):
    """One row of the proof."""

    name: str
    compared_with: str
    relative_error: float
    tolerance: float
    passed: bool


def attempt(name: str, compared_with: str, tolerance: float, error: Callable[[], float]) -> Check:
    """Make a row; a computation that raises has not passed, and its message says why."""
    try:
        value = error()
    except (RuntimeError, OSError) as failure:
        return Check(
            name, f"{compared_with} (failed: {str(failure).splitlines()[0]})", math.inf, tolerance, passed=False
        )
    return Check(name, compared_with, value, tolerance, passed=value <= tolerance)


def slope_check(gradient: MetaGradient, params: Params, tasks: Task) -> Check:
    """Check a second-order meta-gradient against the slope of its meta-loss; see `finite_difference_error`."""
    return attempt(
        "second order: slope of the meta-loss",
        "central differences along random directions",
        DIFFERENCE,
        lambda: finite_difference_error(gradient, params, tasks),
    )


def relative_error(ours: Params, theirs: Params) -> float:
    """Norm of the difference over the norm of the reference, all tensors as one vector; NaN counts as infinite."""
    difference = norm({name: ours[name] - theirs[name] for name in theirs})
    if difference == 0:
        return 0.0
    error = difference / norm(theirs) if norm(theirs) else math.inf
    return error if math.isfinite(error) else math.inf


def gradient_error(ours: tuple[Params, Tensor], theirs: tuple[Params, Tensor]) -> float:
    """The larger relative error of two meta-gradients and of the losses beside them."""
    (grads, losses), (expected, expected_losses) = ours, theirs
    return max(relative_error(grads, expected), relative_error({"": losses}, {"": expected_losses}))


def norm(values: Params) -> float:
    """2-norm of all tensors as one vector."""
    return float(torch.cat([value.flatten() for value in values.values()]).norm())


def cosine(one: Params, other: Params) -> float:
    """Cosine of the angle between two sets of tensors, each as one vector."""
    dot = sum(float((one[name] * other[name]).sum()) for name in one)
    return dot / (norm(one) * norm(other))


def finite_difference_error(meta_gradient: MetaGradient, params: Params, tasks: Task) -> float:
    """Compare the meta-gradient with central differences of its meta-loss along random directions.

    Where an activation changes sides between the two ends of a difference, the loss is not smooth and its
    difference says nothing. That shows in the differences alone: those of step h and h/2 disagree. Such a
    direction is drawn again.

    Returns:
        Norm of the errors over the norm of the slopes, over all directions and seeds.

    Raises:
        RuntimeError: If hardly any direction is smooth.
    """
    grads, _ = meta_gradient(params, tasks)
    # A slope along a random direction is about the gradient's norm over the root of the dimension.
    scale = _norm_per_seed(grads) / math.sqrt(sum(value[0].numel() for value in params.values()))
    generator = torch.Generator().manual_seed(0)
    errors: list[Tensor] = []
    slopes: list[Tensor] = []
    for draw in range(_MAX_DRAWS):
        direction = _unit_direction(params, generator)
        step = _STEP * float(_norm_per_seed(params).min()) * 0.5 ** (draw // _HALVE_AFTER)
        coarse, fine = (_central_difference(meta_gradient, params, tasks, direction, h) for h in (step, step / 2))
        smooth = (coarse - fine).abs() <= _SMOOTH * torch.maximum(scale, fine.abs())
        extrapolated = (4 * fine - coarse) / 3  # cancels the error of second order in h
        products = [(grads[name] * direction[name]).flatten(1).sum(dim=1) for name in params]
        analytic = torch.stack(products).sum(dim=0)
        errors.append((extrapolated - analytic)[smooth])
        slopes.append(extrapolated[smooth])
        if sum(len(chosen) for chosen in slopes) >= _NUM_DIRECTIONS * len(smooth):
            error = float(torch.cat(errors).norm() / torch.cat(slopes).norm())
            return error if math.isfinite(error) else math.inf
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
    norms: Tensor = torch.linalg.vector_norm(flat_per_seed(values), dim=1)
    return norms


def _central_difference(
    meta_gradient: MetaGradient, params: Params, tasks: Task, direction: Params, step: float
) -> Tensor:
    ahead, behind = (
        meta_gradient({name: value + sign * step * direction[name] for name, value in params.items()}, tasks)[1]
        for sign in (1, -1)
    )
    slope: Tensor = (ahead - behind) / (2 * step)
    return slope


def quadratic_error(
    make_meta_gradient: Callable[[LossFn[Samples]], tuple[MetaGradient, MetaGradient]],
    rates: Callable[[Params], Params],
    *,
    inner_lr: float,
    inner_steps: int,
) -> float:
    """Compare both orders with the closed form on L(theta) = sum_i a_i theta_i^2 / 2.

    An inner step multiplies theta_i by (1 - alpha a_i), so with p_i = (1 - alpha a_i)^steps first order is
    a_i p_i theta_i, and second order is first order times p_i.

    Args:
        make_meta_gradient: Maps a loss function to the meta-gradients of first and of second order.
        rates: Maps theta to meta-parameters beside it that multiply every step by alpha; may be none.
        inner_lr: alpha.
        inner_steps: Steps of adaptation.
    """
    curvature = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
    theta = torch.tensor([[1.0, -2.0, 3.0]], dtype=torch.float64)

    def loss_fn(params: Params, samples: Samples) -> Tensor:
        return (curvature * params["theta"].square()).sum() / 2 + 0 * samples.x.sum()

    nothing = Samples(torch.zeros(1, 2, 1, 1, dtype=torch.float64), torch.zeros(1, 2, 1, 1, dtype=torch.float64))
    params = {"theta": theta} | rates({"theta": theta})
    both = (gradient(params, Task(nothing, nothing))[0] for gradient in make_meta_gradient(loss_fn))
    first, second = ({"theta": grads["theta"]} for grads in both)
    power = (1 - inner_lr * curvature) ** inner_steps
    expected = {"theta": curvature * power * theta}
    return max(relative_error(first, expected), relative_error(second, {"theta": expected["theta"] * power}))
