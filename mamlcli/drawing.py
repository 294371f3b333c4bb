"""Figures of a run: one that cannot be drawn or written is said, and fails nothing."""

from pathlib import Path

from torch import Tensor

from mamlcli.figures.drawing import Drawing
from mamlcli.reporting import Reporter
from mamlcli.runs.folder import RunFolder
from mamlcli.types import Row


def curve_rows(x: Tensor, y: Tensor, **labels: str | int) -> list[Row]:
    """What is drawn of a curve or of points: each a row of the labels, x and y."""
    pairs = zip(x.flatten().tolist(), y.flatten().tolist(), strict=True)
    return [{**labels, "x": one, "y": other} for one, other in pairs]


def save_or_warn(run: RunFolder, stem: str, drawing: Drawing, reporter: Reporter) -> Path | None:
    """Draw and write a figure with its data; returns the PNG, or None after a warning."""
    reporter.progress(f"drawing {stem}", 0, 1)
    try:
        return run.save_figure(stem, drawing)
    except Exception as error:
        reporter.note(f"warning: the figure {stem} could not be written: {error}")
        return None
