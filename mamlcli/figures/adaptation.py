"""Query loss against gradient steps of adaptation."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from mamlcli.escaping import label as escaped
from mamlcli.figures.style import (
    BLUE,
    CYCLE,
    GREY,
    ORANGE,
    Title,
    column,
    framed,
    interval_line,
    interval_name,
    legend_below,
    log_scale,
    new_axes,
    shade_key,
    shown,
)
from mamlcli.plain import AnyRow


def adaptation_figure(rows: Sequence[AnyRow], *, title: Title, bounds: Mapping[str, float] | None = None) -> Figure:
    """Query loss against gradient steps, one line for each K (and model), with the 95% interval of the mean.

    Args:
        rows: Of one seed, or of seed "all": shots, inner_steps, mean, ci95, median; interval, which says over what;
            model, where several predictors are measured.
        title: Of the figure.
        bounds: What is known of the loss analytically, by name; each is a level.
    """
    figure, axes = new_axes(title, "gradient steps of adaptation", "query loss (mean squared error)", height=5.2)
    lines = sorted({(row.get("model", ""), row["shots"]) for row in rows})
    for color, (model, shots) in zip(CYCLE * len(rows), lines, strict=False):
        chosen = [row for row in rows if (row.get("model", ""), row["shots"]) == (model, shots)]
        name = f"{model}, K = {shots}".removeprefix(", ")
        interval_line(axes, chosen, name, color)
        axes.plot(column(chosen, "inner_steps"), column(chosen, "median"), color=color, linestyle=":")
    axes.plot([], [], color="black", marker="o", markersize=3, label="line: mean")
    axes.plot([], [], color="black", linestyle=":", label="dotted: median")
    shade_key(axes, interval_name(rows))
    for style, (name, level) in zip(("--", "-.", (0, (1, 3))), (bounds or {}).items(), strict=False):
        axes.axhline(level, color=GREY, linewidth=1.0, linestyle=style, label=f"{name}: {level:.4g}")
    framed(figure, axes)
    return legend_below(figure, axes, num_columns=2, note=log_scale([axes]))


def order_adaptation_figure(rows: Sequence[AnyRow], *, title: Title) -> Figure:
    """Adaptation curves of both orders, one panel for each K.

    Args:
        rows: With order, shots, inner_steps, mean, ci95 and interval.
        title: Of the figure.
    """
    lines = {f"{order} order": [row for row in rows if row["order"] == order] for order in ("first", "second")}
    return _panels_by_shots(lines, (ORANGE, BLUE), title)


def reproduction_figure(rows: Sequence[AnyRow], *, title: Title) -> Figure:
    """Query loss against gradient steps for several methods, one panel for each K (as Finn et al. 2017, figure 3).

    Where tasks diverge the figure is cut, and says so: at twice the largest loss before adaptation.

    Args:
        rows: With curve, shots, inner_steps, mean and ci95; interval, if it is to be named.
        title: Of the figure.
    """
    names = list(dict.fromkeys(row["curve"] for row in rows))
    lines = {name: [row for row in rows if row["curve"] == name] for name in names}
    begun = [row["mean"] for row in rows if row["inner_steps"] == 0 and row["mean"] is not None]
    return _panels_by_shots(lines, CYCLE * len(names), title, top=2 * max(begun, default=np.inf))


def _panels_by_shots(
    lines: Mapping[str, Sequence[AnyRow]], colors: Sequence[str], title: Title, top: float = np.inf
) -> Figure:
    """Adaptation curves by name, one panel for each K, cut at `top`."""
    rows = [row for chosen in lines.values() for row in chosen]
    shots = sorted({row["shots"] for row in rows})
    figure = Figure(figsize=(3.6 * len(shots) + 0.6, 4.4), layout="constrained")
    figure.suptitle(shown(title), fontsize=11)
    panels = figure.subplots(1, len(shots), sharex=True, sharey=True, squeeze=False)[0]
    for axes, count in zip(panels, shots, strict=True):
        for index, (color, chosen) in enumerate(zip(colors, lines.values(), strict=False)):
            interval_line(axes, [row for row in chosen if row["shots"] == count], f"line {index}", color)
        axes.set_title(f"K = {count}", fontsize=10)
        axes.set_xlabel("gradient steps of adaptation")
        framed(figure, axes)
    shade_key(panels[0], interval_name(rows))
    panels[0].set_ylabel("query loss (mean squared error)")
    legend_below(figure, panels[0], note=log_scale(list(panels), top))
    for text, name in zip(figure.legends[0].get_texts(), lines, strict=False):
        text.set_text(escaped(name))  # a label that begins with "_" would be left out
    return figure
