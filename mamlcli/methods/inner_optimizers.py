"""What becomes of an inner gradient before it is a step: the optimisers of torch.optim as pure functions.

Written out of operations that can be differentiated, so that second order sees through them.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor

from mamlcli.section import InnerRule
from mamlcli.types import Params

Memory: TypeAlias = Any
"""What an optimiser remembers of earlier steps on a task: any pytree of tensors."""

# Those of torch.optim.Adam.
_BETA1, _BETA2, _EPS = 0.9, 0.999, 1e-8


class InnerOptimizer(NamedTuple):
    """How gradients become directions; a step is theta' = theta - rate * direction."""

    start: Callable[[Params], Memory]
    """What adapts to what is remembered before the first step."""
    direction: Callable[[Params, Memory, int], tuple[Params, Memory]]
    """(gradient, memory, the step's number from 0) to the direction, and what is remembered next."""


SGD = InnerOptimizer(start=lambda _: {}, direction=lambda grads, memory, _: (grads, memory))
"""The gradient itself."""


def momentum(decay: float) -> InnerOptimizer:
    """The heavy ball of `torch.optim.SGD(momentum=decay)`: v <- decay v + g, from v = g at the first step."""

    def direction(grads: Params, velocity: Params, _: int) -> tuple[Params, Params]:
        velocity = {name: decay * velocity[name] + grad for name, grad in grads.items()}
        return velocity, velocity

    return InnerOptimizer(_zeros, direction)


def adam() -> InnerOptimizer:
    """`torch.optim.Adam` with its defaults (Kingma and Ba 2015, arXiv:1412.6980, Algorithm 1).

    A gradient that was zero at every step, as that of a unit that is dead, gives a direction of zero, whose derivative
    through the square root is taken as zero too.
    """

    def direction(grads: Params, memory: Memory, number: int) -> tuple[Params, Memory]:
        first, second = memory
        first = {name: _BETA1 * first[name] + (1 - _BETA1) * grad for name, grad in grads.items()}
        second = {name: _BETA2 * second[name] + (1 - _BETA2) * grad.square() for name, grad in grads.items()}
        scale, root = 1 - _BETA1 ** (number + 1), (1 - _BETA2 ** (number + 1)) ** 0.5
        stepped = {name: first[name] / scale / (_root(second[name]) / root + _EPS) for name in grads}
        return stepped, (first, second)

    return InnerOptimizer(lambda theta: (_zeros(theta), _zeros(theta)), direction)


def inner_optimizer(rule: InnerRule, decay: float) -> InnerOptimizer:
    """What a config's `inner_optimizer` and `inner_momentum` stand for."""
    return {"sgd": SGD, "momentum": momentum(decay), "adam": adam()}[rule]


IN_TITLES: dict[InnerRule, list[str]] = {"sgd": [], "momentum": ["inner momentum"], "adam": ["inner Adam"]}
"""What a title says of them."""


def _root(square: Tensor) -> Tensor:
    """The square root; its derivative at zero, which is infinite, counts as zero."""
    positive = square > 0
    return square.where(positive, 1.0).sqrt().where(positive, 0.0)


def _zeros(theta: Params) -> Params:
    return {name: torch.zeros_like(value) for name, value in theta.items()}
