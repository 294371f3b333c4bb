"""Tables of numbers from CSV files."""

import csv
import hashlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mamlcli.errors import UsageError
from mamlcli.reading import read_file

_MAX_BYTES = 2**31


class Table(NamedTuple):
    """The numbers of a file, by task."""

    path: Path
    sha256: str
    num_bytes: int
    tasks: tuple[str, ...]
    """The names of the tasks, sorted."""
    task: NDArray[np.int64]
    """Of each row, which of them."""
    numbers: NDArray[np.float64]
    """(rows, columns)."""
    labels: tuple[str, ...] | None
    lines: NDArray[np.int64]
    """In which line of the file each row begins."""
    header: tuple[str, ...] = ()
    """Names of all columns of the file."""

    def place(self, row: int, column: str | None = None) -> str:
        """Where a row, or its value in a column, stands in the file."""
        place = f"{self.path}:{self.lines[row]}"
        return place if column is None else f"{place}:{self.header.index(column) + 1}"


def read_table(
    path: Path, numbers: Sequence[str], *, task: str | None, label: str | None = None, delimiter: str = ","
) -> Table:
    """Read columns of a CSV file with a header.

    Args:
        path: The file.
        numbers: The columns of numbers to read.
        task: The column that names the task of a row; None for one task, whose name is empty.
        label: A column of texts.
        delimiter: What stands between two fields.

    Raises:
        UsageError: If the file cannot be read, a column is not there, or a field is no finite number.
    """
    raw, rows = _rows(path, delimiter)
    (_, header), *body = rows
    wanted = [*numbers, *(name for name in (task, label) if name is not None)]
    if missing := [name for name in wanted if name not in header]:
        raise UsageError(f"{path}: it has no column {missing[0]!r}; there are: {', '.join(header)}")
    if not body:
        raise UsageError(f"{path}: it holds no rows")
    for line, fields in body:
        if len(fields) != len(header):
            raise UsageError(f"{path}: line {line}: {len(fields)} fields, and {len(header)} columns")
    names = [fields[header.index(task)] if task is not None else "" for _, fields in body]
    found, index = np.unique(names, return_inverse=True)
    read = np.empty((len(body), len(numbers)))
    table = Table(
        path,
        hashlib.sha256(raw).hexdigest(),
        len(raw),
        tuple(found.tolist()),
        index.astype(np.int64),
        read,
        tuple(fields[header.index(label)] for _, fields in body) if label is not None else None,
        np.array([line for line, _ in body], dtype=np.int64),
        tuple(header),
    )
    for row, (_, fields) in enumerate(body):
        for column, name in enumerate(numbers):
            read[row, column] = _number(fields[header.index(name)], table.place(row, name))
    return table


def _number(text: str, place: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = np.nan
    if not np.isfinite(value):
        raise UsageError(f"{place}: must be a finite number, got {text!r}")
    return value


def _rows(path: Path, delimiter: str) -> tuple[bytes, list[tuple[int, list[str]]]]:
    try:
        raw = read_file(path, _MAX_BYTES)
        text = raw.decode("utf-8-sig")
    except OSError as error:
        raise UsageError(f"{path}: cannot read it: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path}: it is no text in UTF-8") from None
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        rows = [(reader.line_num, fields) for fields in reader if fields]
    except csv.Error as error:
        raise UsageError(f"{path}: line {reader.line_num}: {error}") from None
    if not rows:
        raise UsageError(f"{path}: it is empty")
    return raw, rows
