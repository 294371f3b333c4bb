"""A context vector that adapts in the place of weights: CAVIA's inner loop. Pure functions of one task."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from mamlcli.methods.inner_loops import descend
from mamlcli.methods.method import Gradient, InnerLoop
from mamlcli.models.model import Model
from mamlcli.tasks.samples import Samples
from mamlcli.types import LossFn, Params

CONTEXT = "context.weight"
"""What the context is multiplied with, shape (units of the first layer, size of the context)."""
_WEIGHT, _BIAS = "layer0.weight", "layer0.bias"


def init_contextual(widened: Callable[[int], Model], size: int, seed: int) -> Params:
    """Draw the parameters of a model whose first layer sees the context after its inputs.

    They are those of the model with so many more inputs, of which the last columns of its first weight matrix have a
    name of their own.

    Args:
        widened: Builds the model with more inputs.
        size: Numbers in the context.
        seed: Of the model's generator.
    """
    params = widened(size).init(seed)
    whole = params[_WEIGHT]
    inputs, context = torch.split(whole, [whole.shape[1] - size, size], dim=1)
    return params | {_WEIGHT: inputs.contiguous(), CONTEXT: context.contiguous()}


def context_descent(loss_fn: LossFn[Samples], inner_lr: float) -> InnerLoop:
    """Adapt the context alone: phi <- phi - alpha grad_phi L_support(theta, phi), from phi = 0.

    Zintgraf et al. 2019 (arXiv:1810.03642, equations 3 and 4). What enters the first layer beside its inputs is the
    same for all samples of a task: it is added to the layer's bias.

    Args:
        loss_fn: Maps (the model's parameters, samples) to a scalar loss.
        inner_lr: alpha.
    """

    def start(params: Params) -> Params:
        weight = params[CONTEXT]
        return {"phi": weight.new_zeros(weight.shape[-1])}

    def step(params: Params, state: Params, support: Samples, _: int, gradient: Gradient[Samples]) -> Params:
        def loss_of(state: Params, samples: Samples) -> Tensor:
            return loss_fn(_in_context(params, state["phi"]), samples)

        return descend(state, gradient(loss_of, state, support), lambda _: inner_lr)

    def predictors(
        params: Params, state: Params, _support: Samples, steps: int, _gradient: Gradient[Any]
    ) -> Mapping[str, Params]:
        return {"": _in_context(params, state["phi"]) if steps else _of_model(params)}

    return InnerLoop(start, step, predictors)


def _of_model(params: Params) -> Params:
    return {name: value for name, value in params.items() if name != CONTEXT}


def _in_context(params: Params, phi: Tensor) -> Params:
    """The parameters of the model that does what the wider one does in this context."""
    return _of_model(params) | {_BIAS: params[_BIAS] + torch.mv(params[CONTEXT], phi)}
