"""Progress on stderr: a line that changes on a terminal, a plain line now and then elsewhere."""

import gc
import math
import os
import sys
import time
from contextlib import suppress
from types import TracebackType
from typing import NamedTuple, Self

from mamlcli.cli.pace import Pace, Smoothed
from mamlcli.cli.status_line import StatusLine
from mamlcli.escaping import visible

# Seconds between two lines where stderr is no terminal, and between two pictures of the bar where it is one.
_LINE_EVERY_S, _BAR_EVERY_S = 10.0, 0.1
_LEAST_BAR, _MOST_BAR = 8, 40


class _Work(NamedTuple):
    """What is being done now."""

    doing: str
    total: int
    pace: Pace
    before: Smoothed
    after: Smoothed


class Progress:
    """A reporter that writes to stderr; `quiet` leaves only notes that warn."""

    def __init__(self, *, quiet: bool) -> None:
        self.quiet = quiet
        self.line: StatusLine | None = None
        self.work: _Work | None = None
        self.last_bar = -math.inf
        self.last_line = time.monotonic()

    def __enter__(self) -> Self:
        if "torch" not in sys.modules:  # what takes the first seconds of nearly every command
            self.progress("loading PyTorch", 0, 1)
            try:
                _load_torch()
            except BaseException:
                self.__exit__()
                raise
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        with suppress(OSError, ValueError):
            if self.line is not None:
                self.line.clear()

    def note(self, message: str) -> None:
        """Print a message, above the bar if there is one."""
        if not self.quiet or message.startswith("warning"):
            with suppress(OSError, ValueError):
                if self.line is None:
                    print(visible(message), file=sys.stderr, flush=True)
                else:
                    self.line.above(visible(message))

    def step(self, step: int, num_steps: int, pre_adapt_loss: float | None, post_adapt_loss: float | None) -> None:
        """Show where training is, and a moving mean of its losses."""
        if self.quiet:
            return
        work = self._on("training", step, num_steps)
        work.before.add(pre_adapt_loss)
        work.after.add(post_adapt_loss)
        if _is_terminal():
            losses = f"loss {work.before.shown(2)}, adapted {work.after.shown(2)} (smoothed)"
            self._bar(work, step, "", losses)
        else:
            losses = f"pre_adapt_loss {work.before.shown(4)}  post_adapt_loss {work.after.shown(4)} (smoothed)"
            self._plain(work, f"step {step}/{num_steps}", losses, ends=step >= num_steps)

    def progress(self, doing: str, done: int, total: int) -> None:
        """Show how far a piece of work is; of a single part, only that it is being done."""
        if self.quiet:
            return
        doing = visible(doing)
        work = self._on(doing, done, total)
        if _is_terminal():
            self._bar(work, done, doing, "")
        elif total > 1:
            self._plain(work, f"{doing}: {done}/{total}", "", ends=False)

    def _on(self, doing: str, done: int, total: int) -> _Work:
        """The piece of work that this is of: the one of the last report, or another that begins."""
        work = self.work
        if work is None or (work.doing, work.total) != (doing, total) or done < work.pace.last[1]:
            work = self.work = _Work(doing, total, Pace(), Smoothed(), Smoothed())
            self.last_bar = -math.inf
        work.pace.add(time.monotonic(), done)
        return work

    def _bar(self, work: _Work, done: int, doing: str, losses: str) -> None:
        now = time.monotonic()
        if now - self.last_bar < _BAR_EVERY_S and done < work.total:
            return
        self.last_bar = now
        if self.line is None:
            self.line = StatusLine(sys.stderr)
        others = [work.pace.left(work.total), losses, work.pace.speed() if losses else ""]
        full, empty = ("━", "─") if _can_show("━─") else ("#", "-")
        text = bar_text(self.line.columns() - 1, doing, done, work.total, others, full, empty)
        with suppress(OSError):  # nobody may be listening, which ends no run
            self.line.show(text)

    def _plain(self, work: _Work, where: str, losses: str, *, ends: bool) -> None:
        now = time.monotonic()
        if now - self.last_line < _LINE_EVERY_S and not ends:
            return
        self.last_line = now
        parts = [where, work.pace.speed() if losses else "", work.pace.left(work.total), losses]
        with suppress(OSError, ValueError):
            print("  ".join(part for part in parts if part), file=sys.stderr, flush=True)


def bar_text(
    columns: int, doing: str, done: int, total: int, others: list[str], full: str = "━", empty: str = "─"
) -> str:
    """A line of progress that fits: what is done, how far, a bar, and of the others the first that fit.

    >>> bar_text(39, "meta-test", 3, 4, ["2 s left"])
    'meta-test  3/4  ━━━━━━━━━────  2 s left'
    >>> bar_text(39, "loading PyTorch", 0, 1, [])
    'loading PyTorch ...'
    """
    doing = doing if len(doing) <= columns // 2 else f"{doing[: columns // 2 - 3]}..."
    if total <= 1:
        return f"{doing} ..."
    parts = [*([doing] if doing else []), f"{done}/{total}"]
    others = [other for other in others if other]
    while others and columns - len("  ".join([*parts, "", *others])) < _LEAST_BAR:
        others.pop()
    size = min(_MOST_BAR, columns - len("  ".join([*parts, "", *others])))
    filled = size * done // total
    return "  ".join([*parts, *([full * filled + empty * (size - filled)] if size >= _LEAST_BAR else []), *others])


def _load_torch() -> None:
    """Import torch without looking for garbage in what it makes, which all stays; nor is that looked through later.

    To look again and again takes a seventh of the time.
    """
    gc.disable()
    try:
        import torch  # noqa: F401
    finally:
        gc.freeze()
        gc.enable()


def _is_terminal() -> bool:
    try:
        return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
    except (AttributeError, ValueError):  # closed, or none at all
        return False


def _can_show(letters: str) -> bool:
    try:
        letters.encode(sys.stderr.encoding or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
