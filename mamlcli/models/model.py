"""A model as a value: where its parameters begin, and what it says."""

from collections.abc import Callable
from types import MappingProxyType
from typing import NamedTuple, TypeAlias

from torch import Tensor

from mamlcli.types import Params, Shapes

Predict: TypeAlias = Callable[[Params, Tensor], Tensor]
"""Maps parameters and inputs of shape (n, inputs) to outputs of shape (n, outputs)."""


class Layers(NamedTuple):
    """What a backend knows to compute: a stack of linear layers, each but the last followed by an activation."""

    sizes: tuple[int, ...]
    """Units of every layer, input and output included."""
    activation: str
    """A key of `mamlcli.models.layers.ACTIVATIONS`."""


class Model(NamedTuple):
    """A function with parameters."""

    init: Callable[[int], Params]
    """Maps a seed to initial parameters, float32 on the CPU; another seed gives others."""
    predict: Predict
    """Other names than its own may be among the parameters; they are not read."""
    num_params: int
    """Numbers in the parameters of one seed."""
    num_units: int
    """Numbers that a sample leaves on its way through, about."""
    num_tensors: int = 2
    """How many tensors the parameters are."""
    shapes: Shapes = MappingProxyType({})
    """Those of the parameters, so that they are known before anything is allocated; empty asks `init`."""
    head: tuple[str, ...] = ()
    """Names of the parameters of the last layer, which maps features to outputs; none where it is not known."""
    layers: Layers | None = None
    """Where it is an MLP that backends can compute in ways of their own."""
    reference: Callable[[], Predict] | None = None
    """Builds the same as `predict`, written in another way, to compare with."""
    widened: "Callable[[int], Model] | None" = None
    """Builds the same model with so many more inputs after its own, which enter the first of `layers`."""

    def shapes_of(self, adapts: Callable[[str], bool] = lambda _: True) -> Shapes:
        """The shapes of the parameters of such names."""
        shapes = self.shapes or {name: tuple(value.shape) for name, value in self.init(0).items()}
        return {name: shape for name, shape in shapes.items() if adapts(name)}
