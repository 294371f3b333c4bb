"""Plain values that several rooms share: rows of tables, and the words that they choose from. Loads no torch."""

import math
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, TypeAlias

from mamlcli.section import Order

ORDERS: tuple[Order, Order] = ("first", "second")

Row: TypeAlias = dict[str, Any]
"""One line of a table: column name to plain value. What a command returns has a stated shape; see `mamlcli.rows`."""

AnyRow: TypeAlias = Mapping[str, Any]
"""A line of any table, to be read."""

Over: TypeAlias = Literal[
    "over tasks",
    "over seeds and tasks",
    "over tasks of one seed; nothing is known of other seeds",
    "none: one seed says nothing of other seeds",
]
"""What an interval is over, in words."""

Verdict: TypeAlias = Literal["fails", "holds", "says nothing here"]
"""Of a check of the meta-gradient."""

Statement: TypeAlias = Literal["equivalent", "better", "worse", "inconclusive", "diverged"]
"""What an interval of a difference says of two means; see `mamlcli.verdicts`."""
BoundStatement: TypeAlias = Literal["met", "not met", "inconclusive", "diverged"]
"""What it says of a loss that is to keep a bound."""

NOT_COMPARABLE = "not comparable: a fast run"
"""The verdict on every number of a run that was cut short."""


class Learned(NamedTuple):
    """What a method has learned beside the weights of models, for people."""

    field: str
    """Its name in evaluation.json."""
    value: Row
    """What stands there."""
    title: str
    """Over the table that a person reads."""
    rows: list[Row]
    """That table."""


def finite_or_none(value: float) -> float | None:
    """A plain float, or None for what JSON has no number for."""
    return float(value) if math.isfinite(value) else None
