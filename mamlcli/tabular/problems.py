"""What is wrong with a file of data: places and words collected, up to a bound, and said all at once."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from mamlcli.errors import DataError, Remedy
from mamlcli.escaping import shorten, visible

MOST_SHOWN = 20
_MOST_LETTERS = 400
# Read after the first problem in search of others, some seconds' worth.
_MOST_ROWS = 2_000_000


class Problem(NamedTuple):
    """One thing that is wrong."""

    says: str
    line: int | None = None
    """Of the file, from 1; of a Parquet file, the row. None for what is wrong with the file as a whole."""
    column: int | None = None
    """Number of the column in the file, from 1."""
    remedy: str | None = None
    """What to do about it, in words for a program and a person alike."""


class UnreadableError(Exception):
    """What ends the reading of a file at once."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.says)
        self.problem = problem


def quoted(text: str, length: int = 40) -> str:
    """A text of the file, safe and short enough to stand in a message."""
    return f"'{visible(shorten(text, length))}'"


class Problems:
    """What has been found in one file so far: the first few in full, of the others only how many."""

    def __init__(self, path: Path) -> None:
        self.path = visible(str(path))
        self.shown: list[Problem] = []
        self.count = 0
        self.note = ""
        """Where reading stopped, if that was before the end."""

    def is_enough(self, num_more: int) -> bool:
        """Whether reading on is worth nobody's time.

        Args:
            num_more: How many rows were read since the first problem.
        """
        return self.count >= MOST_SHOWN or (self.count > 0 and num_more > _MOST_ROWS)

    def add(self, found: Iterable[Problem]) -> None:
        """Take up what was found in a part of the file, in the order of its places."""
        ordered = sorted(found, key=lambda problem: (problem.line or 0, problem.column or 0))
        self.shown += ordered[: max(0, MOST_SHOWN - len(self.shown))]
        self.count += len(ordered)

    def refuse(self) -> None:
        """Raise if anything was found.

        Raises:
            DataError: With all of it, a line for each, and what to do about it.
        """
        if not self.count:
            return
        more = self.count - len(self.shown)
        rest = [f"and {more} more"] * bool(more) + [self.note] * bool(self.note)
        remedies = list(dict.fromkeys(problem.remedy for problem in self.shown if problem.remedy))
        raise DataError(
            [self._line(problem) for problem in self.shown] + ["; ".join(rest)] * bool(rest),
            Remedy("; ".join(remedies), "; ".join(remedies)) if remedies else None,
        )

    def _line(self, problem: Problem) -> str:
        place = ":".join(str(part) for part in (self.path, problem.line, problem.column) if part is not None)
        return f"{place}: {shorten(problem.says, _MOST_LETTERS)}"
