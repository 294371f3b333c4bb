"""The types that several rooms share."""

import math
from collections.abc import Callable
from typing import TypeAlias, TypeVar

import numpy as np
from torch import Tensor

from mamlcli.plain import AnyRow as AnyRow
from mamlcli.plain import Row as Row
from mamlcli.section import Order as Order

Params: TypeAlias = dict[str, Tensor]
"""Parameters by name. Meta-parameters of S seeds carry a leading axis S on every tensor."""

Data = TypeVar("Data")
"""Whatever a loss function measures parameters on: any pytree of tensors."""

LossFn: TypeAlias = Callable[[Params, Data], Tensor]
"""Maps parameters and data to a scalar loss."""

ORDERS: tuple[Order, Order] = ("first", "second")


def finite_or_none(value: float | np.floating) -> float | None:
    """A plain float, or None for what JSON has no number for."""
    return float(value) if math.isfinite(value) else None
