"""The functional MLP from x to y."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BeforeValidator, Field

from mamlcli.section import Count, ModelSection, list_to_tuple

if TYPE_CHECKING:
    from mamlcli.models.model import Model


class MlpConfig(ModelSection):
    """The functional MLP from x to y."""

    name: Literal["mlp"] = "mlp"
    """The model."""
    # The time of autograd and of compilers grows with the square of the layers: a graph of 60 compiled in five minutes.
    hidden_sizes: Annotated[tuple[Count, ...], Field(max_length=100), BeforeValidator(list_to_tuple)] = (40, 40)
    """Units of each hidden layer, at most 100 layers; an empty list is a linear model."""
    activation: Literal["relu", "tanh", "sigmoid", "gelu", "silu", "elu", "softplus"] = "relu"
    """What follows each hidden layer."""
    init: Literal["torch_default", "truncated_normal"] = "torch_default"
    """`torch_default`: as `torch.nn.Linear`. `truncated_normal`: weights of std 0.01 cut at two std, zero
    biases, as in the original MAML code."""


def mlp(config: MlpConfig, num_inputs: int, num_outputs: int) -> Model:
    """Build an MLP between these widths."""
    from mamlcli.models.layers import ACTIVATIONS, forward, init_params
    from mamlcli.models.model import Layers, Model
    from mamlcli.proofs.reference import module_outputs

    sizes = (num_inputs, *config.hidden_sizes, num_outputs)
    return Model(
        init=lambda seed: init_params(sizes, init=config.init, seed=seed),
        predict=partial(forward, activation=ACTIVATIONS[config.activation]),
        num_params=sum((inputs + 1) * outputs for inputs, outputs in pairwise(sizes)),
        num_units=sum(sizes),
        num_tensors=2 * (len(sizes) - 1),
        shapes={
            f"layer{index}.{name}": shape
            for index, (inputs, outputs) in enumerate(pairwise(sizes))
            for name, shape in {"weight": (outputs, inputs), "bias": (outputs,)}.items()
        },
        head=tuple(f"layer{len(sizes) - 2}.{kind}" for kind in ("weight", "bias")),
        layers=Layers(sizes, config.activation),
        reference=partial(module_outputs, sizes, config.activation),
        widened=lambda more: mlp(config, num_inputs + more, num_outputs),
    )
