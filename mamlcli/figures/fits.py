"""What adaptation does to single tasks."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mamlcli.escaping import label as escaped
from mamlcli.figures.style import (
    BLUE,
    GREY,
    ORANGE,
    PAGE,
    PURPLE,
    Look,
    Title,
    column,
    legend_below,
    new_panels,
    outer_labels,
    wrapped,
)
from mamlcli.plain import AnyRow

_TRUTH: dict[str, Any] = {"color": "black", "linewidth": 2.2, "alpha": 0.35}
_LOOKS: tuple[dict[str, Any], ...] = (
    {"color": GREY, "linestyle": ":"},
    {"color": ORANGE, "linestyle": "--"},
    {"color": BLUE, "linestyle": "-"},
)
_SUPPORT: dict[str, dict[str, Any]] = {
    "support": {"color": PURPLE, "marker": "^", "markersize": 5},
    "support, corrupted": {"color": ORANGE, "marker": "X", "markersize": 6},
    "query": {"color": "black", "marker": ".", "markersize": 5, "alpha": 0.45},
}
_TAUGHT: dict[str, Any] = {"color": BLUE, "marker": ".", "markersize": 5, "alpha": 0.7}


def fits_figure(
    rows: Sequence[AnyRow],
    *,
    title: Title,
    x_label: str = "x",
    y_label: str = "y",
    measure: str = "MSE",
    measured_on: str = "",
    look: Look = PAGE,
) -> Figure:
    """Truth, what was adapted to, and predictions before and after: a panel for each predictor and task.

    Args:
        rows: With model (the predictor; empty for the only one), task (a number or a name), curve, x and y, and shown,
            which says whether they are a "line" ("truth" where it is known, and predictions in the order of their
            steps), "points" ("support", "support, corrupted", "query", or what taught it), or what is measured of a
            line, its loss as y ("loss"; null where it is not finite).
        title: Of the figure.
        x_label: What x is.
        y_label: What y is.
        measure: What that loss is called.
        measured_on: On what and in which unit it is measured, in words.
        look: For which place it is drawn.
    """
    models, tasks = (list(dict.fromkeys(row[name] for row in rows)) for name in ("model", "task"))
    panels_of = [(model, task) for model in models for task in tasks]
    curves = [name for name in dict.fromkeys(row["curve"] for row in rows if row["shown"] == "line") if name != "truth"]
    points = dict.fromkeys(row["curve"] for row in rows if row["shown"] == "points")
    looks = {("line", "truth"): _TRUTH}
    looks |= {("line", name): style for name, style in zip(curves, _LOOKS, strict=False)}
    looks |= {("points", name): {"linestyle": "none", **_SUPPORT.get(name, _TAUGHT)} for name in points}
    panels = new_panels(title, look, len(panels_of), sharex=True, sharey=True)
    across = min(look.across, len(panels))
    for axes, (model, task) in zip(panels, panels_of, strict=True):
        own = [row for row in rows if (row["model"], row["task"]) == (model, task)]
        _draw(axes, own, looks)
        name = f"{model}, meta-test task {task}".removeprefix(", ")
        _head(axes, wrapped(name, look.letters(0.9 / across)), own, measure)
    outer_labels(panels, escaped(x_label), y_label)
    entries = {
        label: handle for axes in panels for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    is_measured = any(row["shown"] == "loss" for row in rows)
    note = f"number over a panel: {measure} of the line beside it, {measured_on}" if is_measured else ""
    return legend_below(panels, note=note.removesuffix(", "), entries=entries)


def _draw(axes: Axes, rows: Sequence[AnyRow], looks: Mapping[tuple[str, str], Mapping[str, Any]]) -> None:
    for (shown, curve), style in looks.items():
        chosen = [row for row in rows if (row["shown"], row["curve"]) == (shown, curve)]
        if chosen:
            axes.plot(column(chosen, "x"), column(chosen, "y"), label=curve, **style)


def _head(axes: Axes, name: str, rows: Sequence[AnyRow], measure: str) -> None:
    """Say over a panel which task it is, and beside a piece of each line what is measured of it."""
    losses = {row["curve"]: row["y"] for row in rows if row["shown"] == "loss"}
    lines = {str(line.get_label()): line for line in axes.lines}
    handles = [lines[curve] for curve in losses]
    labels = ["not finite" if loss is None else f"{loss:#.2g}".rstrip(".") for loss in losses.values()]
    above: dict[str, Any] = {
        "loc": "lower center",
        "bbox_to_anchor": (0.5, 1.0),
        "borderaxespad": 0.1,
        "columnspacing": 0.8,
    }
    tight: dict[str, Any] = {"handlelength": 1.8, "handletextpad": 0.4}
    title = f"{name}: {measure}" if losses else name
    axes.legend(handles, labels, title=title, ncols=max(1, len(labels)), **above, **tight)
