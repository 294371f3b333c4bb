"""Figures of a run: one that cannot be drawn or written is said, and fails nothing."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure
from torch import Tensor

from mamlcli.figures.drawing import Drawing
from mamlcli.reporting import Reporter
from mamlcli.runs.folder import RunFolder
from mamlcli.types import AnyRow, Order, Row


def curve_rows(x: Tensor, y: Tensor, **labels: str | int) -> list[Row]:
    """What is drawn of a curve or of points: each a row of the labels, x and y."""
    pairs = zip(x.flatten().tolist(), y.flatten().tolist(), strict=True)
    return [{**labels, "x": one, "y": other} for one, other in pairs]


def save_or_warn(run: RunFolder, stem: str, drawing: Drawing, reporter: Reporter) -> Path | None:
    """Draw and write a figure with its data; returns the PNG, or None after a warning."""
    try:
        return run.save_figure(stem, drawing)
    except Exception as error:
        reporter.note(f"warning: the figure {stem} could not be written: {error}")
        return None


def training_drawing(
    name: str, num_seeds: int, what: str, figure: str | Callable[..., Figure], rows: Sequence[AnyRow]
) -> Drawing:
    """What a training shows of itself, when it has ended or on its way.

    Args:
        name: Of the experiment.
        num_seeds: How many it trains.
        what: What is shown, like the title of the method.
        figure: What draws it.
        rows: The metrics, or what a method makes of them.
    """
    return Drawing(figure, rows, {"title": f"{name}: {what}, {num_seeds} seed(s)"})


def learning_drawing(name: str, num_seeds: int, metrics: Mapping[Order, Sequence[AnyRow]]) -> Drawing:
    """How both orders of a comparison learn, by the metrics of each."""
    rows = [{"order": order} | dict(row) for order, own in metrics.items() for row in own]
    return Drawing("learning", rows, {"title": f"{name}: {seeds_in_words(num_seeds)}"})


def seeds_in_words(num_seeds: int) -> str:
    """So many seeds.

    >>> seeds_in_words(1), seeds_in_words(3)
    ('1 seed', '3 seeds')
    """
    return f"{num_seeds} seed{'s' * (num_seeds != 1)}"
