"""Parquet files by pyarrow, an optional dependency, in parts of some rows."""

from collections.abc import Iterable
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from mamlcli.tabular.blocks import Part, Reading, add_part, column_faults
from mamlcli.tabular.header import Asked, find_columns
from mamlcli.tabular.problems import Problem, Problems, UnreadableError, quoted
from mamlcli.tabular.table import Builder, Layout
from mamlcli.tabular.values import is_out, number_fault

# At once, in all columns that are read.
_MOST_VALUES = 500_000
_DAMAGED = "write or fetch it again"


def read_parquet(file: BinaryIO, asked: Asked, problems: Problems) -> Builder | None:
    """Read a Parquet file; None if its columns are wrong. What is wrong goes to `problems`.

    Raises:
        UnreadableError: If it cannot be read, or pyarrow is not installed.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        missing = f"to read Parquet, pyarrow is needed ({error})"
        raise UnreadableError(Problem(missing, remedy="pip install 'mamlcli[parquet]', or write it as CSV")) from None
    try:
        parquet = pq.ParquetFile(file, page_checksum_verification=True)
        schema = parquet.schema_arrow
        layout, found = find_columns([name.strip() for name in schema.names], asked, None)
        found += [] if layout is None else list(_of_wrong_types(schema, layout))
        if layout is None or found:
            problems.add(found)
            return None
        reading = Reading(layout, problems)
        reading.builder.check(parquet.metadata.num_rows * (8 * len(layout.numbers) + 12))
        _read(parquet, reading)
        return reading.builder
    except MemoryError:  # pyarrow's own is of its other kinds too
        raise
    # What it raises on damaged files is of these kinds, among them UnicodeDecodeError, a ValueError.
    except (pa.ArrowException, OSError, ValueError, NotImplementedError) as error:
        reason = str(error).strip().split("\n")[0].rstrip(".")
        says = f"the Parquet file is damaged or of an unknown kind: {quoted(reason, 200)}"
        raise UnreadableError(Problem(says, remedy=_DAMAGED)) from None


def _of_wrong_types(schema: Any, layout: Layout) -> Iterable[Problem]:
    """Columns whose types cannot be what they were asked for."""
    import pyarrow.types as kinds

    for column in dict.fromkeys(layout.numbers):
        kind = _plain(schema.field(column).type)
        if not (kinds.is_integer(kind) or kinds.is_floating(kind) or kinds.is_decimal(kind)):
            says = f"{quoted(schema.names[column])}: holds {quoted(str(kind))}, not numbers"
            yield Problem(
                says, None, column + 1, "write it as numbers, like a column of 0 and 1 for each of its values"
            )
    for named in (layout.task, layout.label):
        kind = None if named is None else _plain(schema.field(named).type)
        if kind is not None and not (
            kinds.is_string(kind) or kinds.is_large_string(kind) or kinds.is_string_view(kind) or kinds.is_integer(kind)
        ):
            says = f"{quoted(schema.names[named])}: holds {quoted(str(kind))}, not names"
            yield Problem(says, None, (named or 0) + 1, "write names as text or whole numbers")


def _plain(kind: Any) -> Any:
    """The type of a column's values, also where they are kept once each."""
    import pyarrow.types as kinds

    return kind.value_type if kinds.is_dictionary(kind) else kind


def _read(parquet: Any, reading: Reading) -> None:
    """Read the rows, some at a time."""
    layout, names = reading.builder.layout, parquet.schema_arrow.names
    wanted = sorted({*layout.numbers, *(named for named in (layout.task, layout.label) if named is not None)})
    size = max(1, _MOST_VALUES // max(1, len(wanted)))
    start = 1
    for batch in parquet.iter_batches(size, columns=[names[column] for column in wanted], use_threads=False):
        if start > 1 and reading.stops(f"row {start}"):
            return
        columns = {column: batch.column(batch.schema.get_field_index(names[column])) for column in wanted}
        lines = np.arange(start, start + batch.num_rows, dtype=np.int64)
        start += batch.num_rows
        numbers = np.full((batch.num_rows, len(layout.numbers)), np.nan)
        found: list[Problem] = []
        for place, column in enumerate(layout.numbers):
            if column in reading.given_up:
                continue
            numbers[:, place] = values = _numbers(columns[column])
            faults = [(row, number_fault(values[row], str(values[row]))) for row in np.flatnonzero(is_out(values))]
            if faults:
                found += column_faults(reading, column, lines, [(int(row), fault) for row, fault in faults if fault])
        task, label = (None if named is None else _texts(columns[named]) for named in (layout.task, layout.label))
        add_part(reading, Part(numbers, task, label, lines), found)


def _numbers(column: Any) -> NDArray[np.float64]:
    """A column's values; NaN where there is none."""
    import pyarrow as pa
    import pyarrow.types as kinds

    plain = column.dictionary_decode() if kinds.is_dictionary(column.type) else column
    return np.asarray(plain.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False))


def _texts(column: Any) -> list[str]:
    """A column's values as texts, each of them there once; empty where there is none."""
    import pyarrow as pa
    import pyarrow.types as kinds

    encoded = column if kinds.is_dictionary(column.type) else column.dictionary_encode()
    texts = encoded.dictionary.cast(pa.string()).to_pylist()
    return ["" if code is None else texts[code] or "" for code in encoded.indices.to_pylist()]
