"""The meta-gradient as a textbook writes it: loops, torch.autograd, torch.nn; slow, plain, and independent.

Nothing here shares a line with the code that it is compared with.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, jvp

from mamlcli.tasks import Samples, Task
from mamlcli.types import LossFn, Order, Params

_MODULES: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "elu": nn.ELU,
    "softplus": nn.Softplus,
}


def module_loss(sizes: Sequence[int], activation: str) -> LossFn[Samples]:
    """Build the loss of a stack of torch.nn modules that takes its parameters in their order.

    Args:
        sizes: Units of every layer, input and output included.
        activation: As in the config, like "relu".
    """
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), _MODULES[activation]()]
    network = nn.Sequential(*layers[:-1])
    names = [name for name, _ in network.named_parameters()]

    def loss_fn(params: Params, samples: Samples) -> Tensor:
        renamed = dict(zip(names, params.values(), strict=True))
        predictions: Tensor = functional_call(network, renamed, (samples.x,))
        # Not mse_loss, whose double backward has no forward-mode derivative in torch 2.13.
        return torch.mean((predictions - samples.y) ** 2)

    return loss_fn


def loop_meta_gradient(
    loss_fn: LossFn[Samples], params: Params, tasks: Task, *, inner_lr: float, inner_steps: int, order: Order
) -> tuple[Params, Tensor]:
    """Meta-gradients and meta-losses of S seeds by loops over seeds, tasks and steps.

    Args and Returns are those of `mamlcli.algorithms.maml.meta_gradient`.
    """
    num_seeds, num_tasks = tasks.support.x.shape[:2]
    grads, losses = [], []
    for seed in range(num_seeds):
        theta = [value[seed].detach().clone().requires_grad_() for value in params.values()]
        query_losses = []
        for index in range(num_tasks):
            support, query = (Samples(side.x[seed, index], side.y[seed, index]) for side in tasks)
            adapted = theta
            for _ in range(inner_steps):
                loss = loss_fn(dict(zip(params, adapted, strict=True)), support)
                inner = torch.autograd.grad(loss, adapted, create_graph=True)
                if order == "first":
                    inner = tuple(gradient.detach() for gradient in inner)
                adapted = [value - inner_lr * gradient for value, gradient in zip(adapted, inner, strict=True)]
            query_losses.append(loss_fn(dict(zip(params, adapted, strict=True)), query))
        meta_loss = torch.stack(query_losses).mean()
        grads.append(torch.autograd.grad(meta_loss, theta))
        losses.append(meta_loss.detach())
    columns = zip(*grads, strict=True)
    return {name: torch.stack(column) for name, column in zip(params, columns, strict=True)}, torch.stack(losses)


def second_order_term(
    loss_fn: LossFn[Samples], params: Params, tasks: Task, *, inner_lr: float, inner_steps: int
) -> Params:
    """What second order adds to first order, by Hessian-vector products in forward-over-reverse mode.

    The second-order meta-gradient of a task is (I - alpha H_0) ... (I - alpha H_{n-1}) v with
    v = grad L_query(theta_n) and H_k the Hessian of L_support at theta_k; first order is v alone. For one
    step the difference is -alpha H_0 v.

    Returns:
        The difference of the meta-gradients, name -> (S, ...).
    """

    def of_task(params: Params, task: Task) -> Params:
        support_gradient = grad(lambda theta: loss_fn(theta, task.support))
        path = [params]
        for _ in range(inner_steps):
            step = support_gradient(path[-1])
            path.append({name: value - inner_lr * step[name] for name, value in path[-1].items()})
        first = vector = grad(lambda theta: loss_fn(theta, task.query))(path[-1])
        for theta in reversed(path[:-1]):
            product = jvp(support_gradient, (theta,), (vector,))[1]
            vector = {name: value - inner_lr * product[name] for name, value in vector.items()}
        return {name: value - first[name] for name, value in vector.items()}

    terms = torch.vmap(torch.vmap(of_task, in_dims=(None, 0)))(params, tasks)
    return {name: term.mean(dim=1) for name, term in terms.items()}
