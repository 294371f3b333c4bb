"""The first line of a file, which names its columns: where those stand that were asked for."""

from collections.abc import Sequence
from difflib import get_close_matches
from typing import NamedTuple

from mamlcli.tabular.problems import Problem, quoted
from mamlcli.tabular.table import Layout
from mamlcli.tabular.values import text_fault

_DELIMITERS = {";": "';'", "\t": '"\\t"', ",": "','", "|": "'|'"}
_MOST_NAMES, _MOST_COMPARED = 10, 1000


class Asked(NamedTuple):
    """Names of the columns that a table should have."""

    numbers: tuple[str, ...]
    task: str | None
    label: str | None

    def names(self) -> list[str]:
        """Each name once."""
        return list(dict.fromkeys(name for name in (*self.numbers, self.task, self.label) if name is not None))


def find_columns(header: Sequence[str], asked: Asked, line: int | None) -> tuple[Layout | None, list[Problem]]:
    """Find columns by their names.

    Args:
        header: The names of all columns of the file.
        asked: Which ones are wanted.
        line: Where the header stands; None where a file keeps it elsewhere.

    Returns:
        Where they are, or None with all that is wrong.
    """
    problems = []
    for name in asked.names():
        places = [place for place, own in enumerate(header, start=1) if own == name]
        if not places:
            problems.append(Problem(f"no column is named {quoted(name)}{_instead(name, header)}", line))
        elif len(places) > 1:
            says = f"two columns are named {quoted(name)}: number {places[0]} and number {places[1]}"
            problems.append(Problem(says, line, places[1], "give each column a name of its own"))
    if problems:
        return None, problems
    where = {name: header.index(name) for name in asked.names()}
    return Layout(
        tuple(header),
        tuple(where[name] for name in asked.numbers),
        None if asked.task is None else where[asked.task],
        None if asked.label is None else where[asked.label],
    ), []


def _instead(name: str, header: Sequence[str]) -> str:
    """The column that was probably meant, or those that there are."""
    folded = {own.casefold(): own for own in header[:_MOST_COMPARED]}
    if close := get_close_matches(name.casefold(), folded, n=1, cutoff=0.6):
        return f"; did you mean {quoted(folded[close[0]])}?"
    more = f" and {len(header) - _MOST_NAMES} more" if len(header) > _MOST_NAMES else ""
    return f"; its columns are {', '.join(map(quoted, header[:_MOST_NAMES]))}{more}"


def explain(header: Sequence[str], asked: Asked, delimiter: str, problems: list[Problem]) -> list[Problem]:
    """Say what makes all columns of a text file be missing, where that can be guessed."""
    missing = [name for name in asked.names() if name not in header]
    text = delimiter.join(header)
    for other, shown in _DELIMITERS.items():
        found = {field.strip().strip('"') for field in text.split(other)}
        if missing and other != delimiter and found.issuperset(missing):
            says = f"its fields seem to be separated by {shown}, not by {quoted(delimiter)}"
            return [problems[0]._replace(says=says, column=None, remedy=f"set the delimiter, like delimiter: {shown}")]
    if len(missing) == len(asked.names()) and any(text_fault(field) is None for field in header):
        says = f"no header line: it begins with {quoted(text)}"
        return [Problem(says, problems[0].line, remedy="let the first line name the columns")]
    return problems
