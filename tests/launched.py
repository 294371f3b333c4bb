"""Commands in several processes on this machine, as a launcher starts them."""

import socket
import time
from collections.abc import Mapping
from pathlib import Path

from tests.zygote import Command, Zygote

BOUND_S = 40
"""Nobody may wait for longer for one that has ended, in seconds; most is what processes take to begin."""
Faults = Mapping[int, tuple[str, dict[str, object]]]
"""By the process that has one: its name and values, see `tests.injections`."""


def start_together(zygote: Zygote, folder: Path, size: int, *words: str, faults: Faults | None = None) -> list[Command]:
    """Start so many processes with the same words."""
    shared = {"WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    shared["LOCAL_WORLD_SIZE"] = str(size)
    found = []
    for rank in range(size):
        fault, values = (faults or {}).get(rank, (None, {}))
        own = shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)} if size > 1 else {}
        found.append(zygote.start(folder, *words, fault=fault, environment=own, **values))
    return found


def free_port() -> int:
    """One that nobody listens at."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
        return port


def ends(commands: list[Command], code: int, within_s: float = BOUND_S) -> str:
    """What the first process says, where all end with a code and no other says anything."""
    until = time.monotonic() + within_s
    codes = [command.wait(max(0.1, until - time.monotonic())) for command in commands]
    assert codes == [code] * len(commands), [command.err for command in commands]
    assert [command.out + command.err for command in commands[1:]] == [""] * (len(commands) - 1)
    return commands[0].err


def appears(path: Path, commands: list[Command]) -> None:
    """Wait for a file."""
    until = time.monotonic() + BOUND_S
    while not path.exists():
        assert time.monotonic() < until, [command.err for command in commands]
        time.sleep(0.01)
