"""What a trained run predicts of tasks of a user's own."""

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mamlcli.escaping import label as escaped
from mamlcli.escaping import shorten
from mamlcli.figures.style import BLUE, GREY, PURPLE, Title, column, framed, shade_key, shown
from mamlcli.plain import AnyRow

_BEFORE: dict[str, Any] = {"color": GREY, "linestyle": "--"}
_AFTER: dict[str, Any] = {"color": BLUE}
_SUPPORT: dict[str, Any] = {
    "color": PURPLE,
    "marker": "^",
    "markersize": 6,
    "linestyle": "none",
    "markeredgecolor": "black",
    "markeredgewidth": 0.4,
    "zorder": 3,
}
_MOST_ACROSS = 3


def predictions_figure(
    rows: Sequence[AnyRow],
    *,
    title: Title,
    x_label: str,
    task_label: str,
    seeds: Sequence[int],
) -> Figure:
    """Support samples and predictions before and after adaptation: a panel for each task, a row for each target.

    Of one target, tasks go on in the next row.

    Args:
        rows: With target, task and x; predictions with curve ("before adaptation" and then what comes after), and mean,
            low and high over seeds; support samples with y.
        title: Of the figure.
        x_label: What the input is called.
        task_label: What the task is called.
        seeds: Behind the lines.
    """
    points, lines = ([row for row in rows if ("y" in row) == is_point] for is_point in (True, False))
    tasks, targets = (list(dict.fromkeys(row[name] for row in lines)) for name in ("task", "target"))
    across = len(tasks) if len(targets) > 1 else min(_MOST_ACROSS, math.ceil(math.sqrt(len(tasks))))
    down = len(targets) * -(-len(tasks) // across)
    figure = Figure(figsize=(max(6.4, 3.3 * across + 0.6), 2.6 * down + 1.2), layout="constrained")
    figure.suptitle(shown(title), fontsize=11)
    panels = figure.subplots(down, across, sharex=len(targets) > 1 and "col", squeeze=False).ravel()
    places = [(target, task) for target in targets for task in tasks]
    for axes, (target, task) in zip(panels, places, strict=False):
        _panel(axes, [row for row in lines if (row["target"], row["task"]) == (target, task)], len(seeds))
        chosen = [row for row in points if (row["target"], row["task"]) == (target, task)]
        axes.plot(column(chosen, "x"), column(chosen, "y"), label="support samples", **_SUPPORT)
        if task:
            axes.set_title(escaped(f"{task_label} {shorten(task, 30)}"), fontsize=10)
    for index, axes in enumerate(panels[: len(places)]):
        if index % across == 0:
            axes.set_ylabel(escaped(places[index][0]))
        if index + across >= len(places):
            axes.set_xlabel(escaped(x_label))
    for axes in panels[len(places) :]:
        axes.set_visible(False)
    _legend(figure, panels[0], seeds)
    return figure


def _panel(axes: Axes, rows: Sequence[AnyRow], num_seeds: int) -> None:
    for name in dict.fromkeys(row["curve"] for row in rows):
        look = _BEFORE if name == "before adaptation" else _AFTER
        chosen = [row for row in rows if row["curve"] == name]
        x, mean, low, high = (column(chosen, part) for part in ("x", "mean", "low", "high"))
        axes.plot(x, mean, label=name, **look)
        if num_seeds > 1:
            axes.fill_between(x, low, high, color=look["color"], alpha=0.2, linewidth=0)
    framed(axes.get_figure(root=True), axes)  # type: ignore[arg-type]


def _legend(figure: Figure, axes: Axes, seeds: Sequence[int]) -> None:
    """Say under the figure what lines, bands and marks are."""
    if len(seeds) > 1:
        shade_key(axes, f"range of the {len(seeds)} seeds")
        note = f"lines: mean over {len(seeds)} seeds"
    else:
        note = f"lines: seed {seeds[0]}"
    handles, labels = axes.get_legend_handles_labels()
    look = {"frameon": False, "fontsize": 8.5, "title_fontsize": 8.5}
    # A single panel has no room for all in a line.
    columns = 4 if figure.get_figwidth() > 8 else 2
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, title=note, **look)
