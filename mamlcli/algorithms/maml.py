"""Model-agnostic meta-learning, first and second order (Finn et al. 2017, arXiv:1703.03400).

Pure functions of one task or of many; nothing here knows of sinusoids, MLPs or configs.
"""

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from mamlcli.tasks import Samples, Task
from mamlcli.types import Data, LossFn, Order, Params


def adapt(
    loss_fn: LossFn[Data], params: Params, support: Data, *, inner_lr: float | Params, inner_steps: int, order: Order
) -> Params:
    """Adapt parameters to one task on its support set.

    Repeats theta' <- theta' - alpha * grad L_support(theta')
    (Finn et al. 2017, arXiv:1703.03400, Algorithm 1).

    Args:
        loss_fn: Maps (params, support) to a scalar loss.
        params: Meta-parameters theta, name -> tensor; not modified.
        support: One task's data, any pytree of tensors; here samples x and y, each of shape (K, 1).
        inner_lr: alpha, >= 0; or a tensor for each parameter, which multiplies its gradient.
        inner_steps: Gradient steps, >= 0; 0 returns params unchanged.
        order: "second" differentiates through the inner gradients; "first" treats them as constants.

    Returns:
        Adapted parameters; same names and shapes as params.

    Raises:
        ValueError: If inner_steps or inner_lr is negative.

    >>> theta = {"w": torch.tensor(1.0, requires_grad=True)}
    >>> quadratic = lambda params, target: (params["w"] - target).square() / 2
    >>> adapted = adapt(quadratic, theta, torch.tensor(3.0), inner_lr=0.5, inner_steps=1, order="second")
    >>> adapted["w"].item()  # 1 - 0.5 * (1 - 3)
    2.0
    """
    if inner_steps < 0 or (not isinstance(inner_lr, dict) and inner_lr < 0):
        raise ValueError(f"inner_steps and inner_lr must be >= 0, got {inner_steps} and {inner_lr}")
    rates = inner_lr if isinstance(inner_lr, dict) else dict.fromkeys(params, inner_lr)
    gradient = torch.func.grad(loss_fn)
    for _ in range(inner_steps):
        # torch.func.grad computes a gradient even under no_grad; what is lost is how it came about.
        with torch.no_grad() if order == "first" else nullcontext():
            grads = gradient(params, support)
        params = {name: theta - rates[name] * grads[name] for name, theta in params.items()}
    return params


def post_adapt_loss(
    loss_fn: LossFn[Samples], adapt_fn: Callable[[Params, Samples], Params], params: Params, tasks: Task
) -> Float[Tensor, ""]:
    """The meta-loss of one seed: the mean over B tasks of the query loss after adaptation.

    Args:
        loss_fn: Maps (params, samples) to a scalar loss.
        adapt_fn: Maps (params, support) to adapted parameters.
        params: Meta-parameters of one seed.
        tasks: Support of shape (B, K, 1) and query of shape (B, Q, 1).
    """

    def query_loss(task: Task) -> Tensor:
        return loss_fn(adapt_fn(params, task.support), task.query)

    return torch.vmap(query_loss)(tasks).mean()


def meta_gradient(
    loss_fn: LossFn[Samples], params: Params, tasks: Task, *, inner_lr: float, inner_steps: int, order: Order
) -> tuple[Params, Float[Tensor, " seeds"]]:
    """Differentiate the meta-loss of S seeds side by side.

    Args:
        loss_fn: Maps (params, samples) to a scalar loss.
        params: Meta-parameters, name -> tensor of shape (S, ...); not modified.
        tasks: Support of shape (S, B, K, 1) and query of shape (S, B, Q, 1).
        inner_lr: As for `adapt`.
        inner_steps: As for `adapt`.
        order: As for `adapt`.

    Returns:
        Gradients, same names and shapes as params, and the post-adaptation loss of each seed.
    """
    adapt_fn = partial(adapt, loss_fn, inner_lr=inner_lr, inner_steps=inner_steps, order=order)
    return gradient_per_seed(torch.vmap(partial(post_adapt_loss, loss_fn, adapt_fn)), params, tasks)


def gradient_per_seed(
    losses_of: Callable[[Params, Task], Tensor], params: Params, tasks: Task
) -> tuple[Params, Float[Tensor, " seeds"]]:
    """Differentiate the losses of S seeds, each in its own parameters.

    No seed's loss depends on another seed's parameters, so the gradient of their sum is the stack of their
    gradients. What a loss does not depend on has a gradient of zero.

    Args:
        losses_of: Maps stacked parameters and tasks to S losses.
        params: name -> tensor of shape (S, ...); not modified.
        tasks: The meta-batches of S seeds.

    Returns:
        Gradients, same names and shapes as params, and the losses.
    """

    def total(params: Params) -> tuple[Tensor, Tensor]:
        losses = losses_of(params, tasks)
        return losses.sum(), losses

    if torch.compiler.is_compiling():  # torch.compile traces torch.func, and not autograd.grad
        grads, losses = torch.func.grad(total, has_aux=True)(params)
        return grads, losses
    # Run eagerly, plain autograd does the same with a quarter less overhead.
    leaves = {name: theta.detach().requires_grad_() for name, theta in params.items()}
    loss, losses = total(leaves)
    gradients = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True, materialize_grads=True)
    return dict(zip(leaves, gradients, strict=True)), losses.detach()
