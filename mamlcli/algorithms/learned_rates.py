"""MAML with learned inner learning rates, which are meta-parameters beside theta.

One for each tensor; one for each tensor and step (as in MAML++, Antoniou et al. 2019, arXiv:1810.09502); or one for
each parameter (Meta-SGD, Li et al. 2017, arXiv:1707.09835). They stand in the same dict as theta, under
`inner_lr.<name>`, so that everything that holds for meta-parameters holds for them.
"""

from functools import partial
from typing import Literal, TypeAlias

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mamlcli.algorithms.maml import adapt, gradient_per_seed, post_adapt_loss
from mamlcli.tasks import Samples, Task
from mamlcli.types import Data, LossFn, Order, Params

RateKind: TypeAlias = Literal["tensor", "tensor_and_step", "parameter"]

PREFIX = "inner_lr."
# Keeps the rates of a seed apart from whatever else is drawn with it.
_STREAM = 1


def init_rates(theta: Params, kind: RateKind, *, interval: tuple[float, float], inner_steps: int, seed: int) -> Params:
    """Draw the initial rates of one seed, uniform in [low, high].

    Args:
        theta: The parameters of the model.
        kind: What has a rate of its own.
        interval: Low and high; equal for a constant.
        inner_steps: Steps of adaptation in training, >= 1.
        seed: Seed of a generator of its own.

    Returns:
        `inner_lr.<name>`, of shape (1,) for `tensor`, (inner_steps,) for `tensor_and_step`, and that of theta for
        `parameter`.
    """
    rng = np.random.default_rng((seed, _STREAM))
    shapes = {"tensor": (1,), "tensor_and_step": (inner_steps,)}
    return {
        PREFIX + name: torch.from_numpy(rng.uniform(*interval, shapes.get(kind, tuple(value.shape)))).float()
        for name, value in theta.items()
    }


def adapt_with_learned_rates(
    loss_fn: LossFn[Data], params: Params, support: Data, *, kind: RateKind, steps: range, order: Order
) -> Params:
    """Adapt theta by its own rates; they are not changed.

    A step beyond those of training takes the rates of the last one. Rates learned for few steps need not be good for
    more: those of one step usually diverge after five.

    Args:
        loss_fn: Maps (params, support) to a scalar loss; sees theta alone.
        params: Theta and its rates.
        support: As for `mamlcli.adapt`.
        kind: What has a rate of its own.
        steps: The numbers of the inner steps to make, from 0.
        order: As for `mamlcli.adapt`.

    Returns:
        Theta adapted, and the rates as they were.
    """
    rates = {name: value for name, value in params.items() if name.startswith(PREFIX)}
    theta = {name: value for name, value in params.items() if name not in rates}
    for step in steps:
        now = {name: rates[PREFIX + name] for name in theta}
        if kind != "parameter":
            now = {name: rate[min(step, len(rate) - 1)] for name, rate in now.items()}
        theta = adapt(loss_fn, theta, support, inner_lr=now, inner_steps=1, order=order)
    return theta | rates


def learned_rates_meta_gradient(
    loss_fn: LossFn[Samples], params: Params, tasks: Task, *, kind: RateKind, inner_steps: int, order: Order
) -> tuple[Params, Float[Tensor, " seeds"]]:
    """Differentiate the meta-loss of S seeds in theta and in the rates.

    First order takes the inner gradients as constants; the rates that multiply them still learn.

    Args:
        loss_fn: Maps (params, samples) to a scalar loss; other names than those of the model may be there.
        params: Theta and its rates, name -> tensor of shape (S, ...); not modified.
        tasks: Support of shape (S, B, K, 1) and query of shape (S, B, Q, 1).
        kind: What has a rate of its own.
        inner_steps: Gradient steps of adaptation, >= 0.
        order: As for `mamlcli.adapt`.

    Returns:
        As `mamlcli.algorithms.maml.meta_gradient`.
    """
    adapt_fn = partial(adapt_with_learned_rates, loss_fn, kind=kind, steps=range(inner_steps), order=order)
    return gradient_per_seed(torch.vmap(partial(post_adapt_loss, loss_fn, adapt_fn)), params, tasks)
