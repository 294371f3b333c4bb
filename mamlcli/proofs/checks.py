"""Checks of a meta-gradient: rows of a proof, each against something computed another way, and each able to fail."""

import math
from collections.abc import Callable, Mapping
from functools import cache
from typing import NamedTuple, TypeAlias, TypeVar, get_args

import torch
from torch import Tensor

from mamlcli.plain import Verdict as Verdict
from mamlcli.proofs.obstacles import explained
from mamlcli.tasks.samples import Task
from mamlcli.types import Order, Params

T = TypeVar("T")
MetaGradient: TypeAlias = Callable[[Params, Task], tuple[Params, dict[str, Tensor]]]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)

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
    """`says nothing here` of one that passed and would have passed with the mistake that it looks for."""

    @property
    def passed(self) -> bool:
        """Whether it has not failed."""
        return self.verdict != "fails"


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
    tolerance: float | Callable[[], float],
    error_of: Callable[[T], float],
    ours: T,
    *,
    mistaken: T,
) -> Check:
    """Make a row; a computation that raises has not passed, and its message says why.

    Args:
        name: What is checked.
        compared_with: With what.
        tolerance: The largest error that passes, or what computes it.
        error_of: Maps what is under test to its relative error.
        ours: What is under test.
        mistaken: The same with the mistake that the row is there to find: the other order taken, a part left out. If
            it would pass as well, the row says nothing.
    """
    limit = 0.0 if callable(tolerance) else tolerance
    try:
        limit, error = tolerance() if callable(tolerance) else tolerance, error_of(ours)
        passed = error <= limit  # what is not a number has not passed
        verdict: Verdict = "fails" if not passed else "says nothing here" if error_of(mistaken) <= limit else "holds"
    except (RuntimeError, OSError) as failure:
        reason = explained(failure) or next(iter(str(failure).splitlines()), type(failure).__name__)
        return Check(name, f"{compared_with} (failed: {reason})", math.inf, limit, "fails")
    return Check(name, compared_with, error, limit, verdict)


def order_checks(
    expected: Callable[[Order], tuple[Params, Tensor]], case: Case, *, unrolled: str, detached: str
) -> list[Check]:
    """Make the rows of both orders, gradient and loss; the mistake of each is the other order.

    Args:
        expected: The meta-gradient and the losses of an order, computed another way; called once for each.
        case: What is to be proven.
        unrolled: What second order is compared with.
        detached: What first order is.
    """
    first, second = case.gradients["first"], case.gradients["second"]
    known = cache(expected)

    def against(order: Order) -> Callable[[MetaGradient], float]:
        return lambda gradient: gradient_error(gradient(case.params, case.tasks), known(order))

    return [
        attempt("second order: gradient and loss", unrolled, EXACT, against("second"), second, mistaken=first),
        attempt("first order: gradient and loss", detached, EXACT, against("first"), first, mistaken=second),
    ]


def left_out(gradient: MetaGradient) -> MetaGradient:
    """The mistake of computing no gradient: zeros in its place, beside the same losses."""

    def zeros(params: Params, tasks: Task) -> tuple[Params, dict[str, Tensor]]:
        return {name: torch.zeros_like(value) for name, value in params.items()}, gradient(params, tasks)[1]

    return zeros


def relative_error(ours: Params, theirs: Params) -> float:
    """Norm of the difference over the norm of the reference, all tensors as one vector; NaN counts as infinite."""
    return part_of_norm(norm({name: ours[name] - theirs[name] for name in theirs}), norm(theirs))


def number(value: float | None) -> str:
    """An error in a sentence."""
    return "more than can be counted" if value is None else f"{value:.2g}"


def part_of_norm(difference: float, whole: float) -> float:
    """The one over the other; 0 for no difference, infinite for what is not a number or a difference from nothing."""
    if difference == 0:
        return 0.0
    error = difference / whole if whole else math.inf
    return error if math.isfinite(error) else math.inf


def term_error(first: Params, second: Params, term: Params) -> float:
    """How far second order less first order is from the term that makes the difference.

    Relative to that term; or to a hundred-thousandth of the gradient where the term is smaller than that, since the
    two orders are known to a rounding of 1e-15 of the gradient, and that is `EXACT` of such a part.
    """
    difference = norm({name: second[name] - first[name] - value for name, value in term.items()})
    return part_of_norm(difference, max(norm(term), 1e-5 * norm(second)))


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
