"""What a trained run predicts of tasks of a user's own."""

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mamlcli.escaping import label as escaped
from mamlcli.escaping import shorten
from mamlcli.figures.style import (
    BLUE,
    GREY,
    PAGE,
    PURPLE,
    SHADE,
    Look,
    Title,
    column,
    legend_below,
    new_panels,
    outer_labels,
    shade_key,
    wrapped,
)
from mamlcli.plain import AnyRow

_BEFORE: dict[str, Any] = {"color": GREY, "linestyle": "--"}
_AFTER: dict[str, Any] = {"color": BLUE}
_SUPPORT: dict[str, Any] = {
    "color": PURPLE,
    "marker": "^",
    "markersize": 5,
    "linestyle": "none",
    "markeredgecolor": "black",
    "markeredgewidth": 0.4,
    "zorder": 3,
}


def predictions_figure(
    rows: Sequence[AnyRow],
    *,
    title: Title,
    x_label: str,
    task_label: str,
    seeds: Sequence[int],
    look: Look = PAGE,
) -> Figure:
    """Support samples and predictions before and after adaptation: a panel for each target and task.

    Args:
        rows: With target, task and x; predictions with curve ("before adaptation" and then what comes after), and mean,
            low and high over seeds; support samples with y.
        title: Of the figure.
        x_label: What the input is called.
        task_label: What the task is called.
        seeds: Behind the lines.
        look: For which place it is drawn.
    """
    points, lines = ([row for row in rows if ("y" in row) == is_point] for is_point in (True, False))
    places = list(dict.fromkeys((row["target"], row["task"]) for row in lines))
    several = len({target for target, _ in places}) > 1
    panels = new_panels(title, look, len(places))
    outer_labels(panels, escaped(x_label), places[0][0])
    for axes, (target, task) in zip(panels, places, strict=True):
        _panel(axes, [row for row in lines if (row["target"], row["task"]) == (target, task)], len(seeds))
        chosen = [row for row in points if (row["target"], row["task"]) == (target, task)]
        axes.plot(column(chosen, "x"), column(chosen, "y"), label="support samples", **_SUPPORT)
        if task:
            letters = look.letters(0.9 / min(look.across, len(places)))
            axes.set_title(wrapped(f"{task_label} {shorten(task, 30)}", letters))
        if several:
            axes.set_ylabel(escaped(target))
    if len(seeds) > 1:
        shade_key(panels[0], f"range of the {len(seeds)} seeds")
    note = f"lines: mean of {len(seeds)} seeds" if len(seeds) > 1 else f"lines: seed {seeds[0]}"
    return legend_below(panels, note=note)


def _panel(axes: Axes, rows: Sequence[AnyRow], num_seeds: int) -> None:
    """The lines of a target of a task, with bands over seeds."""
    for name in dict.fromkeys(row["curve"] for row in rows):
        look = _BEFORE if name == "before adaptation" else _AFTER
        chosen = [row for row in rows if row["curve"] == name]
        x, mean, low, high = (column(chosen, part) for part in ("x", "mean", "low", "high"))
        axes.plot(x, mean, label=name, **look)
        if num_seeds > 1:
            axes.fill_between(x, low, high, color=look["color"], alpha=SHADE, linewidth=0)
