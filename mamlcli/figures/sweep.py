"""The loss over the axes of a sweep: a curve over one, a map over two, and over more what is left of each."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure

from mamlcli.escaping import label as escaped
from mamlcli.figures.style import (
    BLUE,
    GREY,
    ORANGE,
    PAGE,
    SHADE,
    Look,
    Title,
    column,
    figure_of,
    interval_name,
    legend_below,
    log_scale,
    new_axes,
    new_panels,
    outer_labels,
    shade_key,
)
from mamlcli.plain import AnyRow

_LOSS = "meta-validation loss"
# Values so far apart, from the least to the largest, stand on a logarithmic axis.
_WIDE = 9.0
_MOST_NAMED = 8
_MOST_NUMBERS = 144
"""Cells of a map with a number in each."""


def sweep_figure(
    rows: Sequence[AnyRow],
    *,
    title: Title,
    axes: Mapping[str, Sequence[str]],
    interval: str | None = None,
    is_grid: bool = True,
    look: Look = PAGE,
) -> Figure:
    """The meta-validation loss of every member of a sweep.

    Over one axis it is a curve with the 95% interval of the mean; over two a map with the number in each cell. Over
    more axes, or where members make no grid, there is a panel for each axis: every member is a dot, and the line goes
    through the best that is to be had at each value. The best member is marked, and members without a finite loss are
    crosses at the top.

    Args:
        rows: Of each member: what it has of each axis, as a text under its key; mean and ci95, null where there is
            none; rank, 1 for the best.
        title: Of the figure.
        axes: The values of each key, as texts in the order of their axis.
        is_grid: Whether every combination of values is there; where not, two axes have no map.
        interval: Over what the 95% intervals are.
        look: For which place it is drawn.
    """
    varied = {key: values for key, values in axes.items() if len(values) > 1} or dict(axes)
    if len(varied) == 1:
        return _curve(rows, title, *next(iter(varied.items())), interval, look)
    if len(varied) == 2 and is_grid:
        return _map(rows, title, varied, look)
    return _profiles(rows, title, varied, look, is_grid=is_grid)


def _curve(
    rows: Sequence[AnyRow], title: Title, key: str, values: Sequence[str], interval: str | None, look: Look
) -> Figure:
    panel = new_axes(title, escaped(key), _LOSS, look)
    places = _places(panel, values)
    by_value = {row[key]: row for row in rows}
    order = sorted((value for value in values if value in by_value), key=places.__getitem__)
    chosen = [by_value[value] for value in order]
    x, mean, half = [places[value] for value in order], column(chosen, "mean"), column(chosen, "ci95")
    if _is_numeric(values):
        panel.plot(x, mean, "o-", color=BLUE, label="mean")
        panel.fill_between(x, mean - half, mean + half, color=BLUE, alpha=SHADE, linewidth=0)
        shade_key(panel, interval_name(interval))
    else:  # between words there is no line
        panel.plot(x, mean, "o", color=BLUE, label="mean")
        panel.vlines(x, mean - half, mean + half, color=BLUE, label=interval_name(interval))
    _mark_best(panel, x, chosen)
    note = log_scale([panel])
    _mark_lost(panel, x, chosen)
    return legend_below([panel], note=note)


def _map(rows: Sequence[AnyRow], title: Title, axes: Mapping[str, Sequence[str]], look: Look) -> Figure:
    (across, columns), (down, lines) = ((key, _ascending(values)) for key, values in axes.items())
    table = np.full((len(lines), len(columns)), np.nan)
    for row in rows:
        if row["mean"] is not None:
            table[lines.index(row[down]), columns.index(row[across])] = row["mean"]
    panel = new_axes(title, escaped(across), escaped(down), look, height=1.3 + min(0.42 * len(lines), 4.5))
    panel.grid(visible=False)
    finite = table[np.isfinite(table)]
    low, high = float(finite.min()), float(finite.max())
    is_wide = low > 0 and high / low > _WIDE
    norm = LogNorm(low, high) if is_wide else Normalize(low, high)
    image = panel.imshow(table, cmap="viridis_r", norm=norm, aspect="auto", origin="lower")
    panel.set_xticks(range(len(columns)), [escaped(value) for value in columns])
    panel.set_yticks(range(len(lines)), [escaped(value) for value in lines])
    panel.tick_params(length=0)
    figure_of(panel).colorbar(image, ax=panel, label=_LOSS, pad=0.02)
    if table.size <= _MOST_NUMBERS:
        _numbers(panel, table, norm)
    best = next(row for row in rows if row["rank"] == 1)
    x, y = columns.index(best[across]), lines.index(best[down])
    panel.plot(
        [x - 0.48, x + 0.48, x + 0.48, x - 0.48, x - 0.48],
        [y - 0.47, y - 0.47, y + 0.47, y + 0.47, y - 0.47],
        color=ORANGE,
        label="best",
    )
    return legend_below([panel])


def _numbers(panel: Axes, table: np.ndarray, norm: Normalize) -> None:
    """The number of each cell, in a colour that is read on it."""
    for (line, place), value in np.ndenumerate(table):
        is_dark = math.isfinite(value) and float(norm(value)) > 0.45
        text = f"{value:.3g}" if math.isfinite(value) else "n/a"
        panel.text(place, line, text, ha="center", va="center", color="white" if is_dark else "black")


def _profiles(
    rows: Sequence[AnyRow], title: Title, axes: Mapping[str, Sequence[str]], look: Look, *, is_grid: bool
) -> Figure:
    panels = new_panels(title, look, len(axes), sharey=True)
    for panel, (key, values) in zip(panels, axes.items(), strict=True):
        places = _places(panel, values, named=is_grid)
        panel.plot(
            [places[row[key]] for row in rows], column(rows, "mean"), "o", color=GREY, alpha=0.6, label="a member"
        )
        if is_grid:
            order = sorted(values, key=places.__getitem__)
            best = [_least([row for row in rows if row[key] == value]) for value in order]
            panel.plot([places[value] for value in order], best, "-", color=BLUE, label="best at each value")
        _mark_best(panel, [places[row[key]] for row in rows], rows)
    outer_labels(panels, "", _LOSS)
    note = log_scale(panels)
    for panel, (key, values) in zip(panels, axes.items(), strict=True):
        panel.set_xlabel(escaped(key))
        places = _places(panel, values, named=is_grid)
        _mark_lost(panel, [places[row[key]] for row in rows], rows)
    return legend_below(panels, note=note)


def _least(rows: Sequence[AnyRow]) -> float:
    return min((row["mean"] for row in rows if row["mean"] is not None), default=math.nan)


def _mark_best(panel: Axes, places: Sequence[float], rows: Sequence[AnyRow]) -> None:
    best = [(place, row["mean"]) for place, row in zip(places, rows, strict=True) if row["rank"] == 1]
    panel.plot(*zip(*best, strict=True), "o", color=ORANGE, markersize=7, markerfacecolor="none", label="best")


def _mark_lost(panel: Axes, places: Sequence[float], rows: Sequence[AnyRow]) -> None:
    """Mark members without a finite loss at the top, once the axis has its range."""
    lost = [place for place, row in zip(places, rows, strict=True) if row["mean"] is None]
    if lost:
        panel.plot(
            lost, [0.97] * len(lost), "x", color=GREY, transform=panel.get_xaxis_transform(), label="no finite loss"
        )


def _places(panel: Axes, values: Sequence[str], *, named: bool = True) -> dict[str, float]:
    """Where each value stands: by its number where all are numbers, and else side by side.

    Words have their names there, and a few numbers, if `named`.
    """
    if not _is_numeric(values):
        panel.set_xticks(range(len(values)), [escaped(value) for value in values])
        panel.set_xlim(-0.5, len(values) - 0.5)
        return {value: float(place) for place, value in enumerate(values)}
    found = {value: float(value) for value in values}
    least, most = min(found.values()), max(found.values())
    if least > 0 and most / least >= _WIDE:
        panel.set_xscale("log")
    if named and len(found) <= _MOST_NAMED:
        panel.set_xticks(list(found.values()), [escaped(value) for value in found], minor=False)
        panel.set_xticks([], minor=True)
    return found


def _ascending(values: Sequence[str]) -> list[str]:
    """Numbers in their order; words as they come."""
    return sorted(values, key=float) if _is_numeric(values) else list(values)


def _is_numeric(values: Sequence[str]) -> bool:
    try:
        return all(math.isfinite(float(value)) for value in values)
    except ValueError:
        return False
