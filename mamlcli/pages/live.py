"""The page of a run as it is now, made again only when something in its folder has changed."""

import hashlib
import json
import threading
from pathlib import Path
from typing import NamedTuple

from mamlcli.pages.blocks import Picture
from mamlcli.pages.files import written_now
from mamlcli.pages.html import drawn, html
from mamlcli.pages.inline import Inline
from mamlcli.pages.run import run_page
from mamlcli.runs.contents import is_held, read_contents, signature

EVERY_S = 3.0
"""How often a page that is open asks for its next state."""


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
        self._state = State(b"", "")
        self._figures: dict[str, tuple[str, Inline]] = {}

    def now(self) -> State:
        """The page as it is now.

        Raises:
            CheckpointError: If there is no run.
        """
        with self._lock:
            seen = (signature(self.path), is_held(self.path))
            if seen != self._seen:
                self._state = self._made(seen)
                self._seen = seen
            return self._state

    def _made(self, seen: object) -> State:
        page = run_page(read_contents(self.path), written_now())
        tag = f'"{hashlib.sha256(repr(seen).encode()).hexdigest()[:20]}"'
        return State(html(page, draw=self._draw, every_s=EVERY_S, tag=tag).encode(), tag)

    def _draw(self, picture: Picture, prefix: str) -> Inline:
        assert picture.drawing is not None
        text = json.dumps([picture.drawing.figure, picture.drawing.labels, picture.drawing.rows], default=str)
        digest = hashlib.sha256(text.encode()).hexdigest()
        known = self._figures.get(prefix)
        if known is None or known[0] != digest:
            self._figures[prefix] = (digest, drawn(picture, prefix))
        return self._figures[prefix][1]
