"""One line at the foot of a terminal that changes while work goes on, and is gone when it ends.

It is written here since no bar at hand outlives its terminal getting narrower: a terminal wraps the line that is there,
and who clears one row leaves the others. Nor has it a thread, which would take turns with what is computed.
"""

import os
from shutil import get_terminal_size
from typing import TextIO


class StatusLine:
    """The line of a terminal."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.text = ""
        self.drawn = 0
        """Columns of what stands there."""

    def columns(self) -> int:
        """How wide the terminal is now; 80 where it does not say."""
        try:
            columns = os.get_terminal_size(self.stream.fileno()).columns
        except (OSError, ValueError):
            columns = 0
        return columns or get_terminal_size().columns

    def show(self, text: str) -> None:
        """Put a text in the place of what is there; the last column stays free, so that nothing wraps."""
        from rich.cells import cell_len, set_cell_size

        fitting = min(cell_len(text), max(1, self.columns() - 1))
        before = self._erased()
        self.text, self.drawn = text, fitting
        self.stream.write(f"{before}{set_cell_size(text, fitting)}")
        self.stream.flush()

    def above(self, message: str) -> None:
        """Write a line that stays, and what was there below it."""
        text, before = self.text, self._erased()
        self.stream.write(f"{before}{message}\n")
        self.stream.flush()
        if text:
            self.show(text)

    def clear(self) -> None:
        """Leave nothing."""
        if self.drawn:
            self.stream.write(self._erased())
            self.stream.flush()

    def _erased(self) -> str:
        """What erases the line: all rows that it has if the terminal has become narrower since, and wrapped it."""
        rows = -(-self.drawn // self.columns()) if self.drawn else 0
        self.text, self.drawn = "", 0
        return ("\x1b[A" * (rows - 1) + "\r\x1b[J") if rows else ""
