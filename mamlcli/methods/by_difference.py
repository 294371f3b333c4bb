"""The second-order meta-gradient without a second derivative: products with Hessians by differences of gradients.

Pure functions of one task, mapped over tasks and seeds.
"""

from typing import Literal, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import grad, grad_and_value

from mamlcli.methods.inner_loops import descend
from mamlcli.methods.meta_gradients import mean_over_tasks
from mamlcli.methods.method import MetaGradient
from mamlcli.tasks.samples import Samples, Task
from mamlcli.types import LossFn, Params

Sides: TypeAlias = Literal["forward", "central"]


def by_difference(
    loss_fn: LossFn[Samples], *, inner_lr: float, inner_steps: int, difference_step: float, sides: Sides
) -> MetaGradient:
    """Walk back through gradient descent with differences of gradients in place of Hessians.

    With theta_0 … theta_n the weights of a task along its inner steps and v_n = grad L_query(theta_n),
    v_k = v_{k+1} - alpha H_k v_{k+1}, of which the meta-gradient is v_0. The product with H_k, the Hessian of L_support
    at theta_k, is a difference along the direction u = v / |v|, over which the weights move by delta in all:

        forward   H v = |v| (g(theta + delta u) - g(theta)) / delta               one more gradient, off by O(delta)
        central   H v = |v| (g(theta + delta u) - g(theta - delta u)) / (2 delta)     two more, off by O(delta^2)

    with g = grad L_support, whose value at theta_k is that of the inner step. Fallah et al. 2020 (arXiv:1908.10400,
    section 5, HF-MAML) define it for one step, with the central one.

    Args:
        loss_fn: Maps (the model's parameters, samples) to a scalar loss.
        inner_lr: alpha.
        inner_steps: Steps of adaptation, >= 0.
        difference_step: delta, > 0.
        sides: On which sides of theta_k gradients are taken.
    """
    gradient = grad(loss_fn)

    def product(theta: Params, known: Params, vector: Params, support: Samples) -> Params:
        length = torch.stack([value.square().sum() for value in vector.values()]).sum().sqrt()
        # A vector of zeros has no direction, and a product of zeros.
        scale = difference_step / torch.where(length == 0, 1.0, length)
        ahead = gradient({name: value + scale * vector[name] for name, value in theta.items()}, support)
        if sides == "central":
            known = gradient({name: value - scale * vector[name] for name, value in theta.items()}, support)
        width = difference_step * (2 if sides == "central" else 1)
        return {name: length * ((value - known[name]) / width) for name, value in ahead.items()}

    def of_task(theta: Params, task: Task) -> tuple[Params, Float[Tensor, ""]]:
        path = []
        for _ in range(inner_steps):
            known = gradient(theta, task.support)
            path.append((theta, known))
            theta = descend(theta, known, lambda _: inner_lr)
        vector, loss = grad_and_value(loss_fn)(theta, task.query)
        for theta, known in reversed(path):
            vector = descend(vector, product(theta, known, vector, task.support), lambda _: inner_lr)
        return vector, loss

    return mean_over_tasks(of_task)
