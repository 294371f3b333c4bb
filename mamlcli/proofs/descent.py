"""What `check-grads` proves of methods that adapt all weights by gradient descent, or do not adapt at all."""

from collections.abc import Callable
from functools import cache, partial

import torch
from torch import Tensor

from mamlcli.proofs.checks import (
    EXACT,
    Case,
    Check,
    MetaGradient,
    attempt,
    gradient_error,
    left_out,
    relative_error,
    term_error,
)
from mamlcli.proofs.reference import Rates, loop_meta_gradient, second_order_term
from mamlcli.tasks.samples import Samples, Task, all_samples
from mamlcli.types import LossFn, Order, Params

_DETACHED = "a loop over tasks that detaches the inner gradients"
_UNROLLED = "a loop over tasks, autograd.grad(create_graph=True)"


def descent_checks(
    textbook: LossFn[Samples],
    rates: Rates,
    on_quadratic: Callable[[LossFn[Samples], Order], MetaGradient],
    inner_lr: float,
    inner_steps: int,
    case: Case,
) -> list[Check]:
    """Compare with loops, with Hessian-vector products, and with the closed form on a quadratic.

    Args:
        textbook: The loss, written apart from the code under test.
        rates: What multiplies an inner gradient.
        on_quadratic: Builds the method's plain meta-gradient for another loss, of `{"theta": ...}`, all rates alpha.
        inner_lr: alpha.
        inner_steps: Steps of adaptation in training.
        case: What is to be proven.
    """
    first, second = case.gradients["first"], case.gradients["second"]
    params, tasks = case.params, case.tasks

    @cache
    def expected(order: Order) -> tuple[Params, Tensor]:
        return loop_meta_gradient(textbook, params, tasks, rates=rates, inner_steps=inner_steps, order=order)

    def against_loop(order: Order) -> Callable[[MetaGradient], float]:
        return lambda gradient: gradient_error(gradient(params, tasks), expected(order))

    @cache
    def expected_term() -> Params:
        return second_order_term(textbook, params, tasks, rates=rates, inner_steps=inner_steps)

    def second_order_alone(subtracted: MetaGradient) -> float:
        return term_error(subtracted(params, tasks)[0], second(params, tasks)[0], expected_term())

    checks = [
        attempt("second order: gradient and loss", _UNROLLED, EXACT, against_loop("second"), second, mistaken=first),
        attempt("first order: gradient and loss", _DETACHED, EXACT, against_loop("first"), first, mistaken=second),
        attempt(
            "second order minus first order",
            "Hessian-vector products, -alpha H_support grad L_query for one step",
            EXACT,
            second_order_alone,
            first,
            mistaken=second,
        ),
        attempt(
            "both orders on a quadratic",
            "closed form: second = first x (1 - alpha a)^steps",
            EXACT,
            partial(_quadratic_error, on_quadratic, inner_lr, inner_steps),
            ("first", "second"),
            mistaken=("first", "first"),
        ),
    ]
    if checks[0].verdict == "says nothing here":  # both orders are one; what is left to show is that it is right
        plain = attempt(
            "gradient and loss", _UNROLLED, EXACT, against_loop("second"), second, mistaken=left_out(second)
        )
        checks.append(plain)
    return checks


def joint_checks(textbook: LossFn[Samples], case: Case) -> list[Check]:
    """Compare joint training with a loop: it is MAML without a step, measured on all samples."""
    tasks = Task(case.tasks.support, all_samples(case.tasks))

    def error_of(gradient: MetaGradient) -> float:
        expected = loop_meta_gradient(textbook, case.params, tasks, rates=lambda *_: 0.0, inner_steps=0, order="second")
        return gradient_error(gradient(case.params, case.tasks), expected)

    compared_with = "a loop over tasks, autograd.grad on all samples"
    gradient = case.gradients["second"]
    return [attempt("gradient and loss", compared_with, EXACT, error_of, gradient, mistaken=left_out(gradient))]


def _quadratic_error(
    build: Callable[[LossFn[Samples], Order], MetaGradient],
    inner_lr: float,
    inner_steps: int,
    orders: tuple[Order, Order],
) -> float:
    """Compare both orders with the closed form on L(theta) = sum_i a_i theta_i^2 / 2.

    An inner step multiplies theta_i by (1 - alpha a_i), so with p_i = (1 - alpha a_i)^steps first order is
    a_i p_i theta_i, and second order is first order times p_i.

    Args:
        build: Maps a loss function and an order to a meta-gradient in theta (and rates beside it, all alpha).
        inner_lr: alpha.
        inner_steps: Steps of adaptation.
        orders: Which orders stand for the first and the second.
    """
    curvature = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
    theta = torch.tensor([[1.0, -2.0, 3.0]], dtype=torch.float64)

    def loss_fn(params: Params, samples: Samples) -> Tensor:
        return (curvature * params["theta"].square()).sum() / 2 + 0 * samples.x.sum()

    nothing = Samples(torch.zeros(1, 2, 1, 1, dtype=torch.float64), torch.zeros(1, 2, 1, 1, dtype=torch.float64))
    both = (build(loss_fn, order)({"theta": theta}, Task(nothing, nothing))[0] for order in orders)
    first, second = ({"theta": grads["theta"]} for grads in both)
    power = (1 - inner_lr * curvature) ** inner_steps
    expected = {"theta": curvature * power * theta}
    return max(relative_error(first, expected), relative_error(second, {"theta": expected["theta"] * power}))
