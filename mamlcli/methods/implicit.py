"""The meta-gradient without the path: where the inner problem is solved, its solution is differentiated as one.

Pure functions of one task, mapped over tasks and seeds.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from mamlcli.methods.inner_loops import constant, descend
from mamlcli.methods.meta_gradients import adapted, mean_over_tasks
from mamlcli.methods.method import Gradient, InnerLoop, MetaGradient
from mamlcli.tasks.samples import Samples, Task
from mamlcli.types import LossFn, Params


def proximal_descent(loss_fn: LossFn[Samples], *, inner_lr: float, proximal: float) -> InnerLoop:
    """Adapt all weights to the support set, and stay near where adaptation began.

    Gradient descent on L_support(phi) + lambda/2 |phi - theta|^2 from phi = theta:
    phi' = phi - alpha (grad L_support(phi) + lambda (phi - theta)).

    Args:
        loss_fn: Maps (the model's parameters, samples) to a scalar loss.
        inner_lr: alpha.
        proximal: lambda.
    """

    def step(theta: Params, phi: Params, support: Samples, _: int, gradient: Gradient[Samples]) -> Params:
        grads = gradient(loss_fn, phi, support)
        return descend(
            phi, {name: grads[name] + proximal * (phi[name] - theta[name]) for name in phi}, lambda _: inner_lr
        )

    return InnerLoop(dict, step, lambda _theta, phi, _support, _steps, _gradient: {"": phi})


def implicit(
    inner: InnerLoop, loss_fn: LossFn[Samples], *, inner_steps: int, proximal: float, cg_steps: int
) -> MetaGradient:
    """Differentiate the solution of the proximal inner problem, wherever the inner loop came near it from.

    At a solution phi, grad L_support(phi) + lambda (phi - theta) = 0, so that d phi / d theta is (I + H / lambda)^-1,
    with H the Hessian of L_support at phi. The meta-gradient is (I + H / lambda)^-1 grad L_query(phi), which conjugate
    gradients find from products with H (Rajeswaran et al. 2019, arXiv:1909.04630, lemma 1 and algorithm 2). Memory does
    not grow with the number of inner steps.

    Args:
        inner: What adapts: `proximal_descent`, whose steps are not differentiated.
        loss_fn: Maps (the model's parameters, samples) to a scalar loss.
        inner_steps: Steps of adaptation, >= 0.
        proximal: lambda, > 0.
        cg_steps: Steps of conjugate gradients, >= 0; after none it is grad L_query(phi).
    """

    def of_task(theta: Params, task: Task) -> tuple[Params, Float[Tensor, ""]]:
        phi = adapted(inner, theta, task.support, inner_steps=inner_steps, gradient=constant)[""]
        grads, loss = torch.func.grad_and_value(loss_fn)(phi, task.query)
        # The gradient's graph is made once, and pulled at for each product: H is symmetric.
        pull = torch.func.vjp(lambda phi: torch.func.grad(loss_fn)(phi, task.support), phi)[1]

        def product(vector: Params) -> Params:
            (curved,) = pull(vector)
            return {name: value + curved[name] / proximal for name, value in vector.items()}

        return conjugate_gradients(product, grads, cg_steps), loss

    return mean_over_tasks(of_task)


def conjugate_gradients(product: Callable[[Params], Params], target: Params, steps: int) -> Params:
    """Approximate the solution x of A x = b in so many steps (Hestenes and Stiefel 1952, doi:10.6028/jres.049.044).

    It stops, for this task alone, where the residual is down to rounding, and before a direction along which A does not
    curve upwards: A is then not positive definite, and no step along it can be trusted. What is no number stays that.

    Residuals are orthogonal to each other but for rounding, and are kept so: else rounding grows with each step, fifty
    times as measured where one eigenvalue is far above the others, and what is computed depends on who computes it.

    Args:
        product: Maps a vector to its product with A, symmetric.
        target: b. Without a step, or where A does not curve upwards along b itself, it is returned as it is.
        steps: How many, >= 0.
    """
    solution = {name: torch.zeros_like(value) for name, value in target.items()}
    residual = direction = target
    squared = _dot(target, target)
    least = torch.finfo(squared.dtype).eps ** 2 * squared
    has_stopped = squared <= least
    found: list[Params] = []
    for step in range(steps):
        has_stopped = has_stopped | (squared <= least)
        found.append(_scaled(residual, 1 / _or_one(squared, has_stopped).sqrt()))
        curved = product(direction)
        curvature = _dot(direction, curved)
        has_stopped = has_stopped | (curvature <= 0)
        length = torch.where(has_stopped, 0.0, squared / _or_one(curvature, has_stopped))
        moved = torch.where(has_stopped, 1.0, length) if step == 0 else length
        solution = {name: value + moved * direction[name] for name, value in solution.items()}
        residual = {name: value - length * curved[name] for name, value in residual.items()}
        for unit in found:
            along = torch.where(has_stopped, 0.0, _dot(residual, unit))
            residual = {name: value - along * unit[name] for name, value in residual.items()}
        before, squared = squared, _dot(residual, residual)
        share = torch.where(has_stopped, 0.0, squared / _or_one(before, has_stopped))
        direction = {name: value + share * direction[name] for name, value in residual.items()}
    return solution if steps else target


def _or_one(value: Tensor, is_left_out: Tensor) -> Tensor:
    """What is divided by: both sides of `where` are computed, and what is not chosen must not divide by zero either."""
    return torch.where(is_left_out, 1.0, value)


def _scaled(vector: Params, factor: Tensor) -> Params:
    return {name: factor * value for name, value in vector.items()}


def _dot(one: Params, other: Params) -> Tensor:
    return torch.stack([(value * other[name]).sum() for name, value in one.items()]).sum()
