"""How an error falls as what it depends on shrinks or grows, both on logarithmic axes."""

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, LogLocator, NullFormatter, StrMethodFormatter

from mamlcli.escaping import label as escaped
from mamlcli.figures.style import (
    CYCLE,
    DASHES,
    GREY,
    HAIR,
    LEVELS,
    MARKERS,
    PAGE,
    Look,
    Title,
    column,
    legend_below,
    log_scale,
    new_axes,
)
from mamlcli.plain import AnyRow


def convergence_figure(
    rows: Sequence[AnyRow],
    *,
    title: Title,
    x_label: str,
    y_label: str,
    at: float,
    at_label: str,
    guides: Sequence[str] = (),
    look: Look = PAGE,
) -> Figure:
    """An error against what it depends on, a line for each way to compute it.

    Args:
        rows: With line, x and error.
        title: Of the figure.
        x_label: What it depends on.
        y_label: Of which error, and against what.
        at: Where a config is.
        at_label: What is said of that place.
        guides: Lines that others are seen against.
        look: For which place it is drawn.
    """
    axes = new_axes(title, x_label, y_label, look)
    names = list(dict.fromkeys(row["line"] for row in rows))
    for index, name in enumerate(sorted(names, key=lambda name: name in guides)):
        chosen = sorted((row for row in rows if row["line"] == name), key=lambda row: row["x"])
        style: dict[str, Any] = {"color": GREY, "linewidth": HAIR, "linestyle": LEVELS[names.index(name) % len(LEVELS)]}
        if name not in guides:
            style = {"color": CYCLE[index % len(CYCLE)], "marker": MARKERS[index % len(MARKERS)]}
            style["linestyle"] = DASHES[index % len(DASHES)]
        axes.plot(column(chosen, "x"), column(chosen, "error"), label=escaped(name), **style)
    note = log_scale([axes])
    axes.axvline(at, color=GREY, linewidth=HAIR, label=escaped(at_label))
    _log_x(axes, [row["x"] for row in rows])
    return legend_below([axes], note=note)


def _log_x(axes: Axes, values: Sequence[float]) -> None:
    """A logarithmic x axis with plain numbers on it: powers of ten, or of two where all values are whole."""
    axes.set_xscale("log")
    powers = [2**power for power in range(64) if 2**power <= max(values)]
    axes.xaxis.set_major_locator(FixedLocator(powers) if min(values) >= 1 else LogLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
