"""Figures of a run: one that cannot be drawn or written is said, and fails nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mamlcli.errors import CheckpointError
from mamlcli.figures.drawing import Drawing
from mamlcli.plain import ORDERS
from mamlcli.runs.folder import RunFolder

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from torch import Tensor

    from mamlcli.plain import AnyRow, Row
    from mamlcli.reporting import Reporter
    from mamlcli.section import Order


def loss_drawing(run: RunFolder) -> Drawing:
    """What draws the losses of a training, as far as it has come: also of one that goes on, or was killed.

    Raises:
        CheckpointError: If the folder is no run, or has logged no step yet.
    """
    metrics = run.metrics.read()
    if not metrics:
        raise CheckpointError(f"{run.path}: no step is logged yet, so there is no loss to draw")
    return losses(_name(run), run.read_info().get("method"), metrics)


def losses(name: str, method: str | None, metrics: Sequence[AnyRow]) -> Drawing:
    """What draws the losses of a training called so, from its metrics, of which there are some."""
    # Parameters that a method logs, like weights of slots, have figures of their own.
    rows = [{key: value for key, value in row.items() if not isinstance(value, list)} for row in metrics]
    return Drawing("loss", rows, {"title": run_title(name, metrics, method)})


def learning_drawing(folder: RunFolder) -> Drawing:
    """What draws the losses of both orders of a comparison, as far as they have come.

    Raises:
        CheckpointError: If neither has logged a step yet.
    """
    metrics = {order: RunFolder(folder.path / order).metrics.read() for order in ORDERS}
    if not any(metrics.values()):
        raise CheckpointError(f"{folder.path}: no step is logged yet, so there is no loss to draw")
    return losses_of_orders(_name(folder), metrics)


def losses_of_orders(name: str, metrics: Mapping[Order, Sequence[AnyRow]]) -> Drawing:
    """What draws the losses of both orders of a comparison called so, from the metrics of each."""
    rows = [{"order": order} | dict(row) for order, own in metrics.items() for row in own]
    return Drawing("learning", rows, {"title": run_title(name, rows, "first and second order")})


def cosine_drawing(folder: RunFolder) -> Drawing:
    """What draws the agreement of both meta-gradients of a comparison, as far as it has come.

    Raises:
        CheckpointError: If none is logged yet.
    """
    rows = folder.cosines.read()
    if not rows:
        raise CheckpointError(f"{folder.path}: no step is logged yet, so there is no cosine to draw")
    return Drawing("cosine", rows, {"title": run_title(_name(folder), rows, "agreement of both meta-gradients")})


def _name(run: RunFolder) -> str:
    """What the experiment is called."""
    return str(run.read_info().get("name", run.path.name))


def run_title(name: str, rows: Sequence[AnyRow], what: str | None) -> str:
    """Head a figure of a training: its name, what is shown, and how many seeds."""
    count = len({row["seed"] for row in rows})
    return f"{name}: {f'{what}, ' if what else ''}{count} seed{'s' * (count != 1)}"


def after_steps(steps: int) -> str:
    """What a curve is called after so many inner steps."""
    return "before adaptation" if steps == 0 else f"after {steps} inner step{'s' * (steps > 1)}"


def curve_rows(x: Tensor, y: Tensor, **labels: str | int) -> list[Row]:
    """What is drawn of a curve or of points: each a row of the labels, x and y."""
    pairs = zip(x.flatten().tolist(), y.flatten().tolist(), strict=True)
    return [{**labels, "x": one, "y": other} for one, other in pairs]


def save_or_warn(
    run: RunFolder, stem: str, drawing: Drawing | Callable[[], Drawing], reporter: Reporter
) -> Path | None:
    """Draw and write a figure with its data; returns the PNG, or None after a warning."""
    reporter.progress(f"drawing {stem}", 0, 1)
    try:
        return run.save_figure(stem, drawing if isinstance(drawing, Drawing) else drawing())
    except Exception as error:
        reporter.note(f"warning: the figure {stem} could not be written: {error}")
        return None
