"""What is learned beside the weights: inner learning rates, and weights of support slots."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from mamlcli.escaping import label as escaped
from mamlcli.figures.style import (
    BLUE,
    FAINT,
    GREY,
    HAIR,
    ORANGE,
    PAGE,
    Look,
    Title,
    column,
    legend_below,
    new_axes,
    shade_key,
)
from mamlcli.plain import AnyRow


def rates_figure(rows: Sequence[AnyRow], *, title: Title, look: Look = PAGE) -> Figure:
    """Learned inner learning rates: of each tensor (and step), where they began and where they are.

    Args:
        rows: With tensor, step (from 1; null where it has none), begun (the mean at the start), and low, median and
            high of the rates over parameters and seeds.
        title: Of the figure.
        look: For which place it is drawn.
    """
    names = [row["tensor"] if row["step"] is None else f"{row['tensor']}, inner step {row['step']}" for row in rows]
    axes = new_axes(title, "inner learning rate", "", look, height=0.7 + 0.22 * len(rows))
    lines = np.arange(len(rows))
    low, median, high = (column(rows, name) for name in ("low", "median", "high"))
    axes.hlines(lines, low, high, color=BLUE, linewidth=5, alpha=0.3, label="5% to 95% over parameters and seeds")
    axes.plot(median, lines, "o", color=BLUE, label="median over parameters and seeds")
    axes.plot(column(rows, "begun"), lines, "|", color=ORANGE, markersize=10, label="mean at the start")
    axes.axvline(0.0, color=GREY, linewidth=HAIR, linestyle=":")
    axes.grid(visible=False, axis="y")
    axes.grid(visible=True, axis="x")
    axes.set_yticks(lines, [escaped(name) for name in names])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    return legend_below([axes])


def slot_weights_figure(rows: Sequence[AnyRow], *, title: Title, look: Look = PAGE) -> Figure:
    """The weight of each support slot over training, a line and a band over seeds for each.

    Args:
        rows: With step, seed, slot, corrupted (whether its targets are) and weight.
        title: Of the figure.
        look: For which place it is drawn.
    """
    axes = new_axes(title, "meta-update", "weight of a support slot in A", look)
    steps = sorted({row["step"] for row in rows})
    seeds = len({row["seed"] for row in rows})
    for corrupted, color, dashes in ((True, ORANGE, "--"), (False, BLUE, "-")):
        slots = sorted({row["slot"] for row in rows if bool(row["corrupted"]) == corrupted})
        label = f"{'corrupted' if corrupted else 'clean'}: {len(slots)} slot{'s' * (len(slots) > 1)}, a line each"
        for slot in slots:
            chosen = sorted((row["step"], row["weight"]) for row in rows if row["slot"] == slot)
            by_step = np.array([weight for _, weight in chosen]).reshape(len(steps), -1)  # every seed at every step
            if by_step.shape[1] > 1:
                low, high = by_step.min(axis=1), by_step.max(axis=1)
                # Bands lie on each other, and all of them together shall let lines and grid through.
                axes.fill_between(steps, low, high, color=color, alpha=0.4 / len(slots), linewidth=0)
            axes.plot(steps, by_step.mean(axis=1), color=color, linestyle=dashes, linewidth=HAIR, label=label)
            label = "_"  # a legend leaves out what begins so
    if seeds > 1:
        axes.plot([], [], color="black", linewidth=HAIR, label=f"line: mean of {seeds} seeds")
        shade_key(axes, f"range of {seeds} seeds")
    for level in (0.0, 1.0):
        axes.axhline(level, color=GREY, linewidth=HAIR, linestyle=":", alpha=FAINT)
    return legend_below([axes])
