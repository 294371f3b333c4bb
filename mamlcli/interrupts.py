"""Ctrl-C and SIGTERM as a request to stop that is honoured where everything can be saved."""

import os
import signal
import threading
from types import FrameType
from typing import Any

from mamlcli.errors import InterruptedRunError

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """Within this context the first SIGINT or SIGTERM only asks to stop; the second ends the process at once.

    Off the main thread, where Python cannot handle signals, it changes nothing.
    """

    def __init__(self) -> None:
        self.signal_number: int | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._ask) for number in _SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _ask(self, number: int, _: FrameType | None) -> None:
        if self.signal_number is not None:
            os._exit(128 + number)
        self.signal_number = number

    def raise_if_asked(self, message: str) -> None:
        """Raise InterruptedRunError if a signal has come."""
        if self.signal_number is not None:
            raise InterruptedRunError(self.signal_number, message)
