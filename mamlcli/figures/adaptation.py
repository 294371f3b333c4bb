"""Query loss against inner steps."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.figure import Figure

from mamlcli.escaping import label as escaped
from mamlcli.figures.marks import published_key, published_marks, stamped
from mamlcli.figures.style import (
    CYCLE,
    GREY,
    HAIR,
    LEVELS,
    LINE,
    MARKERS,
    PAGE,
    LineStyle,
    Look,
    Title,
    column,
    figure_of,
    interval_line,
    interval_name,
    legend_below,
    log_scale,
    new_axes,
    new_panels,
    numbered,
    outer_labels,
    shade_key,
    whole_steps,
)
from mamlcli.plain import ORDERS, AnyRow

_STEPS, _LOSS = "inner step (0: before adaptation)", "query loss (mean squared error)"


def adaptation_figure(
    rows: Sequence[AnyRow], *, title: Title, bounds: Mapping[str, float] | None = None, look: Look = PAGE
) -> Figure:
    """Query loss against inner steps, one line for each K (and model), with the 95% interval of the mean.

    Args:
        rows: Of one seed, or of seed "all": shots, inner_steps, mean, ci95, median; interval, which says over what;
            model, where several predictors are measured.
        title: Of the figure.
        bounds: What is known of the loss analytically, by name; each is a level.
        look: For which place it is drawn.
    """
    axes = new_axes(title, _STEPS, _LOSS, look)
    lines = sorted({(row.get("model", ""), row["shots"]) for row in rows})
    for index, (model, shots) in enumerate(lines):
        chosen = [row for row in rows if (row.get("model", ""), row["shots"]) == (model, shots)]
        name = escaped(f"{model}, K = {shots}".removeprefix(", "))
        interval_line(axes, chosen, name, numbered(index, dashed=False))
        median: dict[str, Any] = {
            "color": CYCLE[index % len(CYCLE)],
            "marker": MARKERS[index % len(MARKERS)],
            "markerfacecolor": "white",
        }
        axes.plot(column(chosen, "inner_steps"), column(chosen, "median"), linestyle=":", linewidth=HAIR, **median)
    axes.plot([], [], color="black", linewidth=LINE, label="line: mean")
    axes.plot([], [], color="black", linewidth=HAIR, linestyle=":", label="dotted: median")
    shade_key(axes, interval_name(_over(rows)))
    for style, (name, level) in zip(LEVELS, (bounds or {}).items(), strict=False):
        axes.axhline(level, color=GREY, linewidth=HAIR, linestyle=style, label=f"{escaped(name)}: {level:.4g}")
    whole_steps(axes)
    return legend_below([axes], note=log_scale([axes]))


def order_adaptation_figure(rows: Sequence[AnyRow], *, title: Title, look: Look = PAGE) -> Figure:
    """Adaptation curves of both orders, one panel for each K.

    Args:
        rows: With order, shots, inner_steps, mean, ci95 and interval.
        title: Of the figure.
        look: For which place it is drawn.
    """
    lines = {f"{order} order": [row for row in rows if row["order"] == order] for order in ORDERS}
    styles = [numbered(index, dashed=True) for index in (1, 0)]
    return panels_by_shots(lines, title, look, _over(rows), styles=styles)


def reproduction_figure(
    rows: Sequence[AnyRow],
    *,
    title: Title,
    interval: str | None = None,
    styles: Mapping[str, int] | None = None,
    stamp: str | None = None,
    look: Look = PAGE,
) -> Figure:
    """Query loss against inner steps for several methods, one panel for each K (as Finn et al. 2017, figure 3).

    Where tasks diverge the figure is cut, and says so: at twice the largest loss before adaptation.

    Args:
        rows: With curve, shots, inner_steps, mean and ci95; and published and published_ci95, where a number was
            published, which is drawn as a mark in the colour of its curve, with its interval.
        title: Of the figure.
        interval: Over what the 95% intervals are.
        styles: The number of each curve's style, by its name; in the order of the rows if None.
        stamp: What is written across, like that its numbers mean nothing.
        look: For which place it is drawn.
    """
    names = list(dict.fromkeys(row["curve"] for row in rows))
    lines = {name: [row for row in rows if row["curve"] == name] for name in names}
    begun = [row["mean"] for row in rows if row["inner_steps"] == 0 and row["mean"] is not None]
    numbers = [index if styles is None else styles[name] for index, name in enumerate(names)]
    chosen = [numbered(number, dashed=True) for number in numbers]
    top = 2 * max(begun, default=np.inf)
    return panels_by_shots(lines, title, look, interval or _over(rows), top=top, styles=chosen, stamp=stamp)


def panels_by_shots(
    lines: Mapping[str, Sequence[AnyRow]],
    title: Title,
    look: Look,
    over: str | None,
    *,
    top: float = np.inf,
    styles: Sequence[LineStyle] | None = None,
    stamp: str | None = None,
) -> Figure:
    """Adaptation curves by name, in these styles, one panel for each K, cut at `top`, stamped."""
    styles = [numbered(index, dashed=True) for index in range(len(lines))] if styles is None else styles
    shots = sorted({row["shots"] for chosen in lines.values() for row in chosen})
    panels = new_panels(title, look, len(shots), sharex=True, sharey=True)
    for axes, count in zip(panels, shots, strict=True):
        for index, (style, chosen) in enumerate(zip(styles, lines.values(), strict=True)):
            of_panel = [row for row in chosen if row["shots"] == count]
            interval_line(axes, of_panel, f"line {index}", style)
            published_marks(axes, of_panel, style)
        axes.set_title(f"K = {count}")
    if stamp:
        stamped(figure_of(panels[0]), stamp)
    outer_labels(panels, "inner step" if len(panels) > 1 and look.across > 1 else _STEPS, _LOSS)
    whole_steps(panels[0])
    note = log_scale(panels, top)
    shade_key(panels[0], interval_name(over))
    handles, _ = panels[0].get_legend_handles_labels()
    entries: dict[str, Artist] = dict(zip([*lines, f"shaded: {interval_name(over)}"], handles, strict=True))
    if any(row.get("published") is not None for chosen in lines.values() for row in chosen):
        entries["white marks: published, with the interval where there is one"] = published_key()
    return legend_below(panels, note=note, entries=entries)


def _over(rows: Sequence[AnyRow]) -> str | None:
    """Over what the intervals of rows are."""
    return rows[0].get("interval") if rows else None
