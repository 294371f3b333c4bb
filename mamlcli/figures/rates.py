"""What is learned beside the weights: inner learning rates, and weights of support slots."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from mamlcli.figures.style import BLUE, GREY, ORANGE, Title, column, finished, new_axes
from mamlcli.plain import AnyRow


def rates_figure(rows: Sequence[AnyRow], *, title: Title) -> Figure:
    """Learned inner learning rates: of each tensor (and step), where they began and where they are.

    Args:
        rows: With tensor, step (null where it has none), begun (the mean at the start), and low, median and high of
            the rates over parameters and seeds.
        title: Of the figure.
    """
    names = [row["tensor"] if row["step"] is None else f"{row['tensor']}, step {row['step']}" for row in rows]
    figure, axes = new_axes(title, "inner learning rate", "", height=1.4 + 0.34 * len(rows))
    lines = np.arange(len(rows))
    low, median, high = (column(rows, name) for name in ("low", "median", "high"))
    axes.hlines(lines, low, high, color=BLUE, linewidth=5, alpha=0.3, label="5% to 95%")
    axes.plot(median, lines, "o", color=BLUE, label="median over parameters and seeds")
    axes.plot(column(rows, "begun"), lines, "|", color=ORANGE, markersize=12, label="mean at the start")
    axes.axvline(0.0, color=GREY, linewidth=0.8, linestyle=":")
    axes.set_yticks(lines, names)
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    return figure


def slot_weights_figure(rows: Sequence[AnyRow], *, title: Title) -> Figure:
    """The weight of each support slot over training, a line and a band over seeds for each.

    Args:
        rows: With step, seed, slot, corrupted (whether its targets are) and weight.
        title: Of the figure.
    """
    figure, axes = new_axes(title, "meta-update", "weight of a support slot in A")
    steps = sorted({row["step"] for row in rows})
    for corrupted, color in ((True, ORANGE), (False, BLUE)):
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
        axes.fill_between([], [], color=GREY, alpha=0.4, linewidth=0, label=f"range of {seeds} seeds around their mean")
    for level in (0.0, 1.0):
        axes.axhline(level, color=GREY, linewidth=0.8, linestyle=":")
    return finished(figure, axes)
