"""Runs beside each other: their adaptation curves, and their paired differences to one of them."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from mamlcli.figures.adaptation import panels_by_shots
from mamlcli.figures.methods import method_styles
from mamlcli.figures.style import (
    GREY,
    HAIR,
    PAGE,
    SHADE,
    LineStyle,
    Look,
    Title,
    column,
    legend_below,
    new_panels,
    outer_labels,
    whole_steps,
)
from mamlcli.plain import AnyRow

# In percent of the baseline's loss, what is shown at most; a loss cannot be more than 100 below.
_LEAST, _MOST = -105.0, 200.0
# Between the first and the last run of a step, in steps.
_ASIDE = 0.4
_BAR = 1.2
"""Line width of an interval, in points."""


def compared_adaptation_figure(
    rows: Sequence[AnyRow],
    *,
    title: Title,
    methods: Mapping[str, str],
    interval: str | None = None,
    look: Look = PAGE,
) -> Figure:
    """Adaptation curves of several runs, one panel for each K; cut at twice the largest loss before adaptation.

    Args:
        rows: With run, shots, inner_steps, mean and ci95.
        title: Of the figure.
        methods: The title of each run's method, which its line is drawn by.
        interval: Over what the 95% intervals are.
        look: For which place it is drawn.
    """
    lines = {name: [row for row in rows if row["run"] == name] for name in methods}
    begun = [row["mean"] for row in rows if row["inner_steps"] == 0 and row["mean"] is not None]
    top = 2 * max(begun, default=np.inf)
    return panels_by_shots(lines, title, look, interval, top=top, styles=method_styles(list(methods.values())))


def differences_figure(
    rows: Sequence[AnyRow],
    *,
    title: Title,
    baseline: str,
    methods: Mapping[str, str],
    margin: float | None = None,
    interval: str | None = None,
    look: Look = PAGE,
) -> Figure:
    """Paired differences of runs to a baseline after each inner step, with their intervals, one panel for each K.

    They stand in percent of the baseline's mean loss after that step: below zero a run is better.

    Args:
        rows: With run, shots, inner_steps, difference, low, high, and the baseline's mean as `reference`.
        title: Of the figure.
        baseline: What it is called.
        methods: The title of the method of every run, the baseline among them.
        margin: What does not matter, as a part of the baseline's mean; None shows no band.
        interval: Over what the 95% intervals are.
        look: For which place it is drawn.
    """
    styles = dict(zip(methods, method_styles(list(methods.values())), strict=True))
    names = [name for name in methods if name != baseline]
    shots = sorted({row["shots"] for row in rows})
    panels = new_panels(title, look, len(shots), sharex=True, sharey=True)
    aside = np.linspace(-_ASIDE / 2, _ASIDE / 2, len(names)) if len(names) > 1 else np.zeros(1)
    ends = []
    for axes, count in zip(panels, shots, strict=True):
        axes.axhline(0, color="black", linewidth=HAIR)
        if margin:
            axes.axhspan(-100 * margin, 100 * margin, color=GREY, alpha=SHADE, linewidth=0)
        for name, dx in zip(names, aside, strict=True):
            own = [row for row in rows if row["run"] == name and row["shots"] == count]
            ends += _bars(axes, own, styles[name], float(dx))
        axes.set_title(f"K = {count}")
    outer_labels(
        panels,
        "inner step" if len(panels) > 1 and look.across > 1 else "inner step (0: before adaptation)",
        f"difference of query loss, % of {baseline}'s",
    )
    whole_steps(panels[0])
    note = _limits(panels[0], np.array(ends), 110 * (margin or 0.0))
    return legend_below(panels, note=note, entries=_entries(panels[0], names, baseline, margin, interval))


def _bars(axes: Axes, rows: Sequence[AnyRow], style: LineStyle, aside: float) -> list[float]:
    """Draw the differences of one run at one K; returns where they begin and end."""
    x, level = column(rows, "inner_steps") + aside, column(rows, "reference") / 100
    with np.errstate(divide="ignore", invalid="ignore"):
        mean, low, high = (column(rows, name) / level for name in ("difference", "low", "high"))
    axes.plot(x, mean, color=style.color, marker=style.marker, linestyle=style.dashes, linewidth=HAIR)
    axes.vlines(x, low, high, color=style.color, linewidth=_BAR)
    return [*low, *high, *mean]


def _limits(axes: Axes, ends: NDArray[np.float64], least: float) -> str:
    """Keep all inside that is not out of all proportion, and so much around zero; returns in words what is not."""
    finite = ends[np.isfinite(ends)]
    low, high = min([-least, *finite]), max([least, *finite])
    shown_low, shown_high = max(low, _LEAST), min(high, _MOST)
    space = 0.05 * (shown_high - shown_low) or 1.0
    axes.set_ylim(shown_low - space * (low == shown_low), shown_high + space * (high == shown_high))
    notes = {
        f"cut at {_MOST:.0f}%, bars go on above": high > shown_high,
        f"cut at {_LEAST:.0f}%, bars go on below": low < shown_low,
        "where a mark is missing it is not finite": len(finite) < len(ends),
    }
    return "; ".join(note for note, holds in notes.items() if holds)


def _entries(
    axes: Axes, names: Sequence[str], baseline: str, margin: float | None, interval: str | None
) -> dict[str, Artist]:
    zero, *lines = axes.get_lines()
    entries: dict[str, Artist] = dict(zip(names, lines, strict=True))
    entries[f"zero: {baseline}"] = zero
    if margin:
        entries[f"shaded: within {100 * margin:g}% of it"] = axes.patches[0]
    bar = Line2D([], [], color="black", linewidth=_BAR)
    entries[f"bars: 95% interval of the paired difference {interval or ''}".strip()] = bar
    return entries
