"""Tasks of a user's own in two files, and what is predicted of them as rows."""

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mamlcli.errors import UsageError
from mamlcli.rows import PredictionRow
from mamlcli.tabular import Table, read_table
from mamlcli.tasks.family import Columns
from mamlcli.trained.arrays import Numbers, shown_name

_NAMED = 5
_ROWS_AT_A_TIME = 1000


class OwnTask(NamedTuple):
    """A task that is predicted."""

    name: str
    """Empty where the files have no column for it."""
    x: Numbers
    """Support inputs (K, inputs)."""
    y: Numbers
    """Support targets (K, outputs)."""
    rows: NDArray[np.int64]
    """Which rows of the query file are of it."""

    @property
    def where(self) -> str:
        """Which task it is, before a message."""
        return f"task {shown_name(self.name)}: " if self.name else ""


class OwnTasks(NamedTuple):
    """The tasks of a support and a query file."""

    support: Table
    query: Table
    tasks: tuple[OwnTask, ...]
    """In the order of their names."""

    def names(self) -> list[str]:
        """The task of each row of the query file."""
        return [self.query.tasks[index] for index in self.query.task]


def read_tasks(
    columns: Columns, support: Path, query: Path, *, delimiter: str, note: Callable[[str], None]
) -> OwnTasks:
    """Read the tasks to adapt to, and the inputs to predict.

    Args:
        columns: What task, inputs and targets are called. Where neither file has a column for the task, there is one.
        support: The file with the support samples.
        query: The file with the inputs to predict; what else it holds is not read.
        delimiter: What stands between two fields.
        note: Hears of tasks that nothing is asked of.

    Raises:
        UsageError: If a file cannot be read or is not whole, or a task has no support samples.
    """
    samples = _read(support, (*columns.inputs, *columns.targets), columns.task, delimiter)
    asked = _read(query, columns.inputs, columns.task, delimiter)
    _check_names(samples, asked, columns.task, note)
    by_name, inputs = dict(zip(samples.tasks, _rows_by_task(samples), strict=True)), len(columns.inputs)
    tasks = []
    for name, rows in zip(asked.tasks, _rows_by_task(asked), strict=True):
        own = samples.numbers[by_name[name]]
        tasks.append(OwnTask(name, own[:, :inputs], own[:, inputs:], rows))
    return OwnTasks(samples, asked, tuple(tasks))


def _read(path: Path, numbers: Sequence[str], task: str, delimiter: str) -> Table:
    """Read a file; without a column for the task it holds one, whose name is empty."""
    try:
        table = read_table(path, numbers, task=task, label=None, delimiter=delimiter)
    except UsageError:
        table = read_table(path, numbers, task=None, label=None, delimiter=delimiter)
        if task in table.header:
            raise
    if not len(table.numbers):
        raise UsageError(f"{path}: it holds no rows; at least one is needed")
    return table


def _check_names(samples: Table, asked: Table, task: str, note: Callable[[str], None]) -> None:
    if (task in samples.header) != (task in asked.header):
        one, other = (samples, asked) if task in samples.header else (asked, samples)
        raise UsageError(
            f"{other.path}: it has no column {shown_name(task)}, and {one.path} has: both name the task of a row, or "
            "neither does"
        )
    if unknown := sorted(set(asked.tasks) - set(samples.tasks)):
        row = int(np.argmax(asked.task == asked.tasks.index(unknown[0])))
        raise UsageError(f"{asked.place(row)}: {samples.path} has no samples to adapt to of {listed(unknown)}")
    if idle := sorted(set(samples.tasks) - set(asked.tasks)):
        note(f"{asked.path} asks nothing of {listed(idle)}")


def listed(names: Sequence[str]) -> str:
    """Names of tasks in a message: the first of them, and how many more."""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"task{'s' * (len(names) > 1)} {', '.join(map(shown_name, names[:_NAMED]))}{more}"


def _rows_by_task(table: Table) -> list[NDArray[np.int64]]:
    """The rows of each task, in the order of the file."""
    order = np.argsort(table.task, kind="stable")
    return np.split(order, np.searchsorted(table.task[order], np.arange(1, len(table.tasks))))


def csv_header(columns: Columns, seeds: Sequence[int]) -> list[str]:
    """The columns of a table of predictions.

    Raises:
        UsageError: If two of them have one name.
    """
    names = [columns.task, *columns.inputs]
    for target in columns.targets:
        names += [target, f"{target}_sd", *(f"{target}_seed{seed}" for seed in seeds)]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UsageError(f"two columns of the table of predictions would be called {shown_name(twice)}")
    return names


def spread(said: Numbers) -> Numbers:
    """The standard deviation over seeds, the last axis, with S - 1 below the line; NaN for one seed."""
    return said.std(axis=-1, ddof=1) if said.shape[-1] > 1 else np.full(said.shape[:-1], np.nan)


def csv_parts(header: Sequence[str], own: OwnTasks, said: Numbers) -> Iterator[bytes]:
    """A table of predictions as CSV, some rows at a time.

    Args:
        header: Of `csv_header`.
        own: The tasks.
        said: (rows, outputs, S).
    """
    yield _csv_bytes([header])
    for first in range(0, len(said), _ROWS_AT_A_TIME):
        part = slice(first, first + _ROWS_AT_A_TIME)
        values = said[part]
        mean_sd = [values.mean(axis=-1, keepdims=True), spread(values)[..., None], values]
        numbers = np.concatenate(mean_sd, axis=-1).reshape(len(values), -1)
        whole = np.concatenate([own.query.numbers[part], numbers], axis=1)
        names = [own.query.tasks[index] for index in own.query.task[part]]
        cells = _or_none(whole)
        yield _csv_bytes([[name, *row] for name, row in zip(names, cells, strict=True)])


def _or_none(values: Numbers) -> list[list[float | None]]:
    """Rows of plain numbers; None for NaN."""
    cells = values.astype(object)
    cells[np.isnan(values)] = None
    rows: list[list[float | None]] = cells.tolist()
    return rows


def _csv_bytes(rows: Sequence[Sequence[object]]) -> bytes:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(rows)
    return buffer.getvalue().encode()


def prediction_rows(columns: Columns, own: OwnTasks, said: Numbers) -> list[PredictionRow]:
    """Predictions (rows, outputs, S) as rows, in the order of the query file."""
    means, sds, seeds = said.mean(axis=-1).tolist(), _or_none(spread(said)), said.tolist()
    return [
        {
            "task": name,
            "inputs": dict(zip(columns.inputs, inputs, strict=True)),
            "targets": {
                target: {"mean": mean, "sd": deviation, "per_seed": each}
                for target, mean, deviation, each in zip(columns.targets, means[row], sds[row], seeds[row], strict=True)
            },
        }
        for row, (name, inputs) in enumerate(zip(own.names(), own.query.numbers.tolist(), strict=True))
    ]
