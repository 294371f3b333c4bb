"""What stands in a figure beside its lines: published numbers, and a stamp."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from mamlcli.figures.style import GREY, LINE, Drawn, LineStyle, column, wrapped
from mamlcli.plain import AnyRow


def published_marks(axes: Axes, rows: Sequence[AnyRow], style: LineStyle) -> None:
    """Draw what was published of a curve: its marks, white inside, with the 95% intervals that were published."""
    found = [row for row in rows if row.get("published") is not None]
    if not found:
        return
    x, mean, half = (column(found, name) for name in ("inner_steps", "published", "published_ci95"))
    inside: dict[str, Any] = {"marker": style.marker, "markerfacecolor": "white", "markersize": 6, "zorder": 4}
    axes.plot(x, mean, color=style.color, linestyle="none", **inside)
    for at, low, high in zip(x, mean - half, mean + half, strict=True):
        if np.isfinite(low):
            axes.plot([at, at], [low, high], color=style.color, linewidth=LINE, marker="_", markersize=8, zorder=3)


def published_key() -> Artist:
    """What stands for published numbers in a legend."""
    return Line2D([], [], color="black", linestyle="none", marker="o", markerfacecolor="white", markersize=6)


def stamped(figure: Drawn, text: str) -> None:
    """Write across a figure what nobody must overlook; nothing makes room for it."""
    size = 1.8 * figure.look.font_size
    letters = round(figure.look.width * 72 / size * 1.4)
    place: dict[str, Any] = {"ha": "center", "va": "center", "rotation": 12, "in_layout": False}
    figure.text(0.5, 0.6, wrapped(text, letters), fontsize=size, color=GREY, alpha=0.55, zorder=5, **place)
