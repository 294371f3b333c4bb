"""What all kinds of files have in common: columns of a part of the file, checked and added to the table."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mamlcli.tabular.problems import Problem, Problems, quoted
from mamlcli.tabular.table import MOST_LETTERS, Block, Builder, Layout, Names
from mamlcli.tabular.values import Fault, gathered

_NO_NAME = Fault("missing", "missing", "give each row a name there")
_LONG_NAME = Fault("long", f"a name of more than {MOST_LETTERS} letters", f"use names of up to {MOST_LETTERS} letters")


class Reading:
    """What is known of a file while it is read."""

    def __init__(self, layout: Layout, problems: Problems) -> None:
        self.builder = Builder(layout)
        self.problems = problems
        self.given_up: set[int] = set()
        """Columns of which was said that most values are no numbers; they are looked at no more."""
        self._num_sound = 0

    def stops(self, place: str) -> bool:
        """Whether enough is wrong to stop at a place with more rows to come; if so, the problems say so."""
        if not self.problems.count:
            self._num_sound = self.builder.num_rows
        stops = self.problems.is_enough(self.builder.num_rows - self._num_sound)
        if stops:
            self.problems.note = f"reading stopped at {place}"
        return stops


class Part(NamedTuple):
    """Some rows of a file."""

    numbers: NDArray[np.float64]
    """(rows, columns); NaN where something was wrong."""
    task: Sequence[str] | None
    label: Sequence[str] | None
    lines: NDArray[np.int64]


def add_part(reading: Reading, part: Part, found: list[Problem]) -> None:
    """Add rows to the table, and what is wrong with them to the problems.

    Args:
        reading: Takes up both.
        part: The rows.
        found: What is known to be wrong with them.

    Raises:
        UnreadableError: If the table gets too large.
    """
    builder, layout = reading.builder, reading.builder.layout
    num_rows = len(part.lines)
    task, unnamed = _codes(part.task, part.lines, builder.tasks, layout, layout.task)
    label, unlabelled = _codes(part.label, part.lines, builder.labels, layout, layout.label)
    reading.problems.add(found + unnamed + unlabelled)
    kept = np.ones(num_rows, np.bool_)
    for codes in (task, label):
        if codes is not None:
            kept &= codes >= 0
    task = np.zeros(num_rows, np.int32) if task is None else task
    label = np.zeros(num_rows, np.int32) if label is None else label
    block = Block(part.numbers, task, label, part.lines)
    if not kept.all():
        block = Block(block.numbers[kept], block.task[kept], block.label[kept], block.lines[kept])
    builder.add(block)


def column_faults(
    reading: Reading, column: int, lines: NDArray[np.int64], faults: Sequence[tuple[int, Fault]]
) -> list[Problem]:
    """What is wrong with the numbers of a column: where most of them are, said once for the whole file.

    Args:
        reading: Keeps in mind what was said.
        column: Of the file, from 0.
        lines: Of each row.
        faults: The row and what is wrong there; at least one.
    """
    said, is_all = gathered(faults, len(lines))
    if is_all:
        reading.given_up.add(column)
    return [_at(reading.builder.layout, int(lines[row]), column, fault) for row, fault in said]


def _at(layout: Layout, line: int, column: int, fault: Fault) -> Problem:
    return Problem(f"{quoted(layout.header[column])}: {fault.says}", line, column + 1, fault.remedy)


def _codes(
    texts: Sequence[str] | None, lines: NDArray[np.int64], names: Names, layout: Layout, column: int | None
) -> tuple[NDArray[np.int32] | None, list[Problem]]:
    """The number of each row's name in a column, and which names cannot be used."""
    if texts is None or column is None:
        return None, []
    codes = names.codes(texts)
    wrong = np.flatnonzero(codes < 0).tolist()
    return codes, [_at(layout, int(lines[row]), column, _NO_NAME if codes[row] == -1 else _LONG_NAME) for row in wrong]
