"""The page of a run as it is now, made again only when something in its folder has changed."""

import hashlib
import json
import threading
import time
from pathlib import Path
from typing import NamedTuple

from mamlcli.pages.blocks import Picture
from mamlcli.pages.files import written_now
from mamlcli.pages.html import drawn, html
from mamlcli.pages.inline import Inline
from mamlcli.pages.run import run_page
from mamlcli.runs.contents import read_contents, signature
from mamlcli.runs.lock import is_held

EVERY_S = 3.0
"""How often a page that is open asks for its next state, in seconds."""
SHARE = 0.1
"""Which part of a core making pages may take at most: the rest is the training's, which it looks at."""


class State(NamedTuple):
    """The page at one moment."""

    body: bytes
    tag: str
    """Another one for every other state."""


class LivePage:
    """The page of a run that may go on. Figures whose data are the same are not drawn again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._seen: object = None
        self._was_held, self._due = False, 0.0
        self._state = State(b"", "")
        self._figures: dict[str, tuple[str, Inline]] = {}

    def now(self) -> State:
        """The page as it is now.

        Raises:
            CheckpointError: If there is no run.
        """
        with self._lock:
            held = is_held(self.path)
            if held != self._was_held or time.monotonic() >= self._due:
                seen = (signature(self.path), held)
                if seen != self._seen:
                    self._make(seen)
                self._was_held = held
            return self._state

    def _make(self, seen: object) -> None:
        begun = time.monotonic()
        page = run_page(read_contents(self.path), written_now())
        tag = f'"{hashlib.sha256(repr(seen).encode()).hexdigest()[:20]}"'
        self._state = State(html(page, draw=self._draw, every_s=EVERY_S, tag=tag).encode(), tag)
        self._seen, ended = seen, time.monotonic()
        self._due = ended + (ended - begun) * (1 / SHARE - 1)

    def _draw(self, picture: Picture, prefix: str) -> Inline:
        assert picture.drawing is not None
        text = json.dumps([picture.drawing.figure, picture.drawing.labels, picture.drawing.rows], default=str)
        digest = hashlib.sha256(text.encode()).hexdigest()
        known = self._figures.get(prefix)
        if known is None or known[0] != digest:
            self._figures[prefix] = (digest, drawn(picture, prefix))
        return self._figures[prefix][1]
