"""Who works in a folder: a lock that ends with its process, however it ends, on every system that Python knows."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mamlcli.errors import RunFolderError

_LOCK = ".lock"
# `is_held` takes the lock for less than a millisecond; nobody is to take that for somebody at work.
_PATIENCE_S, _POLL_S = 0.1, 0.01


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder for this process.

    Raises:
        RunFolderError: If another process holds it, or has just put another folder in its place.
    """
    busy = f"{folder}: another process is working in this folder"
    path = folder / _LOCK
    with path.open("a") as file:
        try:
            if not _lock(file.fileno()) or not os.path.samestat(os.fstat(file.fileno()), path.stat()):
                raise RunFolderError(busy)
        except FileNotFoundError:
            raise RunFolderError(busy) from None
        yield


def _lock(descriptor: int) -> bool:
    """Take the lock of an open file, which closing the file gives back; False if others keep it."""
    from filelock import lock_descriptor

    until = time.monotonic() + _PATIENCE_S
    while not lock_descriptor(descriptor, blocking=False):
        if time.monotonic() > until:
            return False
        time.sleep(_POLL_S)
    return True


def is_held(folder: Path) -> bool:
    """Whether a process works in a folder, as far as this machine can tell; True where it cannot.

    Of a folder on a disk that machines share it is told where locks reach across them, as over NFS.
    """
    from filelock import lock_descriptor

    try:
        with (folder / _LOCK).open("r+") as file:
            return not lock_descriptor(file.fileno(), blocking=False)
    except FileNotFoundError:
        return False
    except OSError:  # of another user
        return True
