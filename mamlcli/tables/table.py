"""Rows as a table: aligned text for a terminal, HTML for a notebook, a frame where pandas is there."""

from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, overload

from mamlcli.errors import UsageError
from mamlcli.escaping import page
from mamlcli.plain import AnyRow, Row
from mamlcli.tables.text import format_cell, format_table

if TYPE_CHECKING:
    import pandas as pd

# A notebook shows so many rows.
_MOST_SHOWN = 60


class Table(Sequence[Row]):
    """Rows that a command found: a sequence of dicts, and a table where it is shown.

    Examples:
        >>> found = Table([{"shots": 5, "mean": 0.68341}, {"shots": 10, "mean": None}])
        >>> found
        shots    mean
        -----  ------
            5  0.6834
           10     n/a
        >>> found[0]["mean"]
        0.68341
        >>> found.columns
        ('shots', 'mean')
    """

    def __init__(self, rows: Iterable[AnyRow]) -> None:
        """Hold rows; a column is of any of them, in the order in which they first come."""
        self._rows = tuple(dict(row) for row in rows)
        self.columns: tuple[str, ...] = tuple(dict.fromkeys(column for row in self._rows for column in row))
        """The names of the columns."""
        self.texts = tuple(name for name in self.columns if any(isinstance(row.get(name), str) for row in self._rows))
        """Of those that hold texts, which are aligned to the left."""

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> "Table": ...
    def __getitem__(self, index: int | slice) -> "Row | Table":
        return Table(self._rows[index]) if isinstance(index, slice) else self._rows[index]

    def __len__(self) -> int:
        return len(self._rows)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Table) and self._rows == other._rows

    __hash__ = None  # type: ignore[assignment]  # its rows are dicts

    def __repr__(self) -> str:
        return format_table(self._filled(), left=self.texts) if self._rows else "no rows"

    def _repr_html_(self) -> str:
        """How a notebook shows it: the first 60 rows."""
        return html_table(self)

    def to_pandas(self) -> "pd.DataFrame":
        """The same as a pandas frame, with numbers as numbers.

        A column of whole numbers is int64; one of numbers, some of which are missing, is float64 with NaN for those.

        Raises:
            UsageError: If pandas is not there.
        """
        if not has_pandas():
            raise UsageError("a frame needs pandas: pip install 'mamlcli[pandas]'")
        import pandas as pd

        frame = pd.DataFrame({column: [row.get(column) for row in self._rows] for column in self.columns})
        return frame.astype({column: "float64" for column in self.columns if self._has_missing_numbers(column)})

    def _has_missing_numbers(self, column: str) -> bool:
        """Whether there are but numbers in a column, less those that are missing."""
        values = [row.get(column) for row in self._rows]
        return None in values and all(
            value is None or (isinstance(value, int | float) and not isinstance(value, bool)) for value in values
        )

    def _filled(self) -> list[Row]:
        return [{column: row.get(column) for column in self.columns} for row in self._rows]


def has_pandas() -> bool:
    """Whether pandas can be imported."""
    return find_spec("pandas") is not None


def html_table(table: Table) -> str:
    """A table as HTML, its first 60 rows; cells as in a terminal."""
    left = ' style="text-align: left"'
    side = {column: left if column in table.texts else "" for column in table.columns}
    head = "".join(f"<th{side[column]}>{page(column)}</th>" for column in table.columns)
    lines = [
        "".join(f"<td{side[column]}>{page(format_cell(row.get(column)))}</td>" for column in table.columns)
        for row in table[:_MOST_SHOWN]
    ]
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    more = len(table) - _MOST_SHOWN
    rest = f"<p>and {more} more row{'s' * (more > 1)}</p>" if more > 0 else ""
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{rest}"
