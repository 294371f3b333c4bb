"""Rows that are added while a run goes on: a JSON object a line."""

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from mamlcli.errors import CheckpointError
from mamlcli.plain import AnyRow, Row
from mamlcli.reading import read_lines
from mamlcli.runs.files import json_lines, naming, read_json, write_atomic

_MAX_BYTES, _MAX_LINE = 2**32, 2**24


class RowLog(NamedTuple):
    """A file of rows, each with the step that it is of."""

    path: Path

    def append(self, rows: Sequence[AnyRow]) -> None:
        """Add rows at the end of the metrics, at once visible to readers."""
        with naming(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(json_lines(rows))

    def flush(self) -> None:
        """Make the metrics last, so that a checkpoint never knows of a row that a crash can take."""
        with naming(self.path), self.path.open("a", encoding="utf-8") as file:
            os.fsync(file.fileno())

    def read(self) -> list[Row]:
        """Read the rows; what is none is left out, like a last line that a crash cut.

        Raises:
            CheckpointError: If the file cannot be read.
        """
        if not self.path.exists():
            return []
        rows = []
        try:
            for line in read_lines(self.path, _MAX_BYTES, longest=_MAX_LINE):
                with suppress(ValueError):
                    rows.append(read_json(line) if line.endswith(b"\n") else None)
        except OSError as error:
            raise CheckpointError(f"{self.path}: cannot be read: {error.strerror}") from None
        return [row for row in rows if isinstance(row, dict) and isinstance(row.get("step"), int)]

    def trim(self, keep: Callable[[Row], bool]) -> None:
        """Drop the rows that a resumed run is going to write again."""
        self.write([row for row in self.read() if keep(row)])

    def write(self, rows: Sequence[AnyRow]) -> None:
        """Replace all rows."""
        write_atomic(self.path, json_lines(rows).encode())
