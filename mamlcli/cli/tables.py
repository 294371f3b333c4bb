"""Numbers to text for a terminal."""

from mamlcli.tables.table import format_cell as format_cell
from mamlcli.tables.table import format_table as format_table


def with_interval(mean: float | None, half: float | None) -> str:
    """A mean and the half-width of its interval.

    >>> with_interval(0.5, 0.02)
    '0.5000 ± 0.0200'
    """
    return format_cell(mean) if half is None else f"{format_cell(mean)} ± {format_cell(half)}"


def format_bytes(count: int) -> str:
    """A size in mebibytes.

    >>> format_bytes(1_572_864)
    '1.50 MiB'
    """
    return f"{count / 2**20:.2f} MiB"
