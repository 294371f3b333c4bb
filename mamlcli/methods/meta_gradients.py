"""How the meta-gradient is found: through the unrolled inner loop, or without one. Pure functions of S seeds."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from mamlcli.methods.inner_loops import gradient_of
from mamlcli.methods.method import Gradient, InnerLoop, Log, MetaGradient
from mamlcli.tasks.samples import Samples, Task, all_samples
from mamlcli.types import LossFn, Order, Params

# By a name of its own, since torch.compile cannot trace it where it stands within a function.
Logged: TypeAlias = tuple[Tensor, Log]
"""A loss of each of S seeds, and what is logged."""


def adapted(
    inner: InnerLoop, params: Params, support: Samples, *, inner_steps: int, gradient: Gradient[Any]
) -> Mapping[str, Params]:
    """What predicts after adaptation to one task, by name.

    Args:
        inner: What adapts.
        params: Meta-parameters of one seed; not modified.
        support: One task's samples; x and y of shape (K, ...).
        inner_steps: Steps, >= 0.
        gradient: How inner gradients are found.
    """
    state = inner.start(params)
    for step in range(inner_steps):
        state = inner.step(params, state, support, step, gradient)
    return inner.predictors(params, state, support, inner_steps, gradient)


def meta_losses(
    inner: InnerLoop, loss_fn: LossFn[Samples], *, inner_steps: int, order: Order
) -> Callable[[Params, Task], Tensor]:
    """The meta-losses of S seeds as a function: the query loss after adaptation, the mean over B tasks.

    Args:
        inner: What adapts.
        loss_fn: Maps (the parameters of a predictor, samples) to a scalar loss; of the first predictor it is measured.
        inner_steps: Steps of adaptation, >= 0.
        order: "second" sees through the inner gradients; "first" takes them as constants.
    """
    gradient = gradient_of(order)

    def of_seed(params: Params, tasks: Task) -> Float[Tensor, ""]:
        def query_loss(task: Task) -> Tensor:
            measured = adapted(inner, params, task.support, inner_steps=inner_steps, gradient=gradient)
            return loss_fn(next(iter(measured.values())), task.query)

        return torch.vmap(query_loss)(tasks).mean()

    return torch.vmap(of_seed)


def unrolled(inner: InnerLoop, loss_fn: LossFn[Samples], *, inner_steps: int, order: Order) -> MetaGradient:
    """Differentiate the meta-losses through the inner loop as it was run; see `meta_losses`."""
    return partial(gradient_per_seed, meta_losses(inner, loss_fn, inner_steps=inner_steps, order=order))


def on_all_samples(loss_fn: LossFn[Samples]) -> MetaGradient:
    """Differentiate the mean loss on all samples of the meta-batch, support and query, without adaptation."""

    def losses_of(params: Params, tasks: Task) -> Tensor:
        over_tasks = torch.vmap(loss_fn, in_dims=(None, 0))
        return torch.vmap(over_tasks)(params, all_samples(tasks)).mean(dim=1)

    return partial(gradient_per_seed, losses_of)


def mean_over_tasks(of_task: Callable[[Params, Task], tuple[Params, Tensor]]) -> MetaGradient:
    """Take the mean of what is found of each task by itself: a meta-gradient that is computed, and not differentiated.

    Args:
        of_task: Maps the meta-parameters of a seed and a task to the task's meta-gradient and its query loss.
    """

    def meta_gradient(params: Params, tasks: Task) -> tuple[Params, Log]:
        theta = {name: value.detach() for name, value in params.items()}
        grads, losses = torch.vmap(torch.vmap(of_task, in_dims=(None, 0)))(theta, tasks)
        return {name: value.mean(dim=1) for name, value in grads.items()}, {"post_adapt_loss": losses.mean(dim=1)}

    return meta_gradient


def gradient_per_seed(losses_of: Callable[[Params, Task], Tensor], params: Params, tasks: Task) -> tuple[Params, Log]:
    """Differentiate the losses of S seeds, which are their `post_adapt_loss`; see `gradient_and_log`."""

    def objective(params: Params, tasks: Task) -> Logged:
        losses = losses_of(params, tasks)
        return losses, {"post_adapt_loss": losses}

    return gradient_and_log(objective, params, tasks)


def gradient_and_log(objective: Callable[[Params, Task], Logged], params: Params, tasks: Task) -> tuple[Params, Log]:
    """Differentiate a loss of each of S seeds in the seed's own parameters.

    No seed's loss depends on another seed's parameters, so the gradient of their sum is the stack of their
    gradients. What a loss does not depend on has a gradient of zero.

    Args:
        objective: Maps stacked parameters and tasks to S losses, and what is logged.
        params: name -> tensor of shape (S, ...); not modified.
        tasks: The meta-batches of S seeds.

    Returns:
        Gradients, same names and shapes as params, and the log, as constants.
    """

    def total(params: Params) -> Logged:
        losses, log = objective(params, tasks)
        return losses.sum(), log

    if torch.compiler.is_compiling():  # torch.compile traces torch.func, and not autograd.grad
        grads, log = torch.func.grad(total, has_aux=True)(params)
        return grads, log
    # Run eagerly, plain autograd does the same with a quarter less overhead.
    leaves = {name: theta.detach().requires_grad_() for name, theta in params.items()}
    loss, log = total(leaves)
    gradients = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True, materialize_grads=True)
    return dict(zip(leaves, gradients, strict=True)), {name: value.detach() for name, value in log.items()}
