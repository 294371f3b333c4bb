"""`maml watch`: the page of a run while it goes on, on this machine alone, for who knows its address."""

import secrets
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

from mamlcli.errors import UsageError
from mamlcli.interrupts import StopRequest
from mamlcli.pages.live import LivePage
from mamlcli.runs.pointed import FolderLike, folder_of

_LOOPBACK = "127.0.0.1"
_NAMES = (_LOOPBACK, "localhost")
# How long a request may take, and after how long a wish to stop is heard, in seconds.
_REQUEST_S = 10.0
_HEARD_S = 0.2


class Served(NamedTuple):
    """A page that is served."""

    address: str
    """What a browser is given: it holds the token."""
    run: Path


def watch(
    run: FolderLike,
    *,
    port: int = 0,
    on_ready: Callable[[Served], object] = lambda _: None,
    stop: StopRequest | None = None,
) -> None:
    """Serve the page of a run on the loopback address until it is asked to stop.

    Nothing but the page is served, to nobody who does not know the token in its address, and to no page of another
    site. The run is read alone; nothing is written.

    Args:
        run: A run folder of any kind.
        port: From 1024 to 65535; 0 takes one that is free.
        on_ready: Called once with the address.
        stop: Ends it, by a signal or from another thread.

    Raises:
        CheckpointError: If it is no run folder.
        UsageError: If the port cannot be used.
    """
    page = LivePage(folder_of(run))
    page.now()  # what is no run folder is said before anything is served
    token = secrets.token_urlsafe(16)
    try:
        server = _Server((_LOOPBACK, port), _Handler)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"port {port} cannot be used: {reason}; name another, or none for one that is free") from None
    server.page, server.token = page, token
    with server, stop or StopRequest() as stop:
        thread = threading.Thread(target=server.serve_forever, args=(_HEARD_S,), daemon=True)
        thread.start()
        try:
            on_ready(Served(f"http://{_LOOPBACK}:{server.server_port}/{token}/", page.path))
            while stop.signal_number is None and thread.is_alive():
                thread.join(_HEARD_S)
        finally:
            server.shutdown()


class _Server(ThreadingHTTPServer):
    """A server of one page."""

    daemon_threads = True
    page: LivePage
    token: str

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of who hangs up."""


class _Handler(BaseHTTPRequestHandler):
    """Answers with the page, or with 404 whatever else is asked for."""

    server: _Server
    server_version, sys_version = "mamlcli", ""
    timeout = _REQUEST_S

    def do_GET(self) -> None:
        """Answer with the page."""
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        """Answer with the head alone."""
        self._answer(with_body=False)

    def _answer(self, *, with_body: bool) -> None:
        if not self._is_asked_here():
            self._send(404, b"not found\n", "text/plain", with_body=with_body)
            return
        state = self.server.page.now()
        if self.headers.get("If-None-Match") == state.tag:
            self._send(304, b"", None, with_body=False, tag=state.tag)
            return
        self._send(200, state.body, "text/html; charset=utf-8", with_body=with_body, tag=state.tag)

    def _is_asked_here(self) -> bool:
        """Whether the address holds the token, and was opened under this machine's own name.

        A page of another site can have its name point here, and would then be asked for under that name.
        """
        hosts = [f"{name}:{self.server.server_port}" for name in _NAMES]
        path = self.path.partition("?")[0]
        knows = secrets.compare_digest(path.encode(), f"/{self.server.token}/".encode())
        return knows and self.headers.get("Host", "").lower() in hosts

    def _send(self, code: int, body: bytes, kind: str | None, *, with_body: bool, tag: str = "") -> None:
        self.send_response(code)
        if kind:
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
        if tag:
            self.send_header("ETag", tag)
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("X-Frame-Options", "DENY")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing of requests: they hold the token."""
