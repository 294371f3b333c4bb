"""Progress on stderr: a bar on a terminal, a line now and then elsewhere."""

import sys
import time
from contextlib import suppress
from shutil import get_terminal_size
from types import TracebackType
from typing import Any, Self

from tqdm import tqdm

from mamlcli.escaping import visible

# Seconds between lines where stderr is no terminal.
_LINE_EVERY_S = 10.0


class Progress:
    """A reporter that writes to stderr; `quiet` leaves only notes that warn."""

    def __init__(self, *, quiet: bool) -> None:
        self.quiet = quiet
        self.bar: tqdm[Any] | None = None
        self.started = self.last_line = time.monotonic()
        self.first_step: int | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        if self.bar is not None:
            self.bar.close()

    def note(self, message: str) -> None:
        """Print a message, above the bar if there is one."""
        if not self.quiet or message.startswith("warning"):
            with suppress(OSError, ValueError):  # nobody may be listening, which ends no run
                tqdm.write(visible(message), file=sys.stderr)

    def step(self, step: int, num_steps: int, pre_adapt_loss: float | None, post_adapt_loss: float | None) -> None:
        """Show where training is."""
        if self.quiet:
            return
        with suppress(OSError, ValueError, AttributeError):
            if sys.stderr.isatty():
                self._bar(
                    step, num_steps, f"pre-adapt {_shown(pre_adapt_loss, 3)} post-adapt {_shown(post_adapt_loss, 3)}"
                )
            else:
                losses = f"pre_adapt_loss {_shown(pre_adapt_loss, 4)}  post_adapt_loss {_shown(post_adapt_loss, 4)}"
                self._line(step, num_steps, losses)

    def progress(self, doing: str, done: int, total: int) -> None:
        """Show how far a piece of work is."""

    def _bar(self, step: int, num_steps: int, losses: str) -> None:
        if self.bar is None:
            size = get_terminal_size()  # 80 by 24 where the terminal says it has no size; tqdm would show nothing
            self.bar = tqdm(
                total=num_steps,
                initial=step - 1,
                unit="step",
                ncols=size.columns,
                nrows=size.lines,
                bar_format="{n_fmt}/{total_fmt}|{bar}| {rate_fmt} {remaining} left{postfix}",
                file=sys.stderr,
            )
        self.bar.set_postfix_str(losses, refresh=False)
        self.bar.update(step - self.bar.n)

    def _line(self, step: int, num_steps: int, losses: str) -> None:
        now = time.monotonic()
        if self.first_step is None:
            self.first_step, self.started, self.last_line = step, now, now
            return
        if now - self.last_line < _LINE_EVERY_S and step < num_steps:
            return
        self.last_line = now
        rate = (step - self.first_step) / max(now - self.started, 1e-9)
        left = (num_steps - step) / rate
        print(f"step {step}/{num_steps}  {rate:.0f} steps/s  {left:.0f} s left  {losses}", file=sys.stderr)


def _shown(value: float | None, digits: int) -> str:
    return "n/a" if value is None else f"{value:.{digits}f}"
