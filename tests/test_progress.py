"""Progress on a terminal, and where there is none."""

import fcntl
import io
import os
import pty
import select
import struct
import termios
from collections.abc import Callable

import pytest

from mamlcli.cli.colour import painted
from mamlcli.cli.pace import Pace, Smoothed
from mamlcli.cli.progress import Progress
from mamlcli.cli.status_line import StatusLine


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Lets time pass."""
    now = [0.0]
    monkeypatch.setattr("mamlcli.cli.progress.time.monotonic", lambda: now[0])

    def wait(seconds: float) -> None:
        now[0] += seconds

    return wait


def on_terminal(monkeypatch: pytest.MonkeyPatch, columns: int = 80) -> Terminal:
    found = Terminal()
    monkeypatch.setattr("sys.stderr", found)
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "xterm")
    return found


def last_line(terminal: Terminal) -> str:
    return terminal.getvalue().rpartition("\x1b[J")[2]


def test_a_terminal_shows_steps_a_bar_time_left_and_smoothed_losses(
    monkeypatch: pytest.MonkeyPatch, clock: Callable[[float], None]
) -> None:
    terminal = on_terminal(monkeypatch)
    with Progress(quiet=False) as progress:
        for step in (1, 51, 101):
            progress.step(step, 1001, 3.25, 0.5)
            clock(5)
        # 100 steps in 10 s leave 900 steps for 90 s.
        assert last_line(terminal).startswith("101/1001  ━")
        assert last_line(terminal).endswith("─  90 s left  loss 3.25, adapted 0.50 (smoothed)  10 steps/s")
        assert len(last_line(terminal)) < 80
    assert last_line(terminal) == ""


def test_no_time_is_told_before_there_is_something_to_tell_it_from(
    monkeypatch: pytest.MonkeyPatch, clock: Callable[[float], None]
) -> None:
    terminal = on_terminal(monkeypatch)
    with Progress(quiet=False) as progress:
        clock(60)  # of loading and compiling, which no step takes again
        progress.step(1, 100, 3.0, 1.0)
        assert "left" not in last_line(terminal)
        clock(0.5)
        progress.step(2, 100, 3.0, 1.0)
        assert "left" not in last_line(terminal)
        clock(1.5)
        progress.step(5, 100, 3.0, 1.0)
        assert "48 s left" in last_line(terminal)  # 95 steps at 2 a second


def test_the_rate_is_that_of_the_last_half_minute() -> None:
    pace = Pace()
    for second in range(100):
        pace.add(second, second)
    for second in range(100, 200):
        pace.add(second, 100 + 10 * (second - 100))
    rate = pace.rate()
    assert rate is not None
    assert abs(rate - 10) < 0.5


def test_a_smoothed_loss_is_a_weighted_mean_from_its_first_value_on() -> None:
    smoothed, values = Smoothed(), [4.0, 2.0, 1.0]
    weights = [0.81, 0.9, 1.0]
    for value in values:
        smoothed.add(value)
    expected = sum(value * weight for value, weight in zip(values, weights, strict=True)) / sum(weights)
    assert smoothed.shown(6) == f"{expected:.6f}"
    smoothed.add(None)
    assert smoothed.shown(2) == "n/a"


def test_a_piece_of_work_says_what_it_is(monkeypatch: pytest.MonkeyPatch, clock: Callable[[float], None]) -> None:
    terminal = on_terminal(monkeypatch)
    with Progress(quiet=False) as progress:
        progress.progress("reading the run", 0, 1)
        assert last_line(terminal) == "reading the run ..."
        for done in range(3):
            progress.progress("meta-test", done, 12)
            clock(2)
        assert last_line(terminal).startswith("meta-test  2/12  ━━━")
        assert last_line(terminal).endswith("─  20 s left")
        progress.progress("baselines", 0, 12)
        assert "left" not in last_line(terminal)


def test_a_note_stays_above_the_line(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_terminal(monkeypatch)
    with Progress(quiet=False) as progress:
        progress.progress("meta-test", 1, 3)
        progress.note("warning: busy")
    assert "\r\x1b[Jwarning: busy\nmeta-test  1/3" in terminal.getvalue()


def test_elsewhere_there_are_plain_lines_every_ten_seconds_and_at_the_end_of_a_training(
    monkeypatch: pytest.MonkeyPatch, clock: Callable[[float], None]
) -> None:
    log = io.StringIO()
    monkeypatch.setattr("sys.stderr", log)
    with Progress(quiet=False) as progress:
        for step in range(1, 21):
            progress.step(step, 20, 3.25, 0.5)
            clock(1)
        for done in range(12):
            progress.progress("predicting", done, 12)
            clock(1)
    lines = log.getvalue().splitlines()
    assert lines == [
        "step 11/20  1.0 steps/s  9 s left  pre_adapt_loss 3.2500  post_adapt_loss 0.5000 (smoothed)",
        "step 20/20  1.0 steps/s  pre_adapt_loss 3.2500  post_adapt_loss 0.5000 (smoothed)",
        "predicting: 9/12  3 s left",
    ]


def test_quiet_leaves_only_warnings(monkeypatch: pytest.MonkeyPatch) -> None:
    log = io.StringIO()
    monkeypatch.setattr("sys.stderr", log)
    with Progress(quiet=True) as progress:
        progress.step(100, 100, 3.25, 0.5)
        progress.progress("meta-test", 1, 2)
        progress.note("device auto: using cpu")
        progress.note("warning: checkpoint not used")
    assert log.getvalue() == "warning: checkpoint not used\n"


@pytest.mark.parametrize("stream", [Terminal, io.StringIO])
def test_a_mean_that_is_not_finite_is_shown_as_such(monkeypatch: pytest.MonkeyPatch, stream: type[io.StringIO]) -> None:
    log = stream()
    monkeypatch.setattr("sys.stderr", log)
    monkeypatch.setenv("COLUMNS", "140")
    monkeypatch.setenv("TERM", "xterm")
    with Progress(quiet=False) as progress:
        for step in (1, 100):
            progress.step(step, 100, None, 0.5)
    assert "n/a" in log.getvalue()
    assert "0.50" in log.getvalue()


@pytest.mark.parametrize("columns", [10, 30, 50, 79, 200])
def test_the_line_fits_any_width(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    terminal = on_terminal(monkeypatch, columns)
    with Progress(quiet=False) as progress:
        progress.step(59_999, 60_000, 3.25, 0.5)
        assert 0 < len(last_line(terminal)) < columns
        progress.progress("measuring: random initialisation, fine-tuned, of a long name", 3, 12)
        assert 0 < len(last_line(terminal)) < columns


class Screen:
    """What a terminal shows that wraps its lines anew when its width changes, as most do."""

    def __init__(self, columns: int) -> None:
        self.columns = columns
        self.lines = [""]  # as they were written, not as they are wrapped
        self.row = self.column = 0

    def rows(self) -> list[str]:
        return [row for line in self.lines for row in self._wrapped(line)]

    def _wrapped(self, line: str) -> list[str]:
        return [line[start : start + self.columns] for start in range(0, max(1, len(line)), self.columns)]

    def resize(self, columns: int) -> None:
        """The cursor stays behind the last letter, where all who write here leave it."""
        self.columns = columns
        self.row, self.column = len(self.rows()) - 1, len(self.rows()[-1])

    def feed(self, text: str) -> None:
        while text:
            if text.startswith("\x1b[J"):
                self._erase_below()
                text = text[3:]
            elif text.startswith("\x1b[A"):
                self.row, text = max(0, self.row - 1), text[3:]
            else:
                self._letter(text[0])
                text = text[1:]

    def _erase_below(self) -> None:
        kept, count = [], 0
        for line in self.lines:
            if count >= self.row:
                break
            kept.append(line)
            count += len(self._wrapped(line))
        self.lines = [*kept, ""]

    def _letter(self, letter: str) -> None:
        if letter == "\r":
            self.column = 0
        elif letter == "\n":
            self.lines.append("")
            self.row, self.column = len(self.rows()) - 1, 0
        else:
            assert self.column == len(self.rows()[-1])
            self.lines[-1] += letter
            self.row, self.column = len(self.rows()) - 1, len(self.rows()[-1])


def test_a_terminal_that_gets_narrower_and_wider_keeps_no_pieces_of_the_line() -> None:
    master, slave = pty.openpty()
    attributes = termios.tcgetattr(slave)
    attributes[1] &= ~termios.OPOST
    termios.tcsetattr(slave, termios.TCSANOW, attributes)
    screen = Screen(100)

    def resize(columns: int) -> None:
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        screen.resize(columns)

    def read() -> None:
        while select.select([master], [], [], 0)[0]:
            screen.feed(os.read(master, 2**16).decode())

    with os.fdopen(slave, "w", encoding="utf-8") as stream:
        line = StatusLine(stream)
        resize(100)
        line.above("a note")
        read()
        for columns in (100, 60, 25, 7, 120, 40):
            resize(columns)
            line.show(f"{'x' * 98}")
            read()
            assert screen.rows()[1:] == ["x" * min(98, columns - 1)] or columns < 7
        resize(13)
        line.above("another")
        read()
        assert screen.rows() == ["a note", "another", "x" * 12]
        line.clear()
        read()
        assert screen.rows() == ["a note", "another", ""]
    os.close(master)


def test_colour_is_for_terminals_whose_user_wants_it(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "check  verdict\n-----  -------\na      holds\nb      FAILS\n\nholds no table\nnext: maml eval run"
    for name in ("NO_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    shown = painted(text, Terminal())
    assert "\x1b[1mcheck  verdict\x1b[0m" in shown
    assert "a      \x1b[32mholds\x1b[0m\nb      \x1b[31mFAILS\x1b[0m\n\nholds no table" in shown
    assert painted(text, io.StringIO()) == text
    monkeypatch.setenv("NO_COLOR", "1")
    assert painted(text, Terminal()) == text
