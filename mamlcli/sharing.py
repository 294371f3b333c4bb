"""One copy for the processes of a machine: arrays in a file without a name, which each maps into its memory."""

import atexit
import gc
import mmap
import os
import pickle
import socket
import tempfile
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from mamlcli.ranks import Ranks

T = TypeVar("T")

# In bytes: where an array may begin, as those do that NumPy and torch allocate themselves.
_ALIGNED = 64


class _Offer(NamedTuple):
    """What the process that has made a value tells the others of it."""

    path: str | None = None
    """A file with the bytes of its arrays, one after the other; None where there is none."""
    frame: bytes = b""
    """All else of it, pickled."""
    places: tuple[tuple[int, int], ...] = ()
    """Where in the file each array begins and ends."""
    problem: str | None = None
    """Why there is no file that should be."""


def shared_on_machine(make: Callable[[], T], ranks: Ranks, note: Callable[[str], object]) -> T:
    """Make a value in one process of each machine; its arrays are in memory once there, whoever looks at them.

    All processes call it. Where one cannot have what another has made, as with a full disk, it makes its own.

    Args:
        make: Makes it, of NumPy's arrays and of what can be pickled, the same in all processes.
        ranks: The processes; a single one calls `make`, and that is all.
        note: Called in each process where some have to make their own, with the reason.

    Returns:
        The value. Its arrays are not written to: what one process writes, the others do not see.
    """
    if ranks.size == 1:
        return make()
    # Where machines have one name, torchrun still tells them apart.
    machines = ranks.all_told((socket.gethostname(), os.environ.get("GROUP_RANK")))
    beside = [rank for rank, machine in enumerate(machines) if machine == machines[ranks.rank]]
    found = [make()] if ranks.rank == beside[0] else []
    with ExitStack() as held:
        own = _offered(found[0], held) if found and len(beside) > 1 else _Offer()
        offer: _Offer = ranks.all_told(own)[beside[0]]
        problem = offer.problem
        if offer.path is not None:
            held.callback(_forget, offer.path)
            try:
                found[:] = [_mapped(offer)]
            except OSError as error:
                problem = _reason(error)
        problems = [one for one in ranks.all_told(problem) if one]
    if problems:
        note(problems[0])
    return found[0] if found else make()


def _offered(value: Any, held: ExitStack) -> _Offer:
    """Write the arrays of a value to a file, which is gone when `held` ends."""
    buffers: list[pickle.PickleBuffer] = []
    frame = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    places = []
    try:
        # Written and not mapped to be filled, so that a full disk is an error, and no signal that ends the process.
        handle, path = tempfile.mkstemp(prefix="mamlcli-")
        held.callback(_forget, path)
        with os.fdopen(handle, "wb") as file:
            file.write(bytes(_ALIGNED))  # nothing cannot be mapped, as where all arrays are empty
            for buffer in buffers:
                file.write(bytes(-file.tell() % _ALIGNED))
                start = file.tell()
                places.append((start, start + file.write(buffer.raw())))
    except OSError as error:
        return _Offer(problem=_reason(error))
    return _Offer(path, frame, tuple(places))


def _mapped(offer: _Offer) -> Any:
    """The value that is offered, its arrays where the file is mapped: for as long as one of them is there."""
    assert offer.path is not None
    with Path(offer.path).open("rb") as file:
        # Of a private mapping there is one copy until somebody writes; of what cannot be written to, torch warns.
        view = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))
    return pickle.loads(offer.frame, buffers=[view[start:end] for start, end in offer.places])


def _forget(path: str) -> None:
    """Delete a file that is mapped, which stays until nobody maps it; Windows lets only the last do so, at its end."""
    try:
        Path(path).unlink(missing_ok=True)
    except PermissionError:
        atexit.register(_forget_at_end, path)


def _forget_at_end(path: str) -> None:
    gc.collect()  # a cycle of references may hold the mapping
    with suppress(OSError):
        Path(path).unlink(missing_ok=True)


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
