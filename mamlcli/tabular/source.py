"""The bytes of a file, hashed and unpacked as they come, and its lines as text, never more than a few MiB at a time."""

import csv
import gzip
import hashlib
import io
import zlib
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any, BinaryIO, cast

from mamlcli.tabular.encoding import first_fault, not_a_table
from mamlcli.tabular.problems import Problem, UnreadableError

LONGEST_LINE = 2**20
"""In bytes; as many are read at once."""
_READ_AHEAD = 2**16
# Of a packed file: no table of numbers shrinks as much, and before so many bytes nobody minds.
_BOMB_RATIO, _BOMB_BYTES = 250, 2**23


class Hashed(io.RawIOBase):
    """A file that is hashed and counted while it is read."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__()
        self._file = file
        self._sha = hashlib.sha256()
        self.num_bytes = 0

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any, /) -> int:
        """Fill a buffer with what comes next; returns how many bytes came."""
        chunk = self._file.read(len(buffer))
        self._sha.update(chunk)
        self.num_bytes += len(chunk)
        buffer[: len(chunk)] = chunk
        return len(chunk)

    @property
    def sha256(self) -> str:
        """The hash of what was read so far, in hexadecimal digits."""
        return self._sha.hexdigest()


def pieces(hashed: Hashed, *, packed: bool) -> Iterator[bytes]:
    """Cut a file into pieces of whole lines, of up to two MiB; the last line may have no end.

    Args:
        hashed: The file, at its start.
        packed: Whether it is packed with gzip.

    Raises:
        UnreadableError: If it is no text file, is damaged, or has a line of more than 1 MiB, of which no more is read.
    """
    file: io.BufferedIOBase = io.BufferedReader(hashed, _READ_AHEAD)
    if packed:
        file = gzip.GzipFile(fileobj=cast("BinaryIO", file), mode="rb")
    rest, line, num_unpacked = b"", 1, 0
    while more := _read(file):
        if not num_unpacked:
            more = more.removeprefix(b"\xef\xbb\xbf")
            if problem := not_a_table(more, packed=packed):
                raise UnreadableError(problem)
        num_unpacked += LONGEST_LINE
        if packed and num_unpacked > max(_BOMB_BYTES, _BOMB_RATIO * hashed.num_bytes):
            raise UnreadableError(_bomb(line))
        raw = rest + more
        end = raw.find(b"\n")
        if (len(raw) if end < 0 else end) > LONGEST_LINE:
            raise UnreadableError(_too_long(raw, line))
        end = raw.rfind(b"\n") + 1
        if end:
            yield raw[:end]
            line += raw.count(b"\n")
        rest = raw[end:]
    if rest:
        yield rest


def _read(file: io.BufferedIOBase) -> bytes:
    try:
        return file.read(LONGEST_LINE)
    except gzip.BadGzipFile as error:
        if "Not a gzipped file" in str(error):
            problem = Problem("its name ends in .gz, but it is not packed with gzip", remedy="name it as what it is")
        else:
            problem = _damaged(str(error))
    except EOFError:
        problem = _damaged("it ends too early")
    except zlib.error as error:
        problem = _damaged(str(error))
    raise UnreadableError(problem)


def _damaged(reason: str) -> Problem:
    return Problem(f"the gzip file is damaged: {reason}", remedy="fetch or pack it again")


def _bomb(line: int) -> Problem:
    says = f"unpacked it is more than {_BOMB_RATIO} times as large as packed, which no table of numbers is"
    return Problem(says, line, remedy="unpack it yourself if it is one")


def _too_long(raw: bytes, line: int) -> Problem:
    if b"\r" in raw:
        return Problem("its lines end in CR alone", line, remedy="save it with line ends LF or CRLF")
    return Problem("the line is longer than 1 MiB", line, remedy="see that it is a table with a line for each row")


class Feed:
    """Lines of text for a parser, which says how far it has come."""

    def __init__(self, raw_pieces: Iterator[bytes]) -> None:
        self._pieces = raw_pieces
        self.piece = 0
        """How many pieces have been begun."""
        self.parsed = 0
        """The piece in which the parser's last whole record ends; the parser keeps it up to date."""

    def lines(self) -> Iterator[str]:
        """Give the lines, each with its end.

        Raises:
            UnreadableError: As `pieces`; also if a line is not UTF-8 or has a NUL byte.
            csv.Error: If the parser takes line after line and finds no end of a record.
        """
        return chain.from_iterable(self._texts())

    def _texts(self) -> Iterator[Iterable[str]]:
        line = 1
        for raw in self._pieces:
            self.piece += 1
            if self.piece - self.parsed > 2:
                # Through the parser, which knows where the row starts.
                raise csv.Error("the row goes on for more than 1 MiB")
            try:
                text = raw.decode("utf-8")
            except UnicodeDecodeError:
                text = ""
            if text and "\0" not in text:
                yield io.StringIO(text, newline="\n")
            else:
                start, problem = first_fault(raw, line)
                yield io.StringIO(raw[:start].decode("utf-8"), newline="\n")
                raise UnreadableError(problem)
            line += raw.count(b"\n")
