"""The meta-gradient as a textbook writes it: loops, torch.autograd, torch.nn; slow, plain, and independent.

Nothing here shares a line with the code that it is compared with.
"""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, jvp

from mamlcli.tasks.samples import Samples, Task
from mamlcli.types import LossFn, Order, Params

Rates: TypeAlias = Callable[[Params, str, int], float | Tensor]
"""Maps (parameters, a parameter's name, the number of an inner step) to what multiplies its gradient."""

Outputs: TypeAlias = Callable[[Params, Tensor], Tensor]
"""Maps one model's parameters and inputs to outputs."""

_MODULES: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "elu": nn.ELU,
    "softplus": nn.Softplus,
}


def module_outputs(sizes: Sequence[int], activation: str) -> Outputs:
    """Build the outputs of that stack as a function of its parameters and of inputs."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), _MODULES[activation]()]
    network = nn.Sequential(*layers[:-1])
    names = [name for name, _ in network.named_parameters()]

    def predict(params: Params, x: Tensor) -> Tensor:
        renamed = dict(zip(names, params.values(), strict=True))
        outputs: Tensor = functional_call(network, renamed, (x,))
        return outputs

    return predict


Turned: TypeAlias = Callable[[Sequence[Tensor]], Sequence[Tensor]]
"""Maps the gradients of one step after the other to what is stepped along: an optimiser with a memory."""


class Textbook(NamedTuple):
    """How a task is adapted to, written apart from the code under test."""

    loss_fn: LossFn[Samples]
    rates: Rates
    """Zero for what does not adapt."""
    inner_steps: int
    optimizer: Callable[[], Turned] = lambda: lambda grads: grads
    """Makes an optimiser for a task."""
    mapped: Callable[[Params, Params], Params] = lambda _, grads: grads
    """Maps (meta-parameters, gradients) to what the optimiser sees."""


def textbook_optimizer(name: str, decay: float) -> Callable[[], Turned]:
    """Make optimisers by their update rules; see `mamlcli.methods.inner_optimizers`."""

    def adam() -> Turned:
        history: list[Sequence[Tensor]] = []

        def turned(grads: Sequence[Tensor]) -> list[Tensor]:
            history.append(grads)
            count, directions = len(history), []
            for index in range(len(grads)):
                # Both averages written out as sums over all gradients so far.
                first = sum(0.1 * 0.9 ** (count - 1 - k) * past[index] for k, past in enumerate(history))
                second = sum(0.001 * 0.999 ** (count - 1 - k) * past[index] ** 2 for k, past in enumerate(history))
                assert isinstance(first, Tensor)
                assert isinstance(second, Tensor)
                second = second / (1 - 0.999**count)
                seen = second > 0
                root = torch.where(seen, torch.where(seen, second, 1.0) ** 0.5, 0.0)
                directions.append(first / (1 - 0.9**count) / (root + 1e-8))
            return directions

        return turned

    def momentum() -> Turned:
        history: list[Sequence[Tensor]] = []

        def turned(grads: Sequence[Tensor]) -> list[Tensor]:
            history.append(grads)
            count = len(history)
            return [
                torch.stack([decay ** (count - 1 - k) * past[index] for k, past in enumerate(history)]).sum(dim=0)
                for index in range(len(grads))
            ]

        return turned

    return {"sgd": lambda: lambda grads: grads, "adam": adam, "momentum": momentum}[name]


def torch_optimizer(name: str, decay: float, lr: float) -> Callable[[list[Tensor]], torch.optim.Optimizer]:
    """Make the optimisers of torch.optim that those are, of tensors that adapt."""
    if name == "adam":
        return partial(torch.optim.Adam, lr=lr)
    return partial(torch.optim.SGD, lr=lr, momentum=decay if name == "momentum" else 0.0)


def rates_of(kind: str | None, inner_lr: float, adapts: Callable[[str], bool] = lambda _: True) -> Rates:
    """Build the function that says by what a parameter's gradient is multiplied at an inner step.

    Args:
        kind: The config's learned_inner_lr.
        inner_lr: alpha, where no rate is learned.
        adapts: Which parameters adapt; the rate of others is zero.
    """

    def rate(params: Params, name: str, step: int) -> float | Tensor:
        if not adapts(name):
            return 0.0
        if kind is None:
            return inner_lr
        learned = params[f"inner_lr.{name}"]
        return learned if kind == "parameter" else learned[0 if kind == "tensor" else step]

    return rate


def gradient_by_loops(
    query_loss: Callable[[Params, Task], Tensor], params: Params, tasks: Task
) -> tuple[Params, Tensor]:
    """Differentiate the mean query loss of each of S seeds by loops over seeds and tasks.

    Args:
        query_loss: Maps the leaves of a seed and one task to a scalar.
        params: name -> (S, ...).
        tasks: The meta-batches of S seeds.

    Returns:
        Gradients like the parameters, and S losses.
    """
    num_seeds, num_tasks = tasks.support.x.shape[:2]
    grads, losses = [], []
    for seed in range(num_seeds):
        leaves = {name: value[seed].detach().clone().requires_grad_() for name, value in params.items()}
        each = [query_loss(leaves, task_of(tasks, seed, index)) for index in range(num_tasks)]
        meta_loss = torch.stack(each).mean()
        grads.append(torch.autograd.grad(meta_loss, list(leaves.values()), allow_unused=True, materialize_grads=True))
        losses.append(meta_loss.detach())
    columns = zip(*grads, strict=True)
    return {name: torch.stack(column) for name, column in zip(params, columns, strict=True)}, torch.stack(losses)


def task_of(tasks: Task, seed: int, index: int) -> Task:
    """One task of one seed."""
    return tasks.map(lambda part: part[seed, index])


def loop_meta_gradient(textbook: Textbook, params: Params, tasks: Task, *, order: Order) -> tuple[Params, Tensor]:
    """Meta-gradients and meta-losses of S seeds by loops over seeds, tasks and steps; see `gradient_by_loops`."""

    def query_loss(leaves: Params, task: Task) -> Tensor:
        adapted, turned = {name: leaves[name] for name in weights_of(leaves)}, textbook.optimizer()
        for step in range(textbook.inner_steps):
            loss = textbook.loss_fn(adapted, task.support)
            inner = torch.autograd.grad(loss, list(adapted.values()), create_graph=True)
            if order == "first":
                inner = tuple(gradient.detach() for gradient in inner)
            mapped = textbook.mapped(leaves, dict(zip(weights_of(leaves), inner, strict=True)))
            for name, direction in zip(mapped, turned(list(mapped.values())), strict=True):
                adapted = adapted | {name: adapted[name] - textbook.rates(leaves, name, step) * direction}
        return textbook.loss_fn(adapted, task.query)

    return gradient_by_loops(query_loss, params, tasks)


def second_order_term(textbook: Textbook, params: Params, tasks: Task) -> Params:
    """What second order adds to first order, by Hessian-vector products in forward-over-reverse mode.

    The second-order meta-gradient of a task is (I - H_0 alpha_0) ... (I - H_{n-1} alpha_{n-1}) v with
    v = grad L_query(theta_n) and H_k the Hessian of L_support at theta_k; first order is v alone. For one
    step the difference is -H_0 alpha_0 v. A learned rate of step k has the gradient -g_k v_{k+1}, where v_{k+1} is
    the product from the right as far as step k + 1, and v in first order.

    Of plain gradients: no optimiser, no map.

    Returns:
        The difference of the meta-gradients, name -> (S, ...).
    """
    loss_fn, rates, inner_steps = textbook.loss_fn, textbook.rates, textbook.inner_steps

    def of_task(params: Params, task: Task) -> Params:
        theta = {name: params[name] for name in weights_of(params)}
        support_gradient = grad(lambda theta: loss_fn(theta, task.support))
        path, steps = [theta], []
        for step in range(inner_steps):
            steps.append(support_gradient(path[-1]))
            path.append({name: value - rates(params, name, step) * steps[-1][name] for name, value in path[-1].items()})
        difference = {name: torch.zeros_like(value) for name, value in params.items()}
        first = vector = grad(lambda theta: loss_fn(theta, task.query))(path[-1])
        for step in reversed(range(inner_steps)):
            for name in theta:
                if f"inner_lr.{name}" in params:
                    change = -steps[step][name] * (vector[name] - first[name])
                    rate_gradient = grad(lambda p, n=name, c=change, k=step: (rates(p, n, k) * c).sum())(params)
                    rate_name = f"inner_lr.{name}"
                    difference[rate_name] = difference[rate_name] + rate_gradient[rate_name]
            scaled = {name: rates(params, name, step) * value for name, value in vector.items()}
            product = jvp(support_gradient, (path[step],), (scaled,))[1]
            vector = {name: value - product[name] for name, value in vector.items()}
        return difference | {name: value - first[name] for name, value in vector.items()}

    terms = torch.vmap(torch.vmap(of_task, in_dims=(None, 0)))(params, tasks)
    return {name: term.mean(dim=1) for name, term in terms.items()}


def weights_of(params: Params) -> list[str]:
    """Names of the model's parameters among the meta-parameters."""
    return [name for name in params if not name.startswith(("inner_lr.", "inner_map."))]
