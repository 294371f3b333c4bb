"""Files that others have written: opened without waiting for anyone, and read up to a bound."""

import errno
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe by name"),
    (stat.S_ISCHR, "a device or a terminal"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)


def open_file(path: Path) -> BinaryIO:
    """Open a plain file to read its bytes, or a pipe that the shell hands over as `/dev/stdin` or `/dev/fd/N`.

    Raises:
        OSError: If it cannot be opened, or is something that could be waited for or read without end.
    """
    handle = _opened(path)
    try:
        mode = os.fstat(handle).st_mode
        handed_over = stat.S_ISFIFO(mode) and (path == Path("/dev/stdin") or path.parent == Path("/dev/fd"))
        if not (stat.S_ISREG(mode) or handed_over):
            kind = next((name for is_kind, name in _KINDS if is_kind(mode)), "something else")
            raise OSError(errno.EINVAL, f"it is {kind}, not a file", str(path))
        if sys.platform != "win32":
            os.set_blocking(handle, True)
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def _opened(path: Path) -> int:
    """Open without waiting for anyone, as a pipe by name would make us; on Windows no path names what waits."""
    if sys.platform != "win32":
        return os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if path.is_dir():  # which is said as permission denied there
        raise OSError(errno.EINVAL, "it is a folder, not a file", str(path))
    return os.open(path, os.O_RDONLY | os.O_BINARY)


def read_file(path: Path, max_bytes: int) -> bytes:
    """Read a file of at most so many bytes.

    Raises:
        OSError: As `open_file`; also if the file is longer, of which no more is read.
    """
    with open_file(path) as file:
        raw = file.read(max_bytes + 1)
    if len(raw) > max_bytes:
        raise OSError(errno.EFBIG, f"it is larger than {max_bytes // 1024} KiB", str(path))
    return raw


def read_lines(path: Path, max_bytes: int, *, longest: int) -> Iterator[bytes]:
    """Read the lines of a file of at most so many bytes; a line longer than `longest` comes in parts.

    Raises:
        OSError: As `read_file`.
    """
    with open_file(path) as file:
        if os.fstat(file.fileno()).st_size > max_bytes:
            raise OSError(errno.EFBIG, f"it is larger than {max_bytes // 1024} KiB", str(path))
        while line := file.readline(longest):
            yield line
