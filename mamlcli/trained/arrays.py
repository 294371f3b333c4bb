"""Numbers that a user hands over, checked, and what is handed back: of the same kind, in the same form."""

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mamlcli.errors import UsageError
from mamlcli.escaping import shorten, visible

Numbers: TypeAlias = NDArray[np.float64]
Array: TypeAlias = Any
"""A NumPy array, a tensor, or a list of numbers or of rows."""


class Given(NamedTuple):
    """Rows of numbers, and as what they came."""

    values: Numbers
    """Of shape (rows, columns), finite."""
    is_flat: bool
    """Whether they came as one number a row."""
    dtype: Any
    """Of what is handed back: theirs, or float64 where they are no floating-point numbers."""
    device: torch.device | None
    """Where their tensor is; None for what is no tensor."""

    def handed_back(self, values: Numbers) -> Array:
        """Numbers as the kind of array that these came as."""
        if self.device is None:
            with np.errstate(over="ignore"):
                return values.astype(self.dtype)
        return torch.as_tensor(values, dtype=self.dtype).to(self.device)


def read_array(value: Array, name: str, columns: Sequence[str]) -> Given:
    """Check numbers of a user's.

    Args:
        value: Of shape (rows, columns), or (rows,) where there is one column.
        name: What messages call it.
        columns: What its columns are called.

    Raises:
        UsageError: If it is no array of real numbers, of another shape, without rows, or not finite.
    """
    array = _as_array(value, name)
    is_flat = array.ndim == 1 and len(columns) == 1
    if not is_flat and (array.ndim != 2 or array.shape[1] != len(columns)):
        flat = "(rows,) or " if len(columns) == 1 else ""
        raise UsageError(
            f"{name} must be of shape {flat}(rows, {len(columns)}), a column for {_listed(columns)}; got {array.shape}"
        )
    if not len(array):
        raise UsageError(f"{name} holds no rows; at least one is needed")
    values = array.reshape(len(array), len(columns)).astype(np.float64)
    if not np.isfinite(values).all():
        row, column = np.argwhere(~np.isfinite(values))[0]
        raise UsageError(
            f"{name} must be finite; row {row}, {shown_name(columns[column])} is {values[row, column]:g}; leave such "
            "rows out"
        )
    if isinstance(value, Tensor):
        return Given(values, is_flat, value.dtype if value.is_floating_point() else torch.float64, value.device)
    return Given(values, is_flat, array.dtype if array.dtype.kind == "f" else np.dtype(np.float64), None)


def shown_name(name: str) -> str:
    """The name of a column or a task in a message."""
    return f"'{visible(shorten(name))}'"


def _listed(columns: Sequence[str]) -> str:
    return ", ".join(map(shown_name, columns))


def _as_array(value: Array, name: str) -> NDArray[Any]:
    refusal = UsageError(f"{name} must be an array of real numbers, got {type(value).__name__}")
    if isinstance(value, Tensor):
        if value.is_complex() or value.dtype == torch.bool:
            raise UsageError(f"{name} must be an array of real numbers, got a tensor of {value.dtype}")
        value = value.detach().cpu()
        return np.asarray(value.double() if value.is_floating_point() else value)
    try:
        array = np.asarray(value)
    except (ValueError, TypeError, RuntimeError):  # rows of unequal lengths; tensors in a list
        raise refusal from None
    if array.dtype.kind not in "fiu":
        raise refusal
    return array
