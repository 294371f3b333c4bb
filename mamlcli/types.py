"""The types that several rooms share."""

from collections.abc import Callable, Mapping
from typing import TypeAlias, TypeVar

from torch import Tensor

from mamlcli.plain import ORDERS as ORDERS
from mamlcli.plain import AnyRow as AnyRow
from mamlcli.plain import Row as Row
from mamlcli.plain import finite_or_none as finite_or_none
from mamlcli.section import Order as Order

Params: TypeAlias = dict[str, Tensor]
"""Parameters by name. Meta-parameters of S seeds carry a leading axis S on every tensor."""

Shapes: TypeAlias = Mapping[str, tuple[int, ...]]
"""Those of parameters of one seed, by name."""

Data = TypeVar("Data")
"""Whatever a loss function measures parameters on: any pytree of tensors."""

LossFn: TypeAlias = Callable[[Params, Data], Tensor]
"""Maps parameters and data to a scalar loss."""
