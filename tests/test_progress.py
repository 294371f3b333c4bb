"""Progress on a terminal, and where there is none."""

import io

import pytest

from mamlcli.cli.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_shows_a_bar_with_step_rate_time_and_losses(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("COLUMNS", "140")
    with Progress(quiet=False) as progress:
        for step in (1, 50, 100):
            progress.step(step, 100, 3.25, 0.5)
    shown = terminal.getvalue()
    assert "100/100" in shown
    assert "step/s" in shown
    assert "left, pre-adapt 3.250 post-adapt 0.500" in shown


def test_elsewhere_the_last_step_is_a_plain_line(monkeypatch: pytest.MonkeyPatch) -> None:
    log = io.StringIO()
    monkeypatch.setattr("sys.stderr", log)
    with Progress(quiet=False) as progress:
        progress.step(1, 100, 3.25, 0.5)
        progress.step(100, 100, 3.25, 0.5)
    assert "step 100/100" in log.getvalue()
    assert "\r" not in log.getvalue()


def test_quiet_leaves_only_warnings(monkeypatch: pytest.MonkeyPatch) -> None:
    log = io.StringIO()
    monkeypatch.setattr("sys.stderr", log)
    with Progress(quiet=True) as progress:
        progress.step(100, 100, 3.25, 0.5)
        progress.note("device auto: using cpu")
        progress.note("warning: checkpoint not used")
    assert log.getvalue() == "warning: checkpoint not used\n"


@pytest.mark.parametrize("stream", [Terminal, io.StringIO])
def test_a_mean_that_is_not_finite_is_shown_as_such(monkeypatch: pytest.MonkeyPatch, stream: type[io.StringIO]) -> None:
    log = stream()
    monkeypatch.setattr("sys.stderr", log)
    monkeypatch.setenv("COLUMNS", "140")
    with Progress(quiet=False) as progress:
        for step in (1, 100):
            progress.step(step, 100, None, 0.5)
    assert "n/a" in log.getvalue()
    assert "0.500" in log.getvalue()
