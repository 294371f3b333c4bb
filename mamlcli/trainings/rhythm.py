"""When a training logs, measures and saves: the same in all processes that work on it."""

from typing import NamedTuple

from mamlcli.config.experiment import Config
from mamlcli.interrupts import StopRequest
from mamlcli.training import Rule, scheduled_lr


class Rhythm(NamedTuple):
    """What follows from the config, and from a request to stop, of each step's number."""

    config: Config
    stop: StopRequest

    def is_logged(self, step: int) -> bool:
        """Whether metrics are written after this many updates."""
        is_due = step in (1, self.config.outer.steps) or step % self.config.run.log_every_steps == 0
        return is_due or self.is_validated(step)

    def is_validated(self, step: int) -> bool:
        """Whether the meta-validation loss is measured after this many updates."""
        every = self.config.evaluation.every_steps
        return every is not None and step > 0 and (step % every == 0 or step == self.config.outer.steps)

    def is_saved(self, step: int) -> bool:
        """Whether a checkpoint is written after this many updates."""
        is_due = step % self.config.run.checkpoint_every_steps == 0 or step == self.config.outer.steps
        return is_due or self.stop.signal_number is not None

    def rule(self) -> Rule:
        """How its state goes on."""
        outer = self.config.outer
        return Rule(
            self.config.seeds,
            lambda step: scheduled_lr(outer.lr, outer.schedule, step, outer.steps),
            outer.on_divergence,
        )
