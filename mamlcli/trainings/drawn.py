"""The figures of a training: its losses, and what its method shows of itself."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch

from mamlcli.drawing import losses, run_title, save_or_warn
from mamlcli.figures.drawing import Drawing
from mamlcli.methods.method import Trained
from mamlcli.trainings.training import Training
from mamlcli.types import Row


def draw_training(training: Training, metrics: Sequence[Row]) -> Path | None:
    """Draw the loss, and what the method shows of itself; returns the loss figure."""
    run, reporter = training.run, training.reporter
    figure = draw_loss(training, metrics)
    begun = training.experiment.initial_state(torch.device("cpu")).params
    for panel in training.experiment.method.panels(Trained(begun, training.state.params, metrics)):
        title = run_title(training.config.name, metrics, panel.what)
        save_or_warn(run, panel.stem, Drawing(panel.figure, panel.rows, {"title": title, **panel.labels}), reporter)
    return figure


def draw_loss(training: Training, metrics: Sequence[Row]) -> Path | None:
    """Draw the losses so far; None where there are none, or no figure could be written."""
    if not metrics:
        return None
    drawing = partial(losses, training.config.name, training.experiment.method.title, metrics)
    return save_or_warn(training.run, "loss", drawing, training.reporter)
