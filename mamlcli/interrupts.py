"""Ctrl-C and SIGTERM as a request to stop that is honoured where everything can be saved."""

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Sequence
from types import FrameType
from typing import Any

from mamlcli.errors import InterruptedRunError

SIGNALS: tuple[int, ...] = (signal.SIGINT, signal.SIGTERM)
if sys.platform == "win32":  # where SIGTERM ends a process unheard, and Ctrl-Break is what one process can send another
    SIGNALS += (signal.SIGBREAK,)


_PR_SET_PDEATHSIG = 1


def end_with_parent() -> None:
    """Let this process be asked to save and end when the one that started it ends, however it does; on Linux alone.

    The system tells of the end of each thread of a parent that was killed, as often as one is left to be told of. A
    second SIGTERM would end this process unsaved, so it is told by a signal of its own, of which the first counts.
    """
    if sys.platform != "linux":
        return
    has_asked = False

    def ask(*_: object) -> None:
        nonlocal has_asked
        if not has_asked:
            has_asked = True
            os.kill(os.getpid(), signal.SIGTERM)

    signal.signal(signal.SIGHUP, ask)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGHUP)


class StopRequest:
    """A wish that work ends where everything can be saved: from another thread by `ask`, or by a signal.

    Within this context the first of the signals only asks to stop; the second ends the process at once. Off the main
    thread, where Python cannot handle signals, they are left alone; so they are without any, as for a program that
    calls a command.
    """

    def __init__(self, signals: Sequence[int] = ()) -> None:
        self.signals = signals
        self.signal_number: int | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._hear) for number in self.signals}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def ask(self, signal_number: int = signal.SIGINT) -> None:
        """Ask to stop, as a signal of this number would."""
        self.signal_number = signal_number

    def _hear(self, number: int, _: FrameType | None) -> None:
        if self.signal_number is not None:
            os._exit(128 + number)
        self.ask(number)

    def raise_if_asked(self, message: str) -> None:
        """Raise InterruptedRunError if a signal has come."""
        if self.signal_number is not None:
            raise InterruptedRunError(self.signal_number, message)
