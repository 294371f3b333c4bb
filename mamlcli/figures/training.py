"""The figures of a training: what every seed's metrics say, from its first step to its last."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from mamlcli.figures.style import (
    BLUE,
    FAINT,
    GREY,
    HAIR,
    LINE,
    ORANGE,
    PAGE,
    PURPLE,
    SHADE,
    THIN,
    Look,
    Title,
    column,
    legend_below,
    log_scale,
    new_axes,
    shade_key,
)
from mamlcli.plain import AnyRow

# As many seeds as can be told apart as lines.
_MAX_LINES = 5
# As many points as can be told apart on a line.
_MAX_DOTS = 40
_VALIDATION = "meta_validation_loss"


class _Curve(NamedTuple):
    rows: Sequence[AnyRow]
    value: str
    """The column."""
    color: str
    dashes: str = "-"


def loss_figure(rows: Sequence[AnyRow], *, title: Title, look: Look = PAGE) -> Figure:
    """Loss on the meta-batch before and after adaptation, and on the meta-validation tasks, over training.

    Args:
        rows: Metrics with step, seed, pre_adapt_loss and post_adapt_loss; some with meta_validation_loss, or none.
        title: Of the figure.
        look: For which place it is drawn.
    """
    validated = [row for row in rows if _VALIDATION in row]
    of = "meta-batch, " if validated else ""
    lines = {
        f"{of}before adaptation": _Curve(rows, "pre_adapt_loss", GREY, "--"),
        f"{of}after adaptation": _Curve(rows, "post_adapt_loss", BLUE),
    }
    y_label = f"query loss{'' if validated else ' of the meta-batch'} (mean squared error)"
    return _training_figure(lines, title, y_label, look, is_log=True, validated=validated)


def order_learning_figure(rows: Sequence[AnyRow], *, title: Title, look: Look = PAGE) -> Figure:
    """Loss after adaptation over training, first and second order.

    Args:
        rows: Metrics of both runs with order, step, seed and post_adapt_loss.
        title: Of the figure.
        look: For which place it is drawn.
    """
    lines = {
        f"{order} order": _Curve([row for row in rows if row["order"] == order], "post_adapt_loss", color, dashes)
        for order, color, dashes in (("first", ORANGE, "--"), ("second", BLUE, "-"))
    }
    return _training_figure(lines, title, "query loss of the meta-batch after adaptation", look, is_log=True)


def cosine_figure(rows: Sequence[AnyRow], *, title: Title, look: Look = PAGE) -> Figure:
    """Cosine between the first- and second-order meta-gradients over training.

    Args:
        rows: With step, seed and cosine.
        title: Of the figure.
        look: For which place it is drawn.
    """
    lines = {"cosine": _Curve(rows, "cosine", PURPLE)}
    figure = _training_figure(lines, title, "cosine of first- and second-order meta-gradient", look, is_log=False)
    figure.axes[0].axhline(1.0, color=GREY, linewidth=HAIR, linestyle=":")
    return figure


def _training_figure(
    lines: Mapping[str, _Curve],
    title: Title,
    y_label: str,
    look: Look,
    *,
    is_log: bool,
    validated: Sequence[AnyRow] = (),
) -> Figure:
    """Draw columns of rows, each with its name: smoothed curves over the values that they smooth.

    A seed that has diverged is left out from that step on: it stands still, and would hide what the others do.
    """
    axes = new_axes(title, "meta-update", y_label, look)
    for name, curve in lines.items():
        steps, table = _by_seed_and_step(curve.rows, curve.value)
        for values in _thin_lines(table):
            axes.plot(steps, values, color=curve.color, alpha=FAINT, linewidth=THIN)
        if len(table) > 1:
            # Of what the seeds say themselves: the range of their smoothed curves would be narrower than they are.
            low, high = table.min(axis=0), table.max(axis=0)
            axes.fill_between(steps, low, high, color=curve.color, alpha=SHADE, linewidth=0)
        shown: dict[str, Any] = {"color": curve.color, "linestyle": curve.dashes, "marker": _mark(len(steps))}
        axes.plot(steps, _moving_mean(table.mean(axis=0)), label=name, **shown)
    if validated:
        _draw_validation(axes, validated, is_smoothed=_window(len(steps)) > 1)
    diverged = {row["seed"] for curve in lines.values() for row in curve.rows if _has_diverged(row)}
    _explain(axes, num_seeds=table.shape[0], num_steps=table.shape[1], num_diverged=len(diverged))
    return legend_below([axes], note=log_scale([axes]) if is_log else "")


def _draw_validation(axes: Axes, rows: Sequence[AnyRow], *, is_smoothed: bool) -> None:
    """Draw the meta-validation loss as it was measured, on the same tasks each time, and where each seed had its least.

    The first of several steps with the same loss is the best, as in a run.
    """
    steps, table = _by_seed_and_step(rows, _VALIDATION)
    few = len(table) <= _MAX_LINES
    for values in table if few and len(table) > 1 else ():
        axes.plot(steps, values, color=ORANGE, alpha=FAINT, linewidth=THIN)
    if len(table) > 1:
        axes.fill_between(steps, table.min(axis=0), table.max(axis=0), color=ORANGE, alpha=SHADE, linewidth=0)
    mean = [np.nan if value is np.ma.masked else value for value in table.mean(axis=0)]
    label = "meta-validation, after adaptation" + ", not smoothed" * is_smoothed
    marker = "o" if len(steps) <= _MAX_DOTS else ""
    axes.plot(steps, mean, color=ORANGE, linestyle="-.", marker=marker, label=label)
    known = np.ma.filled(table, np.nan)
    losses = np.where(np.isfinite(known), known, np.inf)
    found = [index for index, values in enumerate(losses) if np.isfinite(values).any()]
    best = losses.argmin(axis=1)[found]
    star = "star: least meta-validation loss" + " of each seed" * (len(table) > 1)
    look: dict[str, Any] = {
        "color": "black",
        "marker": "*",
        "linestyle": "none",
        "markersize": 8 if few else 5,
        "zorder": 3,
    }
    axes.plot(steps[best], losses[found, best], label=star, **look)


def _mark(num_points: int) -> str:
    """A point alone is no line, and would not be seen."""
    return "o" if num_points == 1 else ""


def _thin_lines(table: NDArray[np.float64]) -> Sequence[NDArray[np.float64]]:
    """What is drawn beside the mean: the smoothed curves of a few seeds, and of a seed alone what is smoothed."""
    if len(table) == 1:
        return list(table) if _window(table.shape[1]) > 1 else []
    return [_moving_mean(values) for values in table] if len(table) <= _MAX_LINES else []


def _explain(axes: Axes, *, num_seeds: int, num_steps: int, num_diverged: int) -> None:
    """Say in the legend what is thin, what a line is, what is shaded, and what is left out."""
    is_smoothed = _window(num_steps) > 1
    smoothing = f", moving mean over {_window(num_steps)} logged steps" if is_smoothed else ""
    mean, thin = (f"mean of {num_seeds} seeds", "each seed, smoothed alike" if is_smoothed else "each seed")
    if num_seeds == 1:
        mean, thin = "one seed", "each logged step, not smoothed" if is_smoothed else ""
    if num_seeds <= _MAX_LINES and thin:
        axes.plot([], [], color="black", linewidth=THIN, label=f"thin: {thin}")
    axes.plot([], [], color="black", linewidth=LINE, label=f"line: {mean}{smoothing}")
    if num_seeds > 1:
        shade_key(axes, f"range of {num_seeds} seeds" + " at each logged step, not smoothed" * is_smoothed)
    if num_diverged:
        axes.plot([], [], " ", label=f"{num_diverged} diverged, left out from there on")


def _has_diverged(row: AnyRow) -> bool:
    return row.get("diverged_at_step") is not None


def _by_seed_and_step(rows: Sequence[AnyRow], name: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The logged steps, and a column by seed and logged step: NaN where it is null, masked once a seed diverged."""
    seeds, steps = sorted({row["seed"] for row in rows}), np.array(sorted({row["step"] for row in rows}))
    table = np.ma.array(np.full((len(seeds), len(steps)), np.nan), mask=False)
    for row, value in zip(rows, column(rows, name), strict=True):
        place = seeds.index(row["seed"]), np.searchsorted(steps, row["step"])
        table[place] = np.ma.masked if _has_diverged(row) else value
    return steps, table


def _reach(num_points: int) -> int:
    """How many points to each side a moving mean takes: a fiftieth in all, which meta-batches of few tasks need."""
    return num_points // 100


def _window(num_points: int) -> int:
    """How many points a moving mean takes, where there are as many to both sides."""
    return 2 * _reach(num_points) + 1


def _moving_mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """A centred moving mean; at both ends of those points that there are."""
    reach = _reach(len(values))
    means = [values[max(0, i - reach) : i + reach + 1].mean() for i in range(len(values))]
    return np.array([np.nan if mean is np.ma.masked else mean for mean in means])
