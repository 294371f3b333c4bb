"""Rows to aligned text, of at most a terminal's width."""

import sys
from collections.abc import Sequence
from shutil import get_terminal_size
from typing import Any

from mamlcli.escaping import visible
from mamlcli.plain import AnyRow

WIDTH = 80
"""Columns of text that goes anywhere but to a terminal, and of what is to be read as sentences."""
_LEAST_TEXT = 8


def format_table(rows: Sequence[AnyRow], *, left: Sequence[str] = (), width: int | None = None) -> str:
    """Align rows in columns, to the right but for those named in `left`, which are wrapped where it gets too wide.

    >>> print(format_table([{"K": 5, "mean": 0.68341}, {"K": 10, "mean": None}]))
     K    mean
    --  ------
     5  0.6834
    10     n/a

    Args:
        rows: One or more, with the same names.
        left: The columns of text. The others are numbers, and are never cut or wrapped.
        width: Columns to keep to; those of the terminal if None, and 80 where there is none.
    """
    from io import StringIO

    from rich.cells import cell_len
    from rich.console import Console
    from rich.rule import Rule
    from rich.table import Table
    from rich.text import Text

    names = list(rows[0])
    cells = [names, *([format_cell(row[name]) for name in names] for row in rows)]
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    least = 2 * (len(names) - 1)
    for index, name in enumerate(names):
        is_text, widest = name in left, max(cell_len(line[index]) for line in cells)
        least += min(widest, _LEAST_TEXT) if is_text else widest
        table.add_column(
            justify="left" if is_text else "right",
            no_wrap=not is_text,
            overflow="fold",
            min_width=None if is_text else widest,
        )
    table.add_row(*map(Text, cells[0]))
    table.add_row(*(Rule(characters="-", style="") for _ in names))
    for line in cells[1:]:
        table.add_row(*map(Text, line))
    console = Console(file=StringIO(), width=max(least, width or table_width()), color_system=None)
    with console.capture() as capture:
        console.print(table)
    return "\n".join(line.rstrip() for line in capture.get().rstrip("\n").split("\n"))


def table_width() -> int:
    """The columns that a table may have: those of the terminal, and 80 where stdout is none."""
    try:
        return get_terminal_size((WIDTH, 24)).columns if sys.stdout.isatty() else WIDTH
    except (AttributeError, ValueError):  # closed, or none at all
        return WIDTH


def format_cell(value: Any) -> str:
    """A number to four decimals, or to four digits where that would hide it; n/a for what is not finite.

    >>> [format_cell(value) for value in (0.25, 0.0, -1.5e-7, 3, None)]
    ['0.2500', '0.0000', '-1.500e-07', '3', 'n/a']
    """
    if value is None:
        return "n/a"
    if isinstance(value, float):
        return f"{value:.3e}" if value and (abs(value) < 1e-3 or abs(value) >= 1e5) else f"{value:.4f}"
    return visible(str(value))
