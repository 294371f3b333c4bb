"""The types that several rooms share."""

from collections.abc import Callable
from typing import Any, Literal, TypeAlias, TypeVar

from torch import Tensor

Params: TypeAlias = dict[str, Tensor]
"""Parameters by name. Meta-parameters of S seeds carry a leading axis S on every tensor."""

Data = TypeVar("Data")
"""Whatever a loss function measures parameters on: any pytree of tensors."""

LossFn: TypeAlias = Callable[[Params, Data], Tensor]
"""Maps parameters and data to a scalar loss."""

AdaptStep: TypeAlias = Callable[[Params, Data, int], Params]
"""One inner step: maps parameters, support data and the number of the step (from 0) to parameters."""

Order: TypeAlias = Literal["first", "second"]
"""Whether the meta-gradient sees through the inner gradients ("second") or takes them as constants."""

ORDERS: tuple[Order, Order] = ("first", "second")

Row: TypeAlias = dict[str, Any]
"""One line of a table: column name to plain value."""
