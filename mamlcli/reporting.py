"""Who wants to hear how work goes; the command line prints it, a program may not care."""

from typing import Protocol


class Reporter(Protocol):
    """Who wants to hear how an experiment goes; the command line prints it, a program may not care."""

    def note(self, message: str) -> None:
        """Hear something that a person should know."""

    def step(self, step: int, num_steps: int, pre_adapt_loss: float | None, post_adapt_loss: float | None) -> None:
        """Hear that a logged step is done.

        Losses are means over the seeds that have not diverged; None where one of theirs is not finite.
        """

    def progress(self, doing: str, done: int, total: int) -> None:
        """Hear how far a piece of work has come that is no training.

        Args:
            doing: What is done, like "meta-test, K = 5"; another text begins another piece.
            done: How many of its parts are, from 0 to `total`.
            total: How many there are.
        """


class Silent:
    """A reporter that says nothing."""

    def note(self, message: str) -> None:
        """Ignore it."""

    def step(self, step: int, num_steps: int, pre_adapt_loss: float | None, post_adapt_loss: float | None) -> None:
        """Ignore it."""

    def progress(self, doing: str, done: int, total: int) -> None:
        """Ignore it."""
