"""A functional MLP: parameters as a dict of tensors, and the function that applies them."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Float
from torch import Tensor

from mamlcli.types import Params

Init: TypeAlias = Literal["torch_default", "truncated_normal"]
Activation: TypeAlias = Callable[[Tensor], Tensor]

ACTIVATIONS: dict[str, Activation] = {
    "relu": torch.relu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "gelu": F.gelu,
    "silu": F.silu,
    "elu": F.elu,
    "softplus": F.softplus,
}

_TRUNCATED_STD = 0.01


def init_params(sizes: Sequence[int], *, init: Init, seed: int) -> Params:
    """Draw the parameters of one MLP.

    `torch_default` draws what a stack of `torch.nn.Linear` layers draws after `torch.manual_seed(seed)`:
    weights and biases uniform in +-1/sqrt(inputs). `truncated_normal` draws weights of standard deviation
    0.01 cut at two of them and sets biases to zero, as the code of Finn et al. 2017 does.

    Args:
        sizes: Units of every layer, input and output included; at least two.
        init: Which initialisation.
        seed: Seed of a generator of its own.

    Returns:
        `layer<i>.weight` of shape (out, in) and `layer<i>.bias` of shape (out,), float32, on the CPU.
    """
    generator = torch.Generator().manual_seed(seed)
    params: Params = {}
    for index, (inputs, outputs) in enumerate(pairwise(sizes)):
        weight, bias = torch.empty(outputs, inputs), torch.zeros(outputs)
        if init == "torch_default":
            bound = inputs**-0.5
            weight.uniform_(-bound, bound, generator=generator)
            bias.uniform_(-bound, bound, generator=generator)
        else:
            limit = 2 * _TRUNCATED_STD
            torch.nn.init.trunc_normal_(weight, std=_TRUNCATED_STD, a=-limit, b=limit, generator=generator)
        params[f"layer{index}.weight"] = weight
        params[f"layer{index}.bias"] = bias
    return params


def forward(
    params: Params, x: Float[Tensor, "shots features"], *, activation: Activation
) -> Float[Tensor, "shots outputs"]:
    """Apply an MLP; every layer but the last is followed by the activation. Other names in `params` are not read."""
    num_layers = sum(name.startswith("layer") and name.endswith("weight") for name in params)
    for index in range(num_layers):
        x = F.linear(x, params[f"layer{index}.weight"], params[f"layer{index}.bias"])
        if index < num_layers - 1:
            x = activation(x)
    return x
