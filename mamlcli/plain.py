"""Plain values that results are made of: rows, and the words that they choose from. Loads no torch."""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, TypeAlias

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
