"""The meta-validation losses of one training: when they are measured, and what they say of its parameters."""

from collections.abc import Sequence

import torch

from mamlcli.best import measured
from mamlcli.experiment import Experiment
from mamlcli.interrupts import StopRequest
from mamlcli.meta_test.validation import validation_loss
from mamlcli.training import TrainState
from mamlcli.trainings.rhythm import Rhythm
from mamlcli.types import Row, finite_or_none

LOSS = "meta_validation_loss"
"""Its name in a row of the metrics."""


class Validation:
    """Measures a state where it is time for it; of the state it changes what is known of the best alone."""

    def __init__(self, experiment: Experiment, state: TrainState, device: torch.device, stop: StopRequest) -> None:
        self.experiment, self.state, self.device, self.stop = experiment, state, device, stop
        self.every = experiment.config.evaluation.every_steps
        self.is_due = Rhythm(experiment.config, stop).is_validated

    def is_behind(self) -> bool:
        """Whether the state is one to measure and was not, since a signal came."""
        at = 0 if self.state.best is None else self.state.best.at
        return self.is_due(self.state.step) and at != self.state.step

    def without_irregular(self, row: Row) -> Row:
        """A row without the loss that was measured because the run once ended there, and goes on."""
        is_due = self.is_due(row["step"])
        return row if is_due else {name: value for name, value in row.items() if name != LOSS}

    def measure(self, rows: Sequence[Row]) -> list[Row]:
        """Add the losses to the rows of the step that the state is at, where it is time for them.

        A signal may come meanwhile: then the rows stay as they are, and whoever goes on from here measures.
        """
        state, seeds = self.state, self.experiment.config.seeds
        if self.every is None or not self.is_due(state.step):
            return list(rows)
        losses = validation_loss(self.experiment, state.params, self.device, self.stop)
        if losses is None:
            return list(rows)
        regular = state.step % self.every == 0
        state.best = measured(state.best, state.params, losses, state.step, state.alive, regular=regular)
        found = dict(zip(seeds, map(finite_or_none, losses.tolist()), strict=True))
        return [row | {LOSS: found[row["seed"]]} for row in rows if row.get("seed") in seeds]
