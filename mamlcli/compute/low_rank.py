"""MAML for MLPs without a weight matrix per task: the same numbers as `methods/maml.py`, faster for wide layers.

A gradient step on K samples changes a weight matrix by a matrix of rank K. With h the inputs of a layer on the
support set, d the derivatives of the support loss in its outputs, and q its inputs on other samples,

    q (W - alpha h^T d) + b - alpha 1^T d  =  q W + b - alpha (q h^T + 1) d.

So the shared weights multiply all tasks in one large product, and a task adds two thin ones.
"""

from collections.abc import Callable
from contextlib import nullcontext
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from mamlcli.methods.meta_gradients import gradient_per_seed
from mamlcli.methods.method import Log
from mamlcli.tasks.samples import Samples, Task
from mamlcli.types import Order, Params


class _Update(NamedTuple):
    """What an inner step leaves of one layer, for every task: its inputs h and output derivatives d."""

    inputs: Float[Tensor, "seeds tasks shots in"]
    derivatives: Float[Tensor, "seeds tasks shots out"]


def low_rank_meta_gradient(
    activation: Callable[[Tensor], Tensor],
    params: Params,
    tasks: Task,
    *,
    inner_lr: float | Float[Tensor, " seeds"],
    inner_steps: int,
    order: Order,
) -> tuple[Params, Log]:
    """Differentiate the meta-loss of MLPs under squared error, of S seeds side by side.

    Args:
        activation: What follows each layer but the last.
        params: `layer<i>.weight` of shape (S, out, in) and `layer<i>.bias` of shape (S, out), in order.
        tasks: Support x of shape (S, B, K, inputs) and y of (S, B, K, outputs); query the same with Q samples. A
            task's loss is the mean over its samples and outputs.
        inner_lr: alpha, >= 0, of all seeds or of each.
        inner_steps: Gradient steps of adaptation, >= 0.
        order: As for `mamlcli.adapt`.

    Returns:
        As `mamlcli.methods.meta_gradients.gradient_per_seed`.
    """
    if isinstance(inner_lr, Tensor):
        weight = next(iter(params.values()))
        inner_lr = inner_lr.to(weight).view(-1, 1, 1, 1)

    def losses_of(params: Params, tasks: Task) -> Tensor:
        history: list[list[_Update]] = [[] for _ in range(len(params) // 2)]
        for _ in range(inner_steps):
            with torch.no_grad() if order == "first" else nullcontext():
                updates = _inner_gradient(activation, params, tasks.support, history, inner_lr)
            history = [[*earlier, update] for earlier, update in zip(history, updates, strict=True)]
        outputs, _ = _forward(activation, params, tasks.query.x, history, inner_lr)
        return (outputs - tasks.query.y).square().mean(dim=(1, 2, 3))

    return gradient_per_seed(losses_of, params, tasks)


def _inner_gradient(
    activation: Callable[[Tensor], Tensor],
    params: Params,
    support: Samples,
    history: list[list[_Update]],
    inner_lr: float | Tensor,
) -> list[_Update]:
    """The gradient of every task's support loss in its own weights, in factors."""
    seeds, tasks, shots, num_outputs = support.y.shape
    widths = [weight.shape[1] for name, weight in params.items() if name.endswith("weight")]
    offsets = [support.x.new_zeros(seeds, tasks, shots, width) for width in widths]

    def support_loss(offsets: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        outputs, inputs = _forward(activation, params, support.x, history, inner_lr, offsets)
        # A task's loss is the mean over its samples and outputs; tasks do not share what is differentiated here, so
        # their losses can be summed.
        return (outputs - support.y).square().sum() / (shots * num_outputs), inputs

    derivatives, inputs = torch.func.grad(support_loss, has_aux=True)(offsets)
    return [_Update(*update) for update in zip(inputs, derivatives, strict=True)]


def _forward(
    activation: Callable[[Tensor], Tensor],
    params: Params,
    x: Float[Tensor, "seeds tasks shots features"],
    history: list[list[_Update]],
    inner_lr: float | Tensor,
    offsets: list[Tensor] | None = None,
) -> tuple[Float[Tensor, "seeds tasks shots outputs"], list[Tensor]]:
    """Apply every task's adapted MLP; returns its outputs and the inputs of every layer.

    `offsets` are added to the outputs of the layers, so that a derivative in them is one in the outputs.
    """
    inputs = []
    for index, updates in enumerate(history):
        inputs.append(x)
        weight, bias = params[f"layer{index}.weight"], params[f"layer{index}.bias"]
        flat = x.flatten(1, 2) @ weight.mT + bias.unsqueeze(1)
        outputs = flat.view(*x.shape[:3], -1)
        for update in updates:
            overlap = x @ update.inputs.mT + 1  # the 1 is the bias's part
            outputs = outputs - inner_lr * (overlap @ update.derivatives)
        if offsets is not None:
            outputs = outputs + offsets[index]
        x = activation(outputs) if index < len(history) - 1 else outputs
    return x, inputs
