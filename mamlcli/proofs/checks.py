"""Checks of a meta-gradient: rows of a proof, each against something computed another way, and each able to fail."""

import math
from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple, TypeAlias, TypeVar

import torch
from torch import Tensor

from mamlcli.proofs.obstacles import explained
from mamlcli.tasks.samples import Task
from mamlcli.types import Order, Params

T = TypeVar("T")
MetaGradient: TypeAlias = Callable[[Params, Task], tuple[Params, dict[str, Tensor]]]
Verdict: TypeAlias = Literal["holds", "FAILS", "says nothing here"]

EXACT = 1e-10
"""Tolerance where both sides are exact in float64 but for rounding."""
DIFFERENCE = 1e-6
"""Tolerance of finite differences."""


class Check(NamedTuple):
    """One row of the proof."""

    name: str
    compared_with: str
    relative_error: float
    tolerance: float
    verdict: Verdict
    """`says nothing here`: what is known to be wrong passes too, so that it could not have failed."""

    @property
    def passed(self) -> bool:
        """Whether it has not failed."""
        return self.verdict != "FAILS"


class Case(NamedTuple):
    """What is to be proven: meta-gradients as training computes them, and where."""

    gradients: Mapping[Order, MetaGradient]
    """By order, before they are compiled; a method without an order has one, under "second"."""
    params: Params
    """Meta-parameters in float64, name -> (S, ...)."""
    tasks: Task
    """A meta-batch in float64."""


def attempt(
    name: str,
    compared_with: str,
    tolerance: float,
    error_of: Callable[[T], float],
    ours: T,
    *,
    mistaken: T | None = None,
) -> Check:
    """Make a row.

    Args:
        name: What is checked.
        compared_with: What with.
        tolerance: Of the relative error.
        error_of: Maps what is under test to its relative error; one that raises has not passed, and its message says
            why.
        ours: What is under test.
        mistaken: What is known to be wrong wherever the check says something, like first order in place of second. If
            it passes as well, the check says nothing here. None for a check that always can fail.
    """
    try:
        error = error_of(ours)
        blind = error <= tolerance and mistaken is not None and error_of(mistaken) <= tolerance
    except (RuntimeError, OSError) as failure:
        reason = explained(failure) or next(iter(str(failure).splitlines()), type(failure).__name__)
        return Check(name, f"{compared_with} (failed: {reason})", math.inf, tolerance, "FAILS")
    verdict: Verdict = "FAILS" if not error <= tolerance else "says nothing here" if blind else "holds"
    return Check(name, compared_with, error, tolerance, verdict)


def relative_error(ours: Params, theirs: Params) -> float:
    """Norm of the difference over the norm of the reference, all tensors as one vector; NaN counts as infinite."""
    difference = norm({name: ours[name] - theirs[name] for name in theirs})
    if difference == 0:
        return 0.0
    error = difference / norm(theirs) if norm(theirs) else math.inf
    return error if math.isfinite(error) else math.inf


def gradient_error(ours: tuple[Params, Mapping[str, Tensor]], theirs: tuple[Params, Tensor]) -> float:
    """The larger relative error of two meta-gradients and of the losses beside them."""
    (grads, log), (expected, expected_losses) = ours, theirs
    return max(relative_error(grads, expected), relative_error({"": log["post_adapt_loss"]}, {"": expected_losses}))


def norm(values: Params) -> float:
    """2-norm of all tensors as one vector."""
    return float(torch.cat([value.flatten() for value in values.values()]).norm())


def cosine(one: Params, other: Params) -> float:
    """Cosine of the angle between two sets of tensors, each as one vector."""
    dot = sum(float((one[name] * other[name]).sum()) for name in one)
    return dot / (norm(one) * norm(other))
