"""What `check-grads` proves of a context that adapts: loops over tasks that concatenate it to the inputs."""

from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from mamlcli.proofs.checks import EXACT, Case, Check, MetaGradient, attempt, gradient_error, order_checks
from mamlcli.proofs.reference import Textbook, gradient_by_loops, loop_meta_gradient, rates_of
from mamlcli.tasks.samples import Samples, Task
from mamlcli.types import LossFn, Order, Params

_FIRST, _BIAS = "layer0.weight", "layer0.bias"


class ContextLoop(NamedTuple):
    """How a context adapts, written apart from the code under test."""

    wide_loss: LossFn[Samples]
    """Of the model that sees the context as inputs after its own."""
    context: str
    """The name of what the context is multiplied with."""
    size: int
    """Numbers in the context."""
    inner_lr: float
    inner_steps: int


def contextual_checks(
    loop: ContextLoop, plain_loss: LossFn[Samples], second_order: MetaGradient, case: Case
) -> list[Check]:
    """Compare both orders with loops over tasks, and a context that enters as the identity with a bias that adapts.

    Args:
        loop: How the context adapts.
        plain_loss: The loss of the model without a context, written apart from the code under test.
        second_order: Builds second order from whatever context its parameters have.
        case: What is to be proven.
    """

    def expected(order: Order) -> tuple[Params, Tensor]:
        return _loop_gradient(loop, case.params, case.tasks, order)

    unrolled = "a loop over tasks, [x, phi] into torch.nn, autograd.grad"
    return [
        *order_checks(expected, case, unrolled=unrolled, detached="the same with the inner gradients detached"),
        _identity_check(loop, plain_loss, second_order, case),
    ]


def _loop_gradient(loop: ContextLoop, params: Params, tasks: Task, order: Order) -> tuple[Params, Tensor]:
    """Meta-gradients and meta-losses of S seeds by loops over seeds, tasks and steps."""

    def query_loss(leaves: Params, task: Task) -> Tensor:
        wide = {name: value for name, value in leaves.items() if name != loop.context}
        wide[_FIRST] = torch.cat([leaves[_FIRST], leaves[loop.context]], dim=1)
        phi = torch.zeros(loop.size, dtype=task.support.x.dtype, requires_grad=True)
        for _ in range(loop.inner_steps):
            loss = loop.wide_loss(wide, _with_context(task.support, phi))
            (inner,) = torch.autograd.grad(loss, phi, create_graph=True)
            phi = phi - loop.inner_lr * (inner.detach() if order == "first" else inner)
        return loop.wide_loss(wide, _with_context(task.query, phi))

    return gradient_by_loops(query_loss, params, tasks)


def _with_context(samples: Samples, phi: Tensor) -> Samples:
    return Samples(torch.cat([samples.x, phi.expand(len(samples.x), -1)], dim=1), samples.y)


def _identity_check(loop: ContextLoop, plain_loss: LossFn[Samples], second_order: MetaGradient, case: Case) -> Check:
    """Where V is the identity, b + V phi is a bias that adapts: MAML of that bias alone, with the same alpha."""
    theta = {name: value for name, value in case.params.items() if name != loop.context}
    units = theta[_BIAS].shape[-1]
    identity = torch.eye(units, dtype=torch.float64).expand(len(theta[_BIAS]), units, units)

    @cache
    def expected() -> tuple[Params, Tensor]:
        rates = rates_of(None, loop.inner_lr, lambda name: name == _BIAS)
        return loop_meta_gradient(Textbook(plain_loss, rates, loop.inner_steps), theta, case.tasks, order="second")

    def error_of(context: Tensor) -> float:
        grads, log = second_order(theta | {loop.context: context}, case.tasks)
        return gradient_error(({name: grads[name] for name in theta}, log), expected())

    compared_with = "a loop over tasks in which the first bias alone adapts"
    return attempt("the context as the identity", compared_with, EXACT, error_of, identity, mistaken=2 * identity)
