"""Lines of text for a terminal."""

import textwrap
from pathlib import Path

from mamlcli.escaping import visible
from mamlcli.tables.text import WIDTH as WIDTH
from mamlcli.tables.text import format_cell as format_cell
from mamlcli.tables.text import format_table as format_table
from mamlcli.tables.text import table_width as table_width

SHOWN_STEPS = (0, 1, 2, 5, 10)
"""Inner steps that a printed table shows; the files have them all."""
_LABEL = 13


def wrapped(text: str) -> list[str]:
    """Sentences as lines of at most 80 columns."""
    return textwrap.wrap(visible(text), WIDTH)


def located(label: str, place: Path | str, *, gap: int = _LABEL) -> str:
    """Say where something is, or which command to type; what is too long for its line has one of its own.

    >>> print(located("run", "outputs/a"))
    run          outputs/a
    >>> print(located("figure", "x" * 70))
    figure
    xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx
    """
    line = f"{label:<{gap}}{place}"
    return line if len(line) <= WIDTH else f"{label.rstrip()}\n{place}"


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
