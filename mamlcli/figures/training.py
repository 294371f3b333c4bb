"""The figures of a training: what every seed's metrics say, from its first step to its last."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from mamlcli.figures.style import (
    BLUE,
    GREY,
    ORANGE,
    PURPLE,
    Title,
    column,
    framed,
    legend_below,
    log_scale,
    new_axes,
    shade_key,
)
from mamlcli.plain import AnyRow

# As many seeds as can be told apart as lines.
_MAX_LINES = 5
_VALIDATION = "meta_validation_loss"


def loss_figure(rows: Sequence[AnyRow], *, title: Title) -> Figure:
    """Loss on the meta-batch before and after adaptation, and on the meta-validation tasks, over training.

    Args:
        rows: Metrics with step, seed, pre_adapt_loss and post_adapt_loss; some with meta_validation_loss, or none.
        title: Of the figure.
    """
    lines = {"before adaptation": (rows, "pre_adapt_loss", GREY), "after adaptation": (rows, "post_adapt_loss", BLUE)}
    validated = [row for row in rows if _VALIDATION in row]
    if not validated:
        return _training_figure(lines, title, "query loss of the meta-batch (mean squared error)", is_log=True)
    y_label = "query loss of the meta-batch, or after adaptation\nof the meta-validation tasks (mean squared error)"
    return _training_figure(lines, title, y_label, is_log=True, validated=validated)


def order_learning_figure(rows: Sequence[AnyRow], *, title: Title) -> Figure:
    """Post-adaptation loss over training, first and second order.

    Args:
        rows: Metrics of both runs with order, step, seed and post_adapt_loss.
        title: Of the figure.
    """
    lines = {
        f"{order} order": ([row for row in rows if row["order"] == order], "post_adapt_loss", color)
        for order, color in (("first", ORANGE), ("second", BLUE))
    }
    return _training_figure(lines, title, "post-adaptation query loss of the meta-batch", is_log=True)


def cosine_figure(rows: Sequence[AnyRow], *, title: Title) -> Figure:
    """Cosine between the first- and second-order meta-gradients over training.

    Args:
        rows: With step, seed and cosine.
        title: Of the figure.
    """
    lines = {"cosine": (rows, "cosine", PURPLE)}
    figure = _training_figure(lines, title, "cosine of first- and second-order meta-gradient", is_log=False)
    figure.axes[0].axhline(1.0, color=GREY, linewidth=0.8, linestyle=":")
    return figure


def _training_figure(
    lines: Mapping[str, tuple[Sequence[AnyRow], str, str]],
    title: Title,
    y_label: str,
    *,
    is_log: bool,
    validated: Sequence[AnyRow] = (),
) -> Figure:
    """Draw columns of rows, each with its name and color: smoothed curves over the values that they smooth.

    A seed that has diverged is left out from that step on: it stands still, and would hide what the others do.
    """
    figure, axes = new_axes(title, "meta-update", y_label, height=5.2)
    for name, (rows, value, color) in lines.items():
        steps, table = _by_seed_and_step(rows, value)
        for values in _thin_lines(table):
            axes.plot(steps, values, color=color, alpha=0.6, linewidth=0.7)
        if len(table) > 1:
            # Of what the seeds say themselves: the range of their smoothed curves would be narrower than they are.
            axes.fill_between(steps, table.min(axis=0), table.max(axis=0), color=color, alpha=0.2, linewidth=0)
        axes.plot(steps, _moving_mean(table.mean(axis=0)), color=color, linewidth=1.8, label=name)
    if validated:
        _draw_validation(axes, validated)
    diverged = {row["seed"] for rows, _, _ in lines.values() for row in rows if _has_diverged(row)}
    _explain(axes, num_seeds=table.shape[0], num_steps=table.shape[1], num_diverged=len(diverged))
    framed(figure, axes)
    return legend_below(figure, axes, num_columns=2, note=log_scale([axes]) if is_log else "")


def _draw_validation(axes: Axes, rows: Sequence[AnyRow]) -> None:
    """Draw the meta-validation loss as it was measured, on the same tasks each time, and where each seed had its least.

    The first of several steps with the same loss is the best, as in a run.
    """
    steps, table = _by_seed_and_step(rows, _VALIDATION)
    few = len(table) <= _MAX_LINES
    for values in table if few and len(table) > 1 else ():
        axes.plot(steps, values, color=ORANGE, alpha=0.6, linewidth=0.7)
    if len(table) > 1:
        axes.fill_between(steps, table.min(axis=0), table.max(axis=0), color=ORANGE, alpha=0.2, linewidth=0)
    mean = [np.nan if value is np.ma.masked else value for value in table.mean(axis=0)]
    label = "meta-validation, not smoothed"
    axes.plot(steps, mean, color=ORANGE, linewidth=1.8, marker="o", markersize=_dot(len(steps)), label=label)
    known = np.ma.filled(table, np.nan)
    losses = np.where(np.isfinite(known), known, np.inf)
    found = [index for index, values in enumerate(losses) if np.isfinite(values).any()]
    best = losses.argmin(axis=1)[found]
    star = "star: least meta-validation loss" if len(table) == 1 else "star: each seed's least validation loss"
    size = 9 if few else 5
    axes.plot(
        steps[best],
        losses[found, best],
        label=star,
        color="black",
        marker="*",
        linestyle="none",
        markersize=size,
        zorder=3,
    )


def _dot(num_points: int) -> float:
    """How large the points of a line are: few can be told apart, many would hide it."""
    return 3.0 if num_points <= 40 else 0.0


def _thin_lines(table: NDArray[np.float64]) -> Sequence[NDArray[np.float64]]:
    """What is drawn beside the mean: the values of a seed alone as they are, the smoothed curves of a few."""
    if len(table) == 1:
        return list(table)
    return [_moving_mean(values) for values in table] if len(table) <= _MAX_LINES else []


def _explain(axes: Axes, *, num_seeds: int, num_steps: int, num_diverged: int) -> None:
    """Say in the legend what is thin, what a line is, what is shaded, and what is left out."""
    window = 2 * _reach(num_steps) + 1
    smoothing = f", moving mean over {window} logged steps" if window > 1 else ""
    mean, thin = (f"mean of {num_seeds} seeds", "each seed, smoothed alike" if smoothing else "each seed")
    if num_seeds == 1:
        mean, thin = "one seed", "each logged step, not smoothed"
    if num_seeds <= _MAX_LINES:
        axes.plot([], [], color="black", linewidth=0.7, label=f"thin: {thin}")
    axes.plot([], [], color="black", linewidth=1.8, label=f"line: {mean}{smoothing}")
    if num_seeds > 1:
        shade_key(axes, f"range of {num_seeds} seeds at each logged step, not smoothed")
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


def _moving_mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """A centred moving mean; at both ends of those points that there are."""
    reach = _reach(len(values))
    means = [values[max(0, i - reach) : i + reach + 1].mean() for i in range(len(values))]
    return np.array([np.nan if mean is np.ma.masked else mean for mean in means])
