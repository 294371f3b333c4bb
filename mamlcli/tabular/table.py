"""The table that a file of data becomes, put together from blocks of rows."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mamlcli.escaping import visible
from mamlcli.tabular.problems import Problem, UnreadableError, quoted

MOST_BYTES = 2**32
MOST_LETTERS = 200
"""In the name of a task."""


class Table(NamedTuple):
    """The columns of a file that were asked for."""

    path: Path
    sha256: str
    """Of the file's bytes as they lie on disk."""
    num_bytes: int
    tasks: tuple[str, ...]
    """Distinct names of tasks, sorted; ("",) where no column of tasks was asked for."""
    task: NDArray[np.int32]
    """Of each row, the index into `tasks`."""
    numbers: NDArray[np.float64]
    """(rows, columns), finite and within float32; the columns in the order asked for."""
    labels: tuple[str, ...] | None
    """Of each task, what its label column says, where one was asked for."""
    lines: NDArray[np.int64]
    """The line of the file where each row starts; in a Parquet file, the number of the row, from 1."""
    header: tuple[str, ...] = ()
    """Names of all columns of the file."""

    def place(self, row: int, column: str | None = None) -> str:
        """Where a row, or its value in a column, stands in the file: "file:line" or "file:line:column"."""
        place = f"{visible(str(self.path))}:{self.lines[row]}"
        return place if column is None else f"{place}:{self.header.index(column.strip()) + 1}"


class Layout(NamedTuple):
    """Where the columns that were asked for stand in a file, from 0."""

    header: tuple[str, ...]
    numbers: tuple[int, ...]
    task: int | None
    label: int | None


class Names:
    """Distinct texts of a column, numbered as they come."""

    def __init__(self) -> None:
        self.index: dict[str, int] = {}
        self.num_bytes = 0

    def codes(self, texts: Sequence[str]) -> NDArray[np.int32]:
        """The number of each text, less the spaces around it; -1 where that is empty, -2 where it is too long."""
        code = {text: self._code(text.strip()) for text in dict.fromkeys(texts)}
        return np.fromiter(map(code.__getitem__, texts), np.int32, len(texts))

    def _code(self, name: str) -> int:
        if not name:
            return -1
        if len(name) > MOST_LETTERS:
            return -2
        if name not in self.index:
            # With what a dict, a tuple and a sort hold of it.
            self.num_bytes += sys.getsizeof(name) + 150
        return self.index.setdefault(name, len(self.index))


class Block(NamedTuple):
    """Some rows of a table."""

    numbers: NDArray[np.float64]
    task: NDArray[np.int32]
    label: NDArray[np.int32]
    lines: NDArray[np.int64]


class Builder:
    """The rows read so far."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.tasks, self.labels = Names(), Names()
        self.num_rows = 0
        # Longer than what they hold, and lengthened in place, so that the rows are never there twice.
        self._rows = Block(
            np.empty((0, len(layout.numbers))), np.empty(0, np.int32), np.empty(0, np.int32), np.empty(0, np.int64)
        )

    def add(self, block: Block) -> None:
        """Take up more rows.

        Raises:
            UnreadableError: If the table needs more memory than a table may.
        """
        start, end = self.num_rows, self.num_rows + len(block.lines)
        row_bytes = 8 * len(self.layout.numbers) + 16
        self.check(end * row_bytes + self.tasks.num_bytes + self.labels.num_bytes)
        rows = self._rows
        if end > len(rows.lines):
            self._resize(end + end // 4)
        rows.numbers[start:end], rows.task[start:end] = block.numbers, block.task
        rows.label[start:end], rows.lines[start:end] = block.label, block.lines
        self.num_rows = end

    def _resize(self, num_rows: int) -> None:
        rows = self._rows
        rows.numbers.resize((num_rows, rows.numbers.shape[1]), refcheck=False)
        for array in (rows.task, rows.label, rows.lines):
            array.resize(num_rows, refcheck=False)

    def check(self, num_bytes: int) -> None:
        """See that a table may take so much memory; raises as `add`."""
        if num_bytes > (most := _most_bytes()):
            limit = f"{most / 2**30:.3g} GiB"
            raise UnreadableError(Problem(f"as a table it takes more than {limit}", remedy="use fewer rows or columns"))

    def finish(self) -> tuple[Block, tuple[str, ...], tuple[str, ...] | None, list[Problem]]:
        """Put the rows together.

        Returns:
            All rows; the names of the tasks, sorted; their labels; and which labels contradict each other.
        """
        names = sorted(self.tasks.index) or [""]
        rank = np.zeros(len(names), np.int32)
        rank[[self.tasks.index.get(name, 0) for name in names]] = np.arange(len(names), dtype=np.int32)
        self._resize(self.num_rows)
        rows = self._rows
        rows.task[:] = rank[rows.task]
        if self.layout.label is None:
            return rows, tuple(names), None, []
        first = np.zeros(len(names), np.int64)
        # Of a place that is written several times the last value stays, so that backwards it is the first row.
        first[rows.task[::-1]] = np.arange(len(rows.task) - 1, -1, -1)
        texts = list(self.labels.index)
        labels = tuple(texts[code] for code in rows.label[first]) if self.num_rows else ()
        return rows, tuple(names), labels, self._contradictions(rows, names, first, texts)

    def _contradictions(
        self, rows: Block, names: list[str], first: NDArray[np.int64], texts: list[str]
    ) -> list[Problem]:
        """The first row of each task whose label is another than that of the task's first row."""
        other = np.flatnonzero(rows.label[first[rows.task]] != rows.label)
        _, at = np.unique(rows.task[other], return_index=True)
        column = (self.layout.label or 0) + 1
        problems = []
        for row in other[at]:
            of = rows.task[row]
            before = f"line {rows.lines[first[of]]} says {quoted(texts[rows.label[first[of]]])}"
            before += f" of task {quoted(names[of])}" if names[of] else ""
            says = f"{quoted(texts[rows.label[row]])}, but {before}"
            says = f"{quoted(self.layout.header[column - 1])}: {says}"
            problems.append(Problem(says, int(rows.lines[row]), column, "let all rows of a task say the same there"))
        return problems


def _most_bytes() -> int:
    """What a table may take: 4 GiB, or half of the machine's memory where that is less."""
    if sys.platform == "win32":  # which does not say
        return MOST_BYTES
    try:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        return MOST_BYTES
    return min(MOST_BYTES, memory // 2)
