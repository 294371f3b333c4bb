"""A file of data to a table: the way in."""

import hashlib
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, cast

from mamlcli.errors import UsageError
from mamlcli.reading import open_file
from mamlcli.tabular.csv_file import read_csv
from mamlcli.tabular.header import Asked
from mamlcli.tabular.parquet import read_parquet
from mamlcli.tabular.problems import Problem, Problems, UnreadableError, quoted
from mamlcli.tabular.source import Hashed
from mamlcli.tabular.table import Builder, Table

_ROWS = "write a row for each sample below the header"


def read_table(
    path: Path, numbers: Sequence[str], *, task: str | None, label: str | None = None, delimiter: str = ","
) -> Table:
    r"""Read columns of a CSV or Parquet file, and check them whole.

    The first line of a CSV file (UTF-8, with or without a mark of byte order; LF or CRLF) names its columns. Lines
    with nothing but spaces are passed over, spaces around a field are no part of it, and columns that are not asked
    for may hold anything. A number is what Python's `float` reads, without underscores; it is finite, and float32 does
    not round it to infinity. Names of tasks are texts as they stand, so that "1" and "01" are two.

    Args:
        path: The file. One that ends in .gz is unpacked on the way, one that ends in .parquet is read by pyarrow, and
            any other is CSV.
        numbers: Names of columns of numbers.
        task: Name of the column that says to which task a row belongs; None if all rows are one task's.
        label: Name of a column that says something about a task, the same in all of its rows; None for none.
        delimiter: Between the fields of a CSV file, one letter.

    Returns:
        Rows in the order of the file.

    Raises:
        DataError: If the file cannot be read or anything in it is wrong; all problems at once, up to 20, each as
            "file:line:column: what is wrong".
        UsageError: If the delimiter is none.
    """
    if len(delimiter) != 1 or delimiter in '"\r\n\0':
        raise UsageError(f"delimiter: must be one letter, like ',' or ';', got {quoted(delimiter)}")
    problems = Problems(path)
    asked = Asked(tuple(name.strip() for name in numbers), task and task.strip(), label and label.strip())
    table = None
    try:
        with open_file(path) as file:
            table = _read(path, file, asked, delimiter, problems)
    except UnreadableError as error:
        problems.add([error.problem])
    except (OSError, ValueError) as error:  # a ValueError for a name with a null character
        reason = error.strerror if isinstance(error, OSError) else error
        problems.add([Problem(f"cannot read the data: {reason}")])
    except MemoryError:
        problems.add([Problem("the memory is too small for the table", remedy="use fewer rows or columns")])
    problems.refuse()
    assert table is not None
    return table


def _read(path: Path, file: BinaryIO, asked: Asked, delimiter: str, problems: Problems) -> Table | None:
    """Read an open file; None where something is wrong."""
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        sha256 = hashlib.file_digest(cast("io.BufferedReader", file), "sha256").hexdigest()
        num_bytes = os.fstat(file.fileno()).st_size
        builder = read_parquet(file, asked, problems)
    else:
        hashed = Hashed(file)
        builder = read_csv(hashed, asked, delimiter, problems, packed=suffix == ".gz")
        sha256, num_bytes = hashed.sha256, hashed.num_bytes
    return None if builder is None else _finished(path, sha256, num_bytes, builder, asked, problems)


def _finished(
    path: Path, sha256: str, num_bytes: int, builder: Builder, asked: Asked, problems: Problems
) -> Table | None:
    if not builder.num_rows and not problems.count:
        raise UnreadableError(Problem("no rows below the header", remedy=_ROWS))
    rows, tasks, labels, contradictions = builder.finish()
    problems.add(contradictions)
    names = ("",) if asked.task is None else tasks
    return Table(path, sha256, num_bytes, names, rows.task, rows.numbers, labels, rows.lines, builder.layout.header)
