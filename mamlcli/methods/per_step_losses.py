"""Meta-gradients that change along a training, as in MAML++: annealed losses of every inner step, and the order.

Antoniou et al. 2019 (arXiv:1810.09502, section 4, "multi-step loss optimization") weigh the query losses after each of
the S inner steps, all alike at first, and move the weight to the last one as training goes on. Here in a straight line:
after m of n meta-updates, with t = m / n,

    M = sum_s w_s L_query(theta_s),  w_s = (1 - t) / S before the last step,  w_S = 1 - (1 - t) (S - 1) / S.

At t = 1 that is the meta-loss of MAML. Beside it, and apart from it, the first meta-updates may be of first order.
"""

from collections.abc import Callable
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from mamlcli.methods.course import Course, loss_weights
from mamlcli.methods.inner_loops import gradient_of
from mamlcli.methods.meta_gradients import Logged, gradient_and_log, unrolled
from mamlcli.methods.method import InnerLoop, Log, MetaGradient, Phase
from mamlcli.tasks.samples import Samples, Task
from mamlcli.types import LossFn, Order, Params


def planned_phases(
    inner: InnerLoop, loss_fn: LossFn[Samples], course: Course, *, inner_steps: int
) -> tuple[Phase, ...]:
    """The stretches of a training; none where it is of one."""

    def phase(begins: int) -> Phase:
        order, n = course.order_at(begins), course.per_step_losses
        if n is not None and course.weighs_at(begins):
            return Phase(begins, annealed(inner, loss_fn, inner_steps=inner_steps, order=order, num_updates=n))
        plain = unrolled(inner, loss_fn, inner_steps=inner_steps, order=order)
        gradient = plain if n is None else after_annealing(plain)
        return Phase(begins, lambda _: gradient)

    return () if course.turns() == [0] else tuple(map(phase, course.turns()))


def annealed(
    inner: InnerLoop, loss_fn: LossFn[Samples], *, inner_steps: int, order: Order, num_updates: int
) -> Callable[[Tensor], MetaGradient]:
    """Build the meta-gradient of the weighted meta-loss, as a function of the meta-updates made; see `Phase`.

    Its log has the weighted loss as `meta_loss`, and that after the last step as `post_adapt_loss`.

    Args:
        inner: What adapts.
        loss_fn: Maps (the parameters of a predictor, samples) to a scalar loss; of the first predictor it is measured.
        inner_steps: S, >= 1.
        order: "second" sees through the inner gradients; "first" takes them as constants.
        num_updates: n, >= 1.
    """
    losses_of = step_losses(inner, loss_fn, inner_steps=inner_steps, order=order)

    def at(made: Tensor) -> MetaGradient:
        def objective(params: Params, tasks: Task) -> Logged:
            losses = losses_of(params, tasks)
            # Here and not before: a graph that is compiled once reads `made` at each call.
            meta_losses = losses @ loss_weights(made.to(losses) / num_updates, inner_steps)
            return meta_losses, {"post_adapt_loss": losses[:, -1], "meta_loss": meta_losses}

        return partial(gradient_and_log, objective)

    return at


def after_annealing(meta_gradient: MetaGradient) -> MetaGradient:
    """The same, with the same names in its log as `annealed` has: the losses are one."""

    def gradient(params: Params, tasks: Task) -> tuple[Params, Log]:
        grads, log = meta_gradient(params, tasks)
        return grads, log | {"meta_loss": log["post_adapt_loss"]}

    return gradient


def step_losses(
    inner: InnerLoop, loss_fn: LossFn[Samples], *, inner_steps: int, order: Order
) -> Callable[[Params, Task], Float[Tensor, "seeds steps"]]:
    """The query losses of S seeds after each of the inner steps, the mean over B tasks; see `meta_losses`."""
    gradient = gradient_of(order)

    def of_task(params: Params, task: Task) -> Float[Tensor, " steps"]:
        state, losses = inner.start(params), []
        for step in range(inner_steps):
            state = inner.step(params, state, task.support, step, gradient)
            measured = inner.predictors(params, state, task.support, step + 1, gradient)
            losses.append(loss_fn(next(iter(measured.values())), task.query))
        return torch.stack(losses)

    def of_seed(params: Params, tasks: Task) -> Float[Tensor, " steps"]:
        return torch.vmap(partial(of_task, params))(tasks).mean(dim=0)

    return torch.vmap(of_seed)
