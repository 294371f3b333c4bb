"""The proximal inner problem as a textbook writes it: one task, torch.autograd, weights as one vector.

Nothing here shares a line with the code that it is compared with.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mamlcli.tasks.samples import Samples, Task
from mamlcli.types import LossFn, Params

_POWER_STEPS = 20


class Problem(NamedTuple):
    """The inner problem, and what is done about it."""

    loss_fn: LossFn[Samples]
    inner_lr: float
    inner_steps: int
    proximal: float
    cg_steps: int
    """None of them leaves the system of the meta-gradient unsolved, which is first order."""


def on_krylov(problem: Problem, theta: Params, task: Task) -> tuple[Params, Tensor]:
    """The meta-gradient of a task, and its loss.

    What conjugate gradients find after k steps is the one vector of the Krylov space of k dimensions that solves the
    system as seen from there; it is found here with an orthonormal basis of that space, and no recurrence.
    """
    phi = {name: value.clone().requires_grad_() for name, value in theta.items()}
    for _ in range(problem.inner_steps):
        grads = _inner_gradient(problem, theta, phi, task.support, through=False)
        stepped = zip(phi.items(), grads, strict=True)
        phi = {name: (value - problem.inner_lr * grad).detach().requires_grad_() for (name, value), grad in stepped}
    product = _system(problem, phi, task.support)
    loss = problem.loss_fn(phi, task.query)
    target = _flat(torch.autograd.grad(loss, list(phi.values()), allow_unused=True, materialize_grads=True))
    basis, images, candidate = target.new_zeros(len(target), 0), target.new_zeros(len(target), 0), target
    for _ in range(problem.cg_steps):
        size = candidate.norm()
        for _again in range(2):  # once leaves what rounding lets through
            candidate = candidate - basis @ (basis.T @ candidate)
        if candidate.norm() <= 1e-14 * size:
            break
        unit = candidate / candidate.norm()
        wider = torch.cat([basis, unit[:, None]], dim=1), torch.cat([images, product(unit)[:, None]], dim=1)
        if torch.linalg.cholesky_ex(wider[0].T @ wider[1])[1] != 0:
            break  # the system is not positive definite, and conjugate gradients stop before that
        basis, images = wider
        candidate = images[:, -1]
    solution = basis @ torch.linalg.solve(basis.T @ images, basis.T @ target) if basis.shape[1] else target
    pieces = solution.split([value.numel() for value in phi.values()])
    return {name: piece.view_as(theta[name]) for name, piece in zip(phi, pieces, strict=True)}, loss.detach()


def unrolled(problem: Problem, theta: Params, task: Task) -> tuple[Params, float]:
    """The gradient of a task's query loss through all inner steps, by autograd.

    Also how much is left of the inner gradient at their end, as a part of what it was at the start.
    """
    leaves = {name: value.clone().requires_grad_() for name, value in theta.items()}
    phi, norms = leaves, []
    for _ in range(problem.inner_steps):
        grads = _inner_gradient(problem, leaves, phi, task.support, through=True)
        norms.append(float(_flat(grads).detach().norm()))
        phi = {name: phi[name] - problem.inner_lr * grad for name, grad in zip(phi, grads, strict=True)}
    loss = problem.loss_fn(phi, task.query)
    found = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True, materialize_grads=True)
    ended = {name: value.detach().requires_grad_() for name, value in phi.items()}
    last = float(_flat(_inner_gradient(problem, theta, ended, task.support, through=False)).norm())
    return dict(zip(leaves, found, strict=True)), last / norms[0] if norms[0] else 0.0


def largest_curvature(loss_fn: LossFn[Samples], theta: Params, support: Samples) -> float:
    """The largest eigenvalue of the Hessian in size, by the power method from the gradient, from below."""
    phi = {name: value.clone().requires_grad_() for name, value in theta.items()}
    product = _system(Problem(loss_fn, 0.0, 0, 1.0, 0), phi, support)
    grads = torch.autograd.grad(loss_fn(phi, support), list(phi.values()), allow_unused=True, materialize_grads=True)
    vector = _flat(grads)
    size = 0.0
    for _ in range(_POWER_STEPS):
        if not (length := float(vector.norm())):
            break
        unit = vector / length
        vector = product(unit) - unit
        size = float(vector.norm())
    return size


def _inner_gradient(problem: Problem, theta: Params, phi: Params, support: Samples, *, through: bool) -> list[Tensor]:
    """Of the support loss and the proximal term, which is written as the loss that it is."""
    distance = torch.stack([(phi[name] - value).square().sum() for name, value in theta.items()]).sum()
    whole = problem.loss_fn(phi, support) + problem.proximal / 2 * distance
    return list(torch.autograd.grad(whole, list(phi.values()), create_graph=through))


def _system(problem: Problem, phi: Params, support: Samples) -> Callable[[Tensor], Tensor]:
    """Products with I + H / lambda, by double backward."""
    weights = list(phi.values())
    gradient = _flat(torch.autograd.grad(problem.loss_fn(phi, support), weights, create_graph=True))

    def product(vector: Tensor) -> Tensor:
        curved = torch.autograd.grad(
            gradient @ vector, weights, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        return vector + _flat(curved) / problem.proximal

    return product


def _flat(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([tensor.flatten() for tensor in tensors])
