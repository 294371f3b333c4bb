"""What adaptation does to single tasks."""

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from mamlcli.figures.style import BLUE, GREY, ORANGE, PURPLE, Title, column, shown
from mamlcli.plain import AnyRow

_TRUTH: dict[str, Any] = {"color": "black", "linewidth": 2.2, "alpha": 0.35}
_LOOKS: tuple[dict[str, Any], ...] = (
    {"color": GREY, "linestyle": ":"},
    {"color": ORANGE, "linestyle": "--"},
    {"color": BLUE},
)
_SUPPORT: dict[str, dict[str, Any]] = {
    "support": {"color": PURPLE, "marker": "^", "markersize": 7},
    "support, corrupted": {"color": ORANGE, "marker": "X", "markersize": 8},
    "query": {"color": "black", "marker": ".", "markersize": 6, "alpha": 0.45},
}
_TAUGHT: dict[str, Any] = {"color": BLUE, "marker": ".", "markersize": 7, "alpha": 0.7}


def fits_figure(rows: Sequence[AnyRow], *, title: Title, x_label: str = "x", y_label: str = "y") -> Figure:
    """Truth, what was adapted to, and predictions before and after: a row of panels for each predictor.

    Args:
        rows: With model (the predictor; empty for the only one), task (a number or a name), curve, x and y, and shown,
            which says whether they are a "line" ("truth" where it is known, and predictions in the order of their
            steps) or "points" ("support", "support, corrupted", "query", or what taught it).
        title: Of the figure.
        x_label: What x is.
        y_label: What y is.
    """
    lines, points = ([row for row in rows if row["shown"] == shape] for shape in ("line", "points"))
    tasks, models = (
        list(dict.fromkeys(row["task"] for row in lines)),
        list(dict.fromkeys(row["model"] for row in lines)),
    )
    curves = [name for name in dict.fromkeys(row["curve"] for row in lines) if name != "truth"]
    looks = {"truth": _TRUTH} | dict(zip(curves, _LOOKS, strict=False))
    marks = {name: _SUPPORT.get(name, _TAUGHT) for name in dict.fromkeys(row["curve"] for row in points)}
    figure = Figure(figsize=(3.6 * len(tasks) + 0.6, 3.1 * len(models) + 0.8), layout="constrained")
    figure.suptitle(shown(title), fontsize=11)
    panels = figure.subplots(len(models), len(tasks), sharex=True, sharey=True, squeeze=False)
    for model, line in zip(models, panels, strict=True):
        for task, axes in zip(tasks, line, strict=True):
            for drawn, styles in ((lines, looks), (points, marks)):
                for name, look in styles.items():
                    chosen = [row for row in drawn if (row["model"], row["task"], row["curve"]) == (model, task, name)]
                    if chosen:
                        style = look if drawn is lines else {"linestyle": "none", **look}
                        axes.plot(column(chosen, "x"), column(chosen, "y"), label=name, **style)
            axes.set_title(f"{model}, meta-test task {task}".removeprefix(", "), fontsize=10)
            axes.spines[["top", "right"]].set_visible(False)
        line[0].set_ylabel(y_label)
    for axes in panels[-1]:
        axes.set_xlabel(x_label)
    named = {
        label: handle for line in panels for handle, label in zip(*line[0].get_legend_handles_labels(), strict=True)
    }
    figure.legend(named.values(), named.keys(), loc="outside lower center", ncols=6, frameon=False, fontsize=8.5)
    return figure
