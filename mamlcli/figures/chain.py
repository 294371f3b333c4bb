"""Figures of a chain of two models."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from mamlcli.escaping import label as escaped
from mamlcli.figures.plots import _BLUE, _GREY, _ORANGE, _PURPLE, _axes, _column, _finished
from mamlcli.types import Row

_CURVES: dict[str, dict[str, Any]] = {
    "truth": {"color": "black", "linewidth": 2.2, "alpha": 0.35},
    "before adaptation": {"color": _GREY, "linestyle": ":"},
    "after adaptation": {"color": _BLUE},
}
_POINTS: dict[str, dict[str, Any]] = {
    "clean slot": {"color": _PURPLE, "marker": "^", "markersize": 7},
    "corrupted slot": {"color": _ORANGE, "marker": "X", "markersize": 8},
    "what the teacher says": {"color": _BLUE, "marker": ".", "markersize": 7, "alpha": 0.7},
}


def slot_weights_figure(rows: Sequence[Row], *, title: str) -> Figure:
    """The weight of each support slot over training, a line and a band over seeds for each.

    Args:
        rows: With step, seed, slot, corrupted (whether its targets are) and weight.
        title: Of the figure.
    """
    figure, axes = _axes(title, "meta-update", "weight of a support slot in A")
    steps = sorted({row["step"] for row in rows})
    for corrupted, color in ((True, _ORANGE), (False, _BLUE)):
        slots = sorted({row["slot"] for row in rows if bool(row["corrupted"]) == corrupted})
        label = f"{'corrupted' if corrupted else 'clean'}: {len(slots)} slot{'s' * (len(slots) > 1)}, a line each"
        for slot in slots:
            chosen = sorted((row["step"], row["weight"]) for row in rows if row["slot"] == slot)
            by_step = np.array([weight for _, weight in chosen]).reshape(len(steps), -1)  # every seed at every step
            if by_step.shape[1] > 1:
                low, high = by_step.min(axis=1), by_step.max(axis=1)
                # Bands lie on each other, and all of them together shall let lines and grid through.
                axes.fill_between(steps, low, high, color=color, alpha=0.4 / len(slots), linewidth=0)
            axes.plot(steps, by_step.mean(axis=1), color=color, linewidth=1.0, label=label)
            label = "_"  # a legend leaves out what begins so
    seeds = len({row["seed"] for row in rows})
    if seeds > 1:
        axes.fill_between(
            [], [], color=_GREY, alpha=0.4, linewidth=0, label=f"range of {seeds} seeds around their mean"
        )
    for level in (0.0, 1.0):
        axes.axhline(level, color=_GREY, linewidth=0.8, linestyle=":")
    return _finished(figure, axes)


def chain_fits_figure(lines: Sequence[Row], points: Sequence[Row], *, title: str) -> Figure:
    """What adaptation does to teacher and student on single tasks, a row of panels for each model.

    Args:
        lines: With model, task, curve ("truth", "before adaptation", "after adaptation"), x and y.
        points: With model, task, curve ("clean slot", "corrupted slot", "what the teacher says"), x and y.
        title: Of the figure.
    """
    tasks, models = sorted({row["task"] for row in lines}), list(dict.fromkeys(row["model"] for row in lines))
    figure = Figure(figsize=(3.6 * len(tasks) + 0.6, 3.1 * len(models) + 0.8), layout="constrained")
    figure.suptitle(escaped(title), fontsize=11)
    panels = figure.subplots(len(models), len(tasks), sharex=True, sharey=True, squeeze=False)
    for model, line in zip(models, panels, strict=True):
        for task, axes in zip(tasks, line, strict=True):
            for rows, looks in ((lines, _CURVES), (points, _POINTS)):
                for name, look in looks.items():
                    chosen = [row for row in rows if (row["model"], row["task"], row["curve"]) == (model, task, name)]
                    if chosen:
                        style = look if rows is lines else {"linestyle": "none", **look}
                        axes.plot(_column(chosen, "x"), _column(chosen, "y"), label=name, **style)
            axes.set_title(f"{model}, meta-test task {task}", fontsize=10)
            axes.spines[["top", "right"]].set_visible(False)
        line[0].set_ylabel("y")
    for axes in panels[-1]:
        axes.set_xlabel("x")
    named = {
        label: handle for line in panels for handle, label in zip(*line[0].get_legend_handles_labels(), strict=True)
    }
    figure.legend(named.values(), named.keys(), loc="outside lower center", ncols=6, frameon=False, fontsize=9)
    return figure
