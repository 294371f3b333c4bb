"""Rows of a table to a matplotlib Figure; no pyplot, no global state, no files."""

from collections.abc import Mapping, Sequence
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


def adaptation_figure(rows: Sequence[Row], *, title: str) -> Figure:
    """Query loss against gradient steps, one line for each K (and model), with the 95% interval of the mean.

    Args:
        rows: Of one seed, or of seed "all": shots, inner_steps, mean, ci95, median; interval, which says over what;
            of a chain, model.
        title: Of the figure.
    """
    figure, axes = _axes(title, "gradient steps of adaptation", "query loss (mean squared error)", height=5.2)
    lines = sorted({(row.get("model", ""), row["shots"]) for row in rows})
    for color, (model, shots) in zip(_CYCLE * len(rows), lines, strict=False):
        chosen = [row for row in rows if (row.get("model", ""), row["shots"]) == (model, shots)]
        name = f"{model}, K = {shots}".removeprefix(", ")
        _interval_line(axes, chosen, name, color)
        axes.plot(_column(chosen, "inner_steps"), _column(chosen, "median"), color=color, linestyle=":")
    axes.plot([], [], color="black", marker="o", markersize=3, label="line: mean")
    axes.plot([], [], color="black", linestyle=":", label="dotted: median")
    _shade_key(axes, _interval_name(rows))
    _framed(figure, axes)
    return _legend_below(figure, axes, num_columns=2, note=_log_scale([axes]))


def order_adaptation_figure(rows: Sequence[Row], *, title: str) -> Figure:
    """Adaptation curves of both orders, one panel for each K.

    Args:
        rows: With order, shots, inner_steps, mean, ci95 and interval.
        title: Of the figure.
    """
    lines = {f"{order} order": [row for row in rows if row["order"] == order] for order in ("first", "second")}
    return _panels_by_shots(lines, (_ORANGE, _BLUE), title)


def reproduction_figure(rows: Sequence[Row], *, title: str) -> Figure:
    """Query loss against gradient steps for several methods, one panel for each K (as Finn et al. 2017, figure 3).

    Where tasks diverge the figure is cut, and says so: at twice the largest loss before adaptation.

    Args:
        rows: With curve, shots, inner_steps, mean and ci95; interval, if it is to be named.
        title: Of the figure.
    """
    names = list(dict.fromkeys(row["curve"] for row in rows))
    lines = {name: [row for row in rows if row["curve"] == name] for name in names}
    begun = [row["mean"] for row in rows if row["inner_steps"] == 0 and row["mean"] is not None]
    return _panels_by_shots(lines, _CYCLE * len(names), title, top=2 * max(begun, default=np.inf))


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
    return _legend_below(figure, panels[0])


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


def _axes(title: str, x_label: str, y_label: str, *, height: float = 4.4) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(7.2, height), layout="constrained")
    axes = figure.subplots()
    axes.set_title(escaped(title), fontsize=11)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    return figure, axes


def _log_scale(panels: Sequence[Axes], top: float = np.inf) -> str:
    """Give panels that share it a logarithmic y axis with plain numbers on it, which all lines and bands are inside.

    Returns:
        In words, what is not inside: above `top`, or where a logarithmic axis cannot show it; empty if all is.
    """
    values = np.concatenate([_drawn(axes) for axes in panels])
    shown = values[np.isfinite(values) & (values > 0) & (values <= top)]
    if not shown.size:
        panels[0].text(0.5, 0.5, "no finite value to show", transform=panels[0].transAxes, ha="center")
        return ""
    is_cut = bool((values > top).any())
    low, high = float(shown.min()), top if is_cut else float(shown.max())
    margin = max(1.05, (high / low) ** 0.04)
    panels[0].set_yscale("log")
    panels[0].set_ylim(low / margin, high if is_cut else high * margin)
    panels[0].yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    panels[0].yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    panels[0].yaxis.set_minor_formatter(NullFormatter())
    notes = {
        f"cut at {top:.3g}, lines and bands go on above": is_cut,
        "what leaves at the bottom reaches zero or below": bool((values <= 0).any()),
        "where a line is missing it is not finite": not np.isfinite(values).all(),
    }
    return "; ".join(note for note, holds in notes.items() if holds)


def _drawn(axes: Axes) -> NDArray[np.float64]:
    """Every y of the lines and bands of a panel."""
    lines = [np.asarray(line.get_ydata(), dtype=np.float64) for line in axes.lines]
    bands = [np.asarray(path.vertices)[:, 1] for band in axes.collections for path in band.get_paths()]
    return np.concatenate([*lines, *bands])


def _panels_by_shots(
    lines: Mapping[str, Sequence[Row]], colors: Sequence[str], title: str, top: float = np.inf
) -> Figure:
    """Adaptation curves by name, one panel for each K, cut at `top`."""
    rows = [row for chosen in lines.values() for row in chosen]
    shots = sorted({row["shots"] for row in rows})
    figure = Figure(figsize=(3.6 * len(shots) + 0.6, 4.4), layout="constrained")
    figure.suptitle(escaped(title), fontsize=11)
    panels = figure.subplots(1, len(shots), sharex=True, sharey=True, squeeze=False)[0]
    for axes, count in zip(panels, shots, strict=True):
        for index, (color, chosen) in enumerate(zip(colors, lines.values(), strict=False)):
            _interval_line(axes, [row for row in chosen if row["shots"] == count], f"line {index}", color)
        axes.set_title(f"K = {count}", fontsize=10)
        axes.set_xlabel("gradient steps of adaptation")
        _framed(figure, axes)
    _shade_key(panels[0], _interval_name(rows))
    panels[0].set_ylabel("query loss (mean squared error)")
    _legend_below(figure, panels[0], note=_log_scale(list(panels), top))
    for text, name in zip(figure.legends[0].get_texts(), lines, strict=False):
        text.set_text(escaped(name))  # a label that begins with "_" would be left out
    return figure


def _legend_below(figure: Figure, axes: Axes, *, num_columns: int | None = None, note: str = "") -> Figure:
    """Put the legend of a panel under the whole figure, where it covers nothing, with a note over it."""
    handles, labels = axes.get_legend_handles_labels()
    columns, look = num_columns or len(labels), {"frameon": False, "fontsize": 8.5, "title_fontsize": 8.5}
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, title=note or None, **look)
    return figure


def _shade_key(axes: Axes, meaning: str) -> None:
    """Say in the legend what every band is."""
    axes.fill_between([], [], color="black", alpha=0.2, linewidth=0, label=f"shaded: {meaning}")


def _interval_name(rows: Sequence[Row]) -> str:
    return f"95% interval of the mean {rows[0].get('interval', '') if rows else ''}".strip()


def _framed(figure: Figure, axes: Axes) -> Figure:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(visible=True, axis="y", which="major", linewidth=0.4, alpha=0.5)
    return figure


def _finished(figure: Figure, axes: Axes) -> Figure:
    handles, _ = axes.get_legend_handles_labels()
    if handles:
        axes.legend(frameon=False, fontsize=9)
    return _framed(figure, axes)


def _column(rows: Sequence[Row], name: str) -> NDArray[np.float64]:
    """A column as numbers; null becomes NaN, which leaves a gap in a line."""
    return np.array([np.nan if row[name] is None else row[name] for row in rows], dtype=np.float64)


def _interval_line(axes: Axes, rows: Sequence[Row], label: str, color: str) -> None:
    x, mean, half = (_column(rows, name) for name in ("inner_steps", "mean", "ci95"))
    axes.plot(x, mean, color=color, marker="o", markersize=3, label=label)
    # A wide interval can reach below zero, which a logarithmic axis cannot show: there it runs off the bottom.
    axes.fill_between(x, mean - half, mean + half, color=color, alpha=0.2, linewidth=0)
