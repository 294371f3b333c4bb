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
    order_checks,
    relative_error,
    term_error,
)
from mamlcli.proofs.quadratic import CURVATURE, TASKS, THETA, quadratic
from mamlcli.proofs.reference import Textbook, loop_meta_gradient, second_order_term, weights_of
from mamlcli.tasks.samples import Samples, Task, all_samples
from mamlcli.types import LossFn, Order, Params

_DETACHED = "a loop over tasks that detaches the inner gradients"
_UNROLLED = "a loop over tasks, autograd.grad(create_graph=True)"


def descent_checks(
    textbook: Textbook, on_quadratic: Callable[[LossFn[Samples], Order], MetaGradient], inner_lr: float, case: Case
) -> list[Check]:
    """Compare with loops, with Hessian-vector products, and with the closed form on a quadratic.

    Args:
        textbook: How a task is adapted to, along plain gradients.
        on_quadratic: Builds the method's plain meta-gradient for another loss, of `{"theta": ...}`, all rates alpha.
        inner_lr: alpha.
        case: What is to be proven.
    """
    first, second = case.gradients["first"], case.gradients["second"]
    params, tasks = case.params, case.tasks

    @cache
    def expected_term() -> Params:
        return second_order_term(textbook, params, tasks)

    def second_order_alone(subtracted: MetaGradient) -> float:
        return term_error(subtracted(params, tasks)[0], second(params, tasks)[0], expected_term())

    return [
        *loop_checks(textbook, case),
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
            partial(_quadratic_error, on_quadratic, inner_lr, textbook.inner_steps),
            ("first", "second"),
            mistaken=("first", "first"),
        ),
    ]


def loop_checks(textbook: Textbook, case: Case) -> list[Check]:
    """Compare both orders with loops over tasks; where both are one, what is left to show is that it is right."""
    second = case.gradients["second"]

    @cache
    def expected(order: Order) -> tuple[Params, Tensor]:
        return loop_meta_gradient(textbook, case.params, case.tasks, order=order)

    checks = order_checks(expected, case, unrolled=_UNROLLED, detached=_DETACHED)
    if checks[0].verdict == "says nothing here":

        def error_of(gradient: MetaGradient) -> float:
            return gradient_error(gradient(case.params, case.tasks), expected("second"))

        plain = attempt("gradient and loss", _UNROLLED, EXACT, error_of, second, mistaken=left_out(second))
        checks.append(plain)
    return checks


def optimizer_check(
    textbook: Textbook,
    optimizer: Callable[[list[Tensor]], torch.optim.Optimizer],
    adapted: Callable[[Params, Samples], Params],
    plain: Callable[[Params, Samples], Params],
    case: Case,
) -> Check:
    """Compare one adaptation with torch.optim, step by step.

    Args:
        textbook: Its loss and its number of steps are read.
        optimizer: Makes one of torch.optim, of tensors that adapt.
        adapted: Maps (meta-parameters, support) of one seed and task to what has adapted, by name.
        plain: The same along plain gradients, which is the mistake of leaving the optimiser out.
        case: What is to be proven.
    """
    params = {name: value[0] for name, value in case.params.items()}
    weights, support = weights_of(params), Samples(*(part[0, 0] for part in case.tasks.support))

    def error_of(ours: Callable[[Params, Samples], Params]) -> float:
        found = ours(params, support)
        theirs = {name: params[name].clone().requires_grad_() for name in found}
        torch_optimizer = optimizer(list(theirs.values()))
        for _ in range(textbook.inner_steps):
            torch_optimizer.zero_grad()
            textbook.loss_fn({name: theirs.get(name, params[name]) for name in weights}, support).backward()  # type: ignore[no-untyped-call]
            torch_optimizer.step()
        moved = {name: value.detach() - params[name] for name, value in theirs.items()}
        return relative_error({name: value.detach() - params[name] for name, value in found.items()}, moved)

    return attempt("inner steps", "torch.optim, step by step", EXACT, error_of, adapted, mistaken=plain)


def joint_checks(textbook: LossFn[Samples], case: Case) -> list[Check]:
    """Compare joint training with a loop: it is MAML without a step, measured on all samples."""
    tasks = Task(case.tasks.support, all_samples(case.tasks))

    def error_of(gradient: MetaGradient) -> float:
        expected = loop_meta_gradient(Textbook(textbook, lambda *_: 0.0, 0), case.params, tasks, order="second")
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
    both = (build(quadratic, order)({"theta": THETA}, TASKS)[0] for order in orders)
    first, second = ({"theta": grads["theta"]} for grads in both)
    power = (1 - inner_lr * CURVATURE) ** inner_steps
    expected = {"theta": CURVATURE * power * THETA}
    return max(relative_error(first, expected), relative_error(second, {"theta": expected["theta"] * power}))
