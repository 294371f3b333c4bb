"""How far tasks draw the weights away: the meta-gradient of Reptile, which differentiates through no step.

All weights of a task are one row, and the tasks of all seeds lie under one another: few operations make an inner step,
which is fast without a compiler, and half the work for one.
"""

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from mamlcli.methods.inner_optimizers import InnerOptimizer, Memory
from mamlcli.methods.method import Log, MetaGradient
from mamlcli.tasks.samples import Samples, Task
from mamlcli.types import LossFn, Params


def displacement(
    loss_fn: LossFn[Samples],
    optimizer: InnerOptimizer,
    *,
    inner_lr: float,
    inner_steps: int,
    adapts_on: Callable[[Task], Samples],
) -> MetaGradient:
    """Take initial minus adapted weights for the meta-gradient (Nichol et al. 2018, arXiv:1803.02999, Algorithm 1).

    The mean over B tasks, beside the mean query loss of the adapted weights. An outer step of SGD with the rate
    epsilon is theta <- theta + epsilon (mean of theta' - theta).

    Args:
        loss_fn: Maps (the model's parameters, samples) to a scalar loss.
        optimizer: What becomes of inner gradients; its memory begins anew with each task.
        inner_lr: What multiplies a direction.
        inner_steps: Steps of adaptation, >= 0.
        adapts_on: Which samples of tasks they are made on.
    """

    def meta_gradient(params: Params, tasks: Task) -> tuple[Params, Log]:
        shapes = {name: value.shape[1:] for name, value in params.items()}
        num_seeds, num_tasks = tasks.support.x.shape[:2]

        def row_loss(row: Tensor, samples: Samples) -> Tensor:
            return loss_fn(_tensors(row, shapes), samples)

        each = tasks.map(lambda part: part.flatten(0, 1))
        begun = torch.cat([value.detach().flatten(1) for value in params.values()], dim=1)
        rows = begun.repeat_interleave(num_tasks, dim=0)
        rows = _adapted(row_loss, optimizer, rows, adapts_on(each), inner_lr, inner_steps)
        with torch.no_grad():
            losses = torch.vmap(row_loss)(rows, each.query).view(num_seeds, num_tasks)
            moved = begun - rows.view(num_seeds, num_tasks, -1).mean(dim=1)
        return _tensors(moved, shapes), {"post_adapt_loss": losses.mean(dim=1)}

    return meta_gradient


def _adapted(
    row_loss: Callable[[Tensor, Samples], Tensor],
    optimizer: InnerOptimizer,
    rows: Tensor,
    samples: Samples,
    inner_lr: float,
    inner_steps: int,
) -> Tensor:
    """Adapt every row to its own samples."""
    memory: Memory = optimizer.start({"": rows})
    for number in range(inner_steps):
        grads = _gradients(row_loss, rows, samples)
        with torch.no_grad():
            directions, memory = optimizer.direction({"": grads}, memory, number)
            rows = rows - inner_lr * directions[""]
    return rows


def _gradients(row_loss: Callable[[Tensor, Samples], Tensor], rows: Tensor, samples: Samples) -> Tensor:
    """The gradient of each row on its own samples; no row's loss depends on another."""
    if torch.compiler.is_compiling():  # torch.compile traces torch.func, and not autograd.grad
        grads: Tensor = torch.vmap(torch.func.grad(row_loss))(rows, samples)
        return grads
    leaf = rows.detach().requires_grad_()
    return torch.autograd.grad(torch.vmap(row_loss)(leaf, samples).sum(), leaf)[0]


def _tensors(row: Tensor, shapes: Mapping[str, torch.Size]) -> Params:
    """Cut what lies in a row, (..., numbers), into tensors."""
    columns = torch.split(row, [math.prod(shape) for shape in shapes.values()], dim=-1)
    return {
        name: column.reshape(*row.shape[:-1], *shape)
        for (name, shape), column in zip(shapes.items(), columns, strict=True)
    }
