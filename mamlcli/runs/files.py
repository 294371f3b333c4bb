"""Files that are there whole or not at all."""

import csv
import io
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mamlcli.plain import AnyRow


def write_atomic(path: Path, content: bytes) -> None:
    """Write a file so that a crash at any moment leaves the old one or the new one."""
    write_atomic_parts(path, [content])


def write_atomic_parts(path: Path, parts: Iterable[bytes]) -> None:
    """The same of content that is made part by part.

    The content goes to a temporary file in the same folder, is flushed to the disk and renamed; then the
    folder is flushed, so that the rename itself lasts.
    """
    with naming(path):
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.writelines(parts)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).chmod(0o644)
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        flush_folder(path.parent)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Make an OSError name the file that the user knows; a full disk by itself says no name."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from None


def flush_folder(folder: Path) -> None:
    """Make renames in a folder last."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_json(raw: bytes) -> Any:
    """Read one JSON document as `json_text` writes them.

    Raises:
        ValueError: If it is none: also if it holds NaN or infinity, or is nested without end.
    """

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no JSON")

    try:
        return json.loads(raw.decode("utf-8"), parse_constant=refuse)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def json_text(value: Any) -> str:
    """One JSON document, readable and strict: no NaN, no infinity."""
    return json.dumps(value, indent=2, allow_nan=False) + "\n"


def json_lines(rows: Sequence[AnyRow]) -> str:
    """One JSON object a line."""
    return "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows)


def csv_text(rows: Sequence[AnyRow]) -> str:
    """A table with a header; what is None is an empty cell."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()
