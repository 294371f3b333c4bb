"""One tracker's process, as who trains sees it."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from mamlcli.trackers.destination import About, Place

_MAX_WAIT_S = 120.0
_MOST_SAID = 2**14


class TrackerError(Exception):
    """A tracker has come to an end by itself."""


class Process:
    """Sends what is logged, and waits for nothing until it is closed."""

    def __init__(self, name: str, about: About) -> None:
        """Start it.

        Raises:
            OSError: If no process can be started.
        """
        # In a file, since nobody reads a pipe meanwhile.
        self.said: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        path = os.pathsep.join(filter(None, sys.path))
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "mamlcli.trackers.child", name],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=self.said,
            env=os.environ | {"PYTHONPATH": path},
            start_new_session=True,  # Ctrl-C is for who trains, and closes this one in time
        )
        assert self.process.stdin is not None
        self.stdin = self.process.stdin
        self._send({"about": about._asdict() | {"folder": str(about.folder)}})

    def scalars(self, place: Place, values: Mapping[str, float]) -> None:
        """Add a point to the chart of each name.

        Raises:
            TrackerError: If the tracker has failed.
        """
        self._send({"place": place, "values": values})

    def figure(self, place: Place, path: Path) -> None:
        """Add a PNG file under its stem.

        Raises:
            TrackerError: If the tracker has failed.
        """
        self._send({"place": place, "figure": str(path.absolute())})

    def close(self, *, status: str) -> None:
        """Wait until all is written.

        Raises:
            TrackerError: If the tracker has failed, or takes too long.
        """
        self._send({"status": status})
        self._end()

    def stop(self) -> None:
        """End it now, whatever it is doing."""
        self.process.kill()
        with suppress(TrackerError):
            self._end()

    def _send(self, message: Mapping[str, Any]) -> None:
        try:
            self.stdin.write(json.dumps(message).encode() + b"\n")
            self.stdin.flush()
        except (OSError, ValueError):  # nobody listens, or it is closed
            self._end()
            raise TrackerError("it has ended by itself") from None

    def _end(self) -> None:
        """Wait for its end, and raise what it says of it."""
        with suppress(OSError):
            self.stdin.close()
        try:
            code = self.process.wait(_MAX_WAIT_S)
        except subprocess.TimeoutExpired:
            raise TrackerError(f"it was not done after {_MAX_WAIT_S:.0f} s") from None
        said = "" if self.said.closed else _last_line(self.said)
        self.said.close()
        if code:
            raise TrackerError(said or f"its process ended with {code}")


def _last_line(file: IO[bytes]) -> str:
    file.seek(max(file.seek(0, os.SEEK_END) - _MOST_SAID, 0))
    lines = file.read().decode(errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
