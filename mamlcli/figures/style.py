"""What all figures have in common: colours, axes, legends, and how rows become columns."""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter
from numpy.typing import NDArray

from mamlcli.escaping import label as escaped
from mamlcli.plain import AnyRow

Title: TypeAlias = str | Sequence[str]
"""Of a figure: a line, or several."""

# Okabe and Ito's palette, which stays distinct to most colour-blind readers.
BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#777777"
CYCLE = (BLUE, ORANGE, GREEN, PURPLE, "#E69F00", "#56B4E9")


def shown(title: Title) -> str:
    """A title as it is drawn: nothing in it is taken for a formula or for a line break."""
    return "\n".join(map(escaped, [title] if isinstance(title, str) else title))


def new_axes(title: Title, x_label: str, y_label: str, *, height: float = 4.4) -> tuple[Figure, Axes]:
    """A figure of one panel, 7.2 inches wide."""
    figure = Figure(figsize=(7.2, height), layout="constrained")
    axes = figure.subplots()
    axes.set_title(shown(title), fontsize=11)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    return figure, axes


def log_scale(panels: Sequence[Axes], top: float = np.inf) -> str:
    """Give panels that share it a logarithmic y axis with plain numbers on it, which all lines and bands are inside.

    Returns:
        In words, what is not inside: above `top`, or where a logarithmic axis cannot show it; empty if all is.
    """
    values = np.concatenate([_drawn(axes) for axes in panels])
    inside = values[np.isfinite(values) & (values > 0) & (values <= top)]
    if not inside.size:
        panels[0].text(0.5, 0.5, "no finite value to show", transform=panels[0].transAxes, ha="center")
        return ""
    is_cut = bool((values > top).any())
    low, high = float(inside.min()), top if is_cut else float(inside.max())
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


def legend_below(figure: Figure, axes: Axes, *, num_columns: int | None = None, note: str = "") -> Figure:
    """Put the legend of a panel under the whole figure, where it covers nothing, with a note over it."""
    handles, labels = axes.get_legend_handles_labels()
    columns, look = num_columns or len(labels), {"frameon": False, "fontsize": 8.5, "title_fontsize": 8.5}
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, title=note or None, **look)
    return figure


def shade_key(axes: Axes, meaning: str) -> None:
    """Say in the legend what every band is."""
    axes.fill_between([], [], color="black", alpha=0.2, linewidth=0, label=f"shaded: {meaning}")


def interval_name(rows: Sequence[AnyRow]) -> str:
    """What the intervals of rows are, for a legend."""
    return f"95% interval of the mean {rows[0].get('interval', '') if rows else ''}".strip()


def framed(figure: Figure, axes: Axes) -> Figure:
    """Leave two sides of the frame, and a grid."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(visible=True, axis="y", which="major", linewidth=0.4, alpha=0.5)
    return figure


def finished(figure: Figure, axes: Axes) -> Figure:
    """Frame a panel, with its legend inside."""
    handles, _ = axes.get_legend_handles_labels()
    if handles:
        axes.legend(frameon=False, fontsize=9)
    return framed(figure, axes)


def column(rows: Sequence[AnyRow], name: str) -> NDArray[np.float64]:
    """A column as numbers; null becomes NaN, which leaves a gap in a line."""
    return np.array([np.nan if row[name] is None else row[name] for row in rows], dtype=np.float64)


def interval_line(axes: Axes, rows: Sequence[AnyRow], label: str, color: str) -> None:
    """Draw the mean against inner steps, and its interval as a band."""
    x, mean, half = (column(rows, name) for name in ("inner_steps", "mean", "ci95"))
    axes.plot(x, mean, color=color, marker="o", markersize=3, label=label)
    # A wide interval can reach below zero, which a logarithmic axis cannot show: there it runs off the bottom.
    axes.fill_between(x, mean - half, mean + half, color=color, alpha=0.2, linewidth=0)
