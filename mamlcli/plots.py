"""Rows of a table to a matplotlib Figure; no pyplot, no global state, no files."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter
from numpy.typing import NDArray

from mamlcli.escaping import label as escaped
from mamlcli.types import Row

# Okabe and Ito's palette, which stays distinct to most colour-blind readers.
_BLUE, _ORANGE, _GREEN, _PURPLE, _GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#777777"
_CYCLE = (_BLUE, _ORANGE, _GREEN, _PURPLE, "#E69F00", "#56B4E9")
# As many seeds as can be told apart as lines; more become a band.
_MAX_LINES = 5


def loss_figure(rows: Sequence[Row], *, title: str) -> Figure:
    """Loss on the meta-batch before and after adaptation, over training.

    Args:
        rows: Metrics with step, seed, pre_adapt_loss and post_adapt_loss.
        title: Of the figure.
    """
    figure, axes = _axes(title, "meta-update", "query loss of the meta-batch (mean squared error)")
    _curves(axes, rows, "pre_adapt_loss", "before adaptation", _GREY)
    _curves(axes, rows, "post_adapt_loss", "after adaptation", _BLUE)
    _log_scale(axes)
    return _finished(figure, axes)


def order_learning_figure(rows: Sequence[Row], *, title: str) -> Figure:
    """Post-adaptation loss over training, first and second order, with a band over seeds.

    Args:
        rows: Metrics of both runs with order, step, seed and post_adapt_loss.
        title: Of the figure.
    """
    figure, axes = _axes(title, "meta-update", "post-adaptation query loss of the meta-batch")
    for order, color in (("first", _ORANGE), ("second", _BLUE)):
        chosen = [row for row in rows if row["order"] == order]
        _curves(axes, chosen, "post_adapt_loss", f"{order} order", color, max_lines=1)
    _log_scale(axes)
    return _finished(figure, axes)


def cosine_figure(rows: Sequence[Row], *, title: str) -> Figure:
    """Cosine between the first- and second-order meta-gradients over training.

    Args:
        rows: With step, seed and cosine.
        title: Of the figure.
    """
    figure, axes = _axes(title, "meta-update", "cosine of first- and second-order meta-gradient")
    _curves(axes, rows, "cosine", "cosine", _PURPLE)
    axes.axhline(1.0, color=_GREY, linewidth=0.8, linestyle=":")
    return _finished(figure, axes)


def adaptation_figure(rows: Sequence[Row], *, title: str) -> Figure:
    """Query loss against gradient steps, one line for each K (and model), with the 95% interval of the mean.

    Args:
        rows: Of one seed, or of seed "all": shots, inner_steps, mean, ci95, median; of a chain, model.
        title: Of the figure.
    """
    figure, axes = _axes(title, "gradient steps of adaptation", "query loss (mean squared error)")
    lines = sorted({(row.get("model", ""), row["shots"]) for row in rows})
    for color, (model, shots) in zip(_CYCLE * len(rows), lines, strict=False):
        chosen = [row for row in rows if (row.get("model", ""), row["shots"]) == (model, shots)]
        name = f"{model}, K = {shots}".removeprefix(", ")
        _interval_line(axes, chosen, f"{name}: mean", color)
        medians = _column(chosen, "median")
        axes.plot(_column(chosen, "inner_steps"), medians, color=color, linestyle=":", label=f"{name}: median")
    _log_scale(axes)
    return _finished(figure, axes)


def order_adaptation_figure(rows: Sequence[Row], *, title: str) -> Figure:
    """Adaptation curves of both orders, one panel for each K.

    Args:
        rows: With order, shots, inner_steps, mean and ci95.
        title: Of the figure.
    """
    shots = sorted({row["shots"] for row in rows})
    figure = Figure(figsize=(3.6 * len(shots) + 0.6, 4.0), layout="constrained")
    figure.suptitle(escaped(title), fontsize=11)
    panels = figure.subplots(1, len(shots), sharey=True, squeeze=False)[0]
    for axes, count in zip(panels, shots, strict=True):
        for order, color in (("first", _ORANGE), ("second", _BLUE)):
            chosen = [row for row in rows if row["order"] == order and row["shots"] == count]
            _interval_line(axes, chosen, f"{order} order", color)
        axes.set_title(f"K = {count}", fontsize=10)
        axes.set_xlabel("gradient steps of adaptation")
        _log_scale(axes)
        _finished(figure, axes)
    panels[0].set_ylabel("query loss (mean squared error)")
    return figure


def reproduction_figure(rows: Sequence[Row], *, title: str) -> Figure:
    """Query loss against gradient steps for several methods, one panel for each K (as Finn et al. 2017, figure 3).

    A line leaves at the top where tasks diverge: it is cut at twice the largest loss before adaptation.

    Args:
        rows: With curve, shots, inner_steps, mean and ci95.
        title: Of the figure.
    """
    shots = sorted({row["shots"] for row in rows})
    names = list(dict.fromkeys(row["curve"] for row in rows))
    figure = Figure(figsize=(3.6 * len(shots) + 0.6, 4.4), layout="constrained")
    figure.suptitle(escaped(title), fontsize=11)
    panels = figure.subplots(1, len(shots), sharey=True, squeeze=False)[0]
    for axes, count in zip(panels, shots, strict=True):
        for index, (color, name) in enumerate(zip(_CYCLE * len(names), names, strict=False)):
            chosen = [row for row in rows if row["curve"] == name and row["shots"] == count]
            _interval_line(axes, chosen, f"curve {index}", color)
        axes.set_title(f"K = {count}", fontsize=10)
        axes.set_xlabel("gradient steps of adaptation")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(visible=True, axis="y", which="major", linewidth=0.4, alpha=0.5)
    _log_scale(panels[0])  # all panels share it
    begun = [row["mean"] for row in rows if row["inner_steps"] == 0 and row["mean"] is not None]
    if begun:
        panels[0].set_ylim(top=2 * max(begun))
    panels[0].set_ylabel("query loss (mean squared error)")
    handles, labels = panels[0].get_legend_handles_labels()
    legend = figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False, fontsize=9)
    for text, name in zip(legend.get_texts(), names, strict=True):
        text.set_text(escaped(name))  # a label that begins with "_" would be left out
    return figure


def fits_figure(curves: Sequence[Row], points: Sequence[Row], *, title: str) -> Figure:
    """What adaptation does to single tasks: truth, support points, and the model before and after.

    Args:
        curves: With task, curve ("truth" or "after <n> steps"), x and y.
        points: Support samples with task, x and y.
        title: Of the figure.
    """
    tasks = sorted({row["task"] for row in curves})
    figure = Figure(figsize=(3.6 * len(tasks) + 0.6, 3.9), layout="constrained")
    figure.suptitle(escaped(title), fontsize=11)
    panels = figure.subplots(1, len(tasks), sharey=True, squeeze=False)[0]
    names = list(dict.fromkeys(row["curve"] for row in curves))
    looks: list[dict[str, Any]] = [
        {"color": "black", "linewidth": 2.2, "alpha": 0.35},
        {"color": _GREY, "linestyle": ":"},
        {"color": _ORANGE, "linestyle": "--"},
        {"color": _BLUE},
    ]
    for axes, task in zip(panels, tasks, strict=True):
        for name, look in zip(names, looks, strict=False):
            chosen = [row for row in curves if row["task"] == task and row["curve"] == name]
            axes.plot(_column(chosen, "x"), _column(chosen, "y"), label=name, **look)
        support = [row for row in points if row["task"] == task]
        axes.plot(_column(support, "x"), _column(support, "y"), "^", color=_PURPLE, label="support", markersize=7)
        axes.set_title(f"meta-test task {task}", fontsize=10)
        axes.set_xlabel("x")
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("y")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False, fontsize=9)
    return figure


def rates_figure(rows: Sequence[Row], *, title: str) -> Figure:
    """Learned inner learning rates: of each tensor (and step), where they began and where they are.

    Args:
        rows: With tensor, step (null where it has none), begun (the mean at the start), and low, median and high of
            the rates over parameters and seeds.
        title: Of the figure.
    """
    names = [row["tensor"] if row["step"] is None else f"{row['tensor']}, step {row['step']}" for row in rows]
    figure = Figure(figsize=(7.2, 1.4 + 0.34 * len(rows)), layout="constrained")
    axes = figure.subplots()
    axes.set_title(escaped(title), fontsize=11)
    axes.set_xlabel("inner learning rate")
    lines = np.arange(len(rows))
    low, median, high = (_column(rows, name) for name in ("low", "median", "high"))
    axes.hlines(lines, low, high, color=_BLUE, linewidth=5, alpha=0.3, label="5% to 95%")
    axes.plot(median, lines, "o", color=_BLUE, label="median over parameters and seeds")
    axes.plot(_column(rows, "begun"), lines, "|", color=_ORANGE, markersize=12, label="mean at the start")
    axes.axvline(0.0, color=_GREY, linewidth=0.8, linestyle=":")
    axes.set_yticks(lines, names)
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    return figure


def _axes(title: str, x_label: str, y_label: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(7.2, 4.4), layout="constrained")
    axes = figure.subplots()
    axes.set_title(escaped(title), fontsize=11)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    return figure, axes


def _log_scale(axes: Axes) -> None:
    """A logarithmic y axis with plain numbers on it, begun by the lines and not by the widest interval."""
    values = np.concatenate([np.asarray(line.get_ydata(), dtype=np.float64) for line in axes.lines])
    shown = values[np.isfinite(values) & (values > 0)]
    if not shown.size:
        axes.text(0.5, 0.5, "no finite value to show", transform=axes.transAxes, ha="center")
        return
    axes.set_yscale("log")
    axes.set_ylim(bottom=0.7 * float(shown.min()))
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _finished(figure: Figure, axes: Axes) -> Figure:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(visible=True, axis="y", which="major", linewidth=0.4, alpha=0.5)
    handles, _ = axes.get_legend_handles_labels()
    if handles:
        axes.legend(frameon=False, fontsize=9)
    return figure


def _column(rows: Sequence[Row], name: str) -> NDArray[np.float64]:
    """A column as numbers; null becomes NaN, which leaves a gap in a line."""
    return np.array([np.nan if row[name] is None else row[name] for row in rows], dtype=np.float64)


def _interval_line(axes: Axes, rows: Sequence[Row], label: str, color: str) -> None:
    x, mean, half = (_column(rows, name) for name in ("inner_steps", "mean", "ci95"))
    axes.plot(x, mean, color=color, marker="o", markersize=3, label=label)
    # A wide interval can reach below zero, which a logarithmic axis cannot show: it runs off the bottom.
    axes.fill_between(x, np.maximum(mean - half, 1e-12), mean + half, color=color, alpha=0.2, linewidth=0)


def _curves(axes: Axes, rows: Sequence[Row], value: str, label: str, color: str, max_lines: int = _MAX_LINES) -> None:
    """A faint line for each seed, or a band over many, under the smoothed mean over seeds.

    A seed that has diverged is left out from that step on: it stands still, and would hide what the others do.
    """
    seeds = sorted({row["seed"] for row in rows})
    steps = np.array(sorted({row["step"] for row in rows}))
    table = np.full((len(seeds), len(steps)), np.nan)
    for row in rows:
        if row[value] is not None and row.get("diverged_at_step") is None:
            table[seeds.index(row["seed"]), np.searchsorted(steps, row["step"])] = row[value]
    smooth = _smoother(len(steps))
    curves = np.ma.masked_invalid([smooth(line) for line in table])
    diverged = len({row["seed"] for row in rows if row.get("diverged_at_step") is not None})
    left_out = f"; {diverged} diverged, left out from there on" if diverged else ""
    if len(seeds) > max_lines:
        axes.fill_between(steps, curves.min(axis=0), curves.max(axis=0), color=color, alpha=0.25, linewidth=0)
        label += f" (mean and range of {len(seeds)} seeds{left_out})"
    elif len(seeds) > 1:
        for curve in curves:
            axes.plot(steps, curve, color=color, alpha=0.4, linewidth=0.8)
        label += f" (mean; thin: {len(seeds)} seeds{left_out})"
    axes.plot(steps, curves.mean(axis=0).filled(np.nan), color=color, linewidth=1.8, label=label)


def _smoother(num_points: int) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    """A centred moving mean over a fiftieth of the points, which meta-batches of few tasks need."""
    reach = num_points // 100

    def smooth(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.array([values[max(0, i - reach) : i + reach + 1].mean() for i in range(num_points)])

    return smooth
