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


class Silent:
    """A reporter that says nothing."""

    def note(self, message: str) -> None:
        """Ignore it."""

    def step(self, step: int, num_steps: int, pre_adapt_loss: float | None, post_adapt_loss: float | None) -> None:
        """Ignore it."""
