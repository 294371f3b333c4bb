"""`maml watch`: the page of a run that goes on, to who knows its address and to nobody else."""

import json
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

import mamlcli
from mamlcli import parse_config
from mamlcli.commands.watch import Served, watch
from mamlcli.errors import CheckpointError, UsageError
from mamlcli.interrupts import StopRequest
from mamlcli.pages import live
from mamlcli.runs.folder import RunFolder
from tests.browser import chromium
from tests.conftest import TINY, Maml
from tests.test_report import told
from tests.zygote import Zygote


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run that says it is under way; its pages are made as soon as it changes."""
    monkeypatch.setattr(live, "EVERY_S", 0.2)
    monkeypatch.setattr(live, "SHARE", 1.0)
    path = tmp_path / "run"
    mamlcli.train(parse_config(TINY), out=path)
    for file in path.glob("loss.*"):
        file.unlink()
    told(path, status="running")
    return path


@contextmanager
def watched(path: Path) -> Iterator[str]:
    """The address of its page, which is served meanwhile."""
    stop, ready = StopRequest(), queue.Queue[Served]()
    thread = threading.Thread(target=lambda: watch(path, on_ready=ready.put, stop=stop))
    thread.start()
    try:
        yield ready.get(timeout=60).address
    finally:
        stop.ask()
        thread.join(60)
        assert not thread.is_alive()


def ask(address: str, path: str | None = None, method: str = "GET", **headers: str) -> tuple[HTTPResponse, bytes]:
    parts = urlsplit(address)
    connection = HTTPConnection(str(parts.hostname), parts.port, timeout=60)
    connection.request(method, parts.path if path is None else path, headers=headers)
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response, body


def test_only_who_knows_the_address_sees_the_page_and_nothing_else_is_served(run: Path) -> None:
    with watched(run) as address:
        parts = urlsplit(address)
        assert parts.hostname == "127.0.0.1"
        assert len(parts.path.strip("/")) >= 20
        found, body = ask(address)
        assert (found.status, found.headers["Cache-Control"]) == (200, "no-store")
        assert b"<h1>tiny" in body
        assert ask(address, method="HEAD")[1] == b""
        assert ask(address, **{"If-None-Match": str(found.headers["ETag"])})[0].status == 304
        token = parts.path
        for path in ("/", "/run.json", token[:-1], token + "run.json", token[:-2] + "x/", token + "../", "/%2e%2e/"):
            assert ask(address, path)[0].status == 404, path
        for host in ("evil.example", f"evil.example:{parts.port}", "127.0.0.1", ""):
            assert ask(address, Host=host)[0].status == 404, host
        assert ask(address, Host=f"localhost:{parts.port}")[0].status == 200
        assert ask(address, method="POST")[0].status == 501
        with pytest.raises(UsageError, match=f"port {parts.port} cannot be used"):
            watch(run, port=int(parts.port or 0))


def test_what_is_no_run_is_not_served(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such run folder"):
        watch(tmp_path / "missing")


def until(holds: Callable[[], bool]) -> None:
    """Wait for what a browser is going to show."""
    for _ in range(600):
        if holds():
            return
        time.sleep(0.1)
    raise AssertionError("it did not come")


def test_the_page_follows_the_run_keeps_what_a_reader_did_and_says_when_it_ends(run: Path) -> None:
    folder = RunFolder(run)
    row = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    with chromium() as browser, ExitStack() as held:
        training = held.enter_context(ExitStack())
        training.enter_context(folder.locked())
        server = held.enter_context(ExitStack())
        address = server.enter_context(watched(run))
        page: Any = browser.new_page(viewport={"width": 900, "height": 500})
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(address)
        assert page.locator(".badge").first.inner_text() == "running"
        assert page.locator("figure svg").count() == 1  # the loss so far
        page.get_by_text("The whole config").click()
        page.locator("#training").scroll_into_view_if_needed()
        page.locator("th button").nth(1).click()
        scrolled = page.evaluate("scrollY")
        folder.metrics.append([row | {"step": 16, "seed": seed, "post_adapt_loss": seed + 0.25} for seed in (0, 1)])
        until(lambda: "step 16" in page.locator("main").inner_text())
        assert "1.2500" in page.locator("main").inner_text()
        assert page.get_by_text("inner_update: auto").is_visible()
        assert page.locator("th[aria-sort=ascending]").count() == 1
        assert page.evaluate("scrollY") == scrolled
        told(run, status="done")
        training.close()
        until(lambda: "has ended" in page.locator("#live").inner_text())
        assert page.locator(".badge").first.inner_text() == "done"
        server.close()
        until(lambda: "the server is gone" in page.locator("#live").inner_text())
        assert errors == []


def test_ctrl_c_ends_it_without_an_error(run: Path, zygote: Zygote) -> None:
    started = zygote.start(run.parent, "watch", "run")
    until(lambda: "Ctrl-C ends it" in started.out)
    assert "watching     run\npage         http://127.0.0.1:" in started.out
    started.signal(signal.SIGINT)
    assert (started.wait(), started.err) == (0, "")


def test_the_command_refuses_what_cannot_be_watched(maml: Maml) -> None:
    outcome = maml("watch", "nowhere")
    assert (outcome.code, outcome.err) == (4, "maml: nowhere: no such run folder\n")
