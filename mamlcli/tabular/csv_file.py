"""CSV files by the standard library's parser, in parts, so that never more than a few MiB of them are texts."""

import csv
from collections import Counter
from collections.abc import Iterator
from itertools import accumulate
from operator import itemgetter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mamlcli.tabular.blocks import Part, Reading, add_part, column_faults
from mamlcli.tabular.header import Asked, explain, find_columns
from mamlcli.tabular.problems import Problem, Problems, UnreadableError
from mamlcli.tabular.source import Feed, Hashed, pieces
from mamlcli.tabular.table import Builder
from mamlcli.tabular.values import text_fault, to_numbers

_QUOTES = "let each '\"' that opens a field have one that closes it just before the next delimiter"
_FIELDS = "give each row a field for each column, quote a text that holds the delimiter, and write 3.5, not 3,5"
_CLOSED_BY_NOTHING = "as after a '\"' that nothing closes"
_MOST_BLANK = 100_000


class Rows(NamedTuple):
    """Records that follow each other."""

    fields: list[list[str]]
    lines: NDArray[np.int64]
    """Where each one starts."""


def read_csv(hashed: Hashed, asked: Asked, delimiter: str, problems: Problems, *, packed: bool) -> Builder | None:
    """Read a CSV file; None if its header is wrong. What is wrong goes to `problems`.

    Raises:
        UnreadableError: If it cannot be read further.
        OSError: As the file's.
    """
    reading = None
    for rows in _records(Feed(pieces(hashed, packed=packed)), delimiter):
        if reading is None:
            rows = _without_blanks(rows)
            if not rows.fields:
                continue
            header, line = [name.strip() for name in rows.fields[0]], int(rows.lines[0])
            layout, found = find_columns(header, asked, line)
            if layout is None:
                problems.add(explain(header, asked, delimiter, found))
                return None
            reading, rows = Reading(layout, problems), Rows(rows.fields[1:], rows.lines[1:])
        elif reading.stops(f"line {rows.lines[0]}"):
            break
        _add(rows, reading)
    if reading is None:
        raise UnreadableError(Problem("the file is empty", remedy="let its first line name the columns"))
    return reading.builder


def _records(feed: Feed, delimiter: str) -> Iterator[Rows]:
    """Parse lines, a piece of the feed at a time.

    Raises:
        UnreadableError: As the feed; also for quotes that do not pair.
    """
    # The parser takes no spaces before a field for a part of it, unless they separate the fields.
    reader = csv.reader(feed.lines(), delimiter=delimiter, strict=True, skipinitialspace=delimiter != " ")
    ended, first = False, 1
    while not ended:
        rows: list[list[str]] = []
        failure: Exception | None = None
        try:
            for row in reader:
                rows.append(row)
                if feed.piece != feed.parsed:
                    feed.parsed = feed.piece
                    break
            else:
                ended = True
        except (csv.Error, UnreadableError) as error:
            failure = error
        last = None if failure else reader.line_num
        lines, first = _lines(rows, first, last)
        if rows:
            yield Rows(rows, lines)
        if failure is not None:
            raise failure if isinstance(failure, UnreadableError) else UnreadableError(_broken(str(failure), first))


def _lines(rows: list[list[str]], first: int, last: int | None) -> tuple[NDArray[np.int64], int]:
    """The line where each record starts, and the line that comes after the last of them.

    Args:
        rows: The records.
        first: The line where the first of them starts.
        last: The line where the last of them ends; None if that is not known.
    """
    if last == first + len(rows) - 1:
        return np.arange(first, last + 1, dtype=np.int64), last + 1
    # A record is as many lines longer as there are line ends in its fields.
    lengths = (1 + sum(field.count("\n") for field in row) for row in rows)
    lines = np.fromiter(accumulate(lengths, initial=first), np.int64, len(rows) + 1)
    return lines[:-1], int(lines[-1])


def _broken(reason: str, line: int) -> Problem:
    """What the parser stumbled over, in a record that starts at a line."""
    if "new-line" in reason:
        return Problem("a CR in the midst of a line", line, remedy="save it with line ends LF or CRLF")
    if "field limit" in reason:
        return Problem(f"a field goes on for more than 128 KiB, {_CLOSED_BY_NOTHING}", line, remedy=_QUOTES)
    if "1 MiB" in reason:
        return Problem(f"{reason}, {_CLOSED_BY_NOTHING}", line, remedy=_QUOTES)
    if "end of data" in reason:
        return Problem("a '\"' opens a field in this row, and nothing closes it", line, remedy=_QUOTES)
    remedy = f"{_QUOTES}; if another letter separates the fields, set the delimiter"
    return Problem(f"the quotes do not pair: {reason}", line, remedy=remedy)


def _without_blanks(rows: Rows, width: int = 2) -> Rows:
    """Leave out lines with nothing but spaces; of a file of one column such a line is a value that is missing.

    Raises:
        UnreadableError: If they are nothing else, and more than anyone writes.
    """
    blank = ([], [""]) if width > 1 else ([],)
    full = [place for place, row in enumerate(rows.fields) if row not in blank]
    if not full and len(rows.fields) > _MOST_BLANK:
        says = f"more than {_MOST_BLANK} blank lines"
        raise UnreadableError(Problem(says, int(rows.lines[0]), remedy="see that the file is whole"))
    return Rows([rows.fields[place] for place in full], rows.lines[full])


def _add(rows: Rows, reading: Reading) -> None:
    """Turn records into numbers and names, and add them to the table."""
    layout = reading.builder.layout
    found: list[Problem] = []
    width = len(layout.header)
    if not {width}.issuperset(map(len, rows.fields)):
        rows, found = _of_width(_without_blanks(rows, width), width)
    numbers = np.full((len(rows.fields), len(layout.numbers)), np.nan)
    for place, column in enumerate(layout.numbers):
        if column in reading.given_up:
            continue
        texts = list(map(itemgetter(column), rows.fields))
        values = to_numbers(texts)
        if values is None:
            faults = [(row, fault) for row, text in enumerate(texts) if (fault := text_fault(text)) is not None]
            found += column_faults(reading, column, rows.lines, faults)
        else:
            numbers[:, place] = values
    task, label = (
        None if column is None else list(map(itemgetter(column), rows.fields)) for column in (layout.task, layout.label)
    )
    add_part(reading, Part(numbers, task, label, rows.lines), found)


def _of_width(rows: Rows, width: int) -> tuple[Rows, list[Problem]]:
    """Leave out rows with too few or too many fields, and say so; once if most rows have as many."""
    counts = [len(row) for row in rows.fields]
    wrong = [place for place, count in enumerate(counts) if count != width]
    common, times = Counter(counts[place] for place in wrong).most_common(1)[0] if wrong else (0, 0)
    found = []
    if times > 1 and 2 * times > len(counts):
        says = f"{common} fields, as have most rows, where the header has {width}"
        found = [Problem(says, int(rows.lines[counts.index(common)]), remedy=_FIELDS)]
        wrong = [place for place in wrong if counts[place] != common]
    found += [
        Problem(f"{counts[place]} fields, where the header has {width}", int(rows.lines[place]), remedy=_FIELDS)
        for place in wrong
    ]
    right = [place for place, count in enumerate(counts) if count == width]
    return Rows([rows.fields[place] for place in right], rows.lines[right]), found
