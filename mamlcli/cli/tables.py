"""Rows to aligned text for a terminal."""

from collections.abc import Sequence
from typing import Any

from mamlcli.escaping import visible
from mamlcli.plain import AnyRow


def format_table(rows: Sequence[AnyRow], *, left: Sequence[str] = ()) -> str:
    """Align rows in columns, to the right but for those named in `left`.

    >>> print(format_table([{"K": 5, "mean": 0.68341}, {"K": 10, "mean": None}]))
     K    mean
    --  ------
     5  0.6834
    10     n/a
    """
    columns = list(rows[0])
    cells = [[format_cell(row[column]) for column in columns] for row in rows]
    widths = [max(len(line[index]) for line in [columns, *cells]) for index in range(len(columns))]
    lines = [columns, ["-" * width for width in widths], *cells]

    def aligned(line: Sequence[str]) -> str:
        cells = zip(columns, line, widths, strict=True)
        return "  ".join(cell.ljust(width) if name in left else cell.rjust(width) for name, cell, width in cells)

    return "\n".join(aligned(line).rstrip() for line in lines)


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
