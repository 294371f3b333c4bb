"""The points of a figure that was drawn, where they lie on it: what a reader sees under the pointer."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedFormatter
from numpy.typing import NDArray

MOST_POINTS = 250
"""Of a line: more cannot be told apart with a pointer, and make a page heavy."""
_THIN = 1.0
_DOTTED = ":"


class Series(NamedTuple):
    """A line or points of a panel."""

    name: str
    color: str
    points: list[list[float | None]]
    """Each where it is on the figure (points from the left and from the top), its x and y, and the ends of what is
    shaded there: null where nothing is."""


class HoverPanel(NamedTuple):
    """A panel of a figure."""

    box: list[float]
    """Left, top, right and bottom on the figure."""
    title: str
    x_name: str
    y_name: str
    y_words: dict[int, str]
    """What stands at a y in place of the number, on an axis of names."""
    series: list[Series]


def hover_panels(figure: Figure) -> list[HoverPanel]:
    """The panels of a figure whose layout is done, at 72 dots an inch."""
    height = float(figure.bbox.height)
    panels = [_panel(axes, figure, height) for axes in figure.axes if axes.get_visible()]
    # Of panels that share an axis, those at the edge name it for all.
    names = {
        axis: next((one for panel in panels if (one := getattr(panel, axis))), "") for axis in ("x_name", "y_name")
    }
    return [
        panel._replace(x_name=panel.x_name or names["x_name"], y_name=panel.y_name or names["y_name"])
        for panel in panels
    ]


def _panel(axes: Axes, figure: Figure, height: float) -> HoverPanel:
    left, bottom, right, top = (float(edge) for edge in axes.bbox.extents)
    meanings, names = _meanings(figure), _names(figure)
    series = []
    for line, name in _named_lines(axes, names, meanings):
        points = _points(axes, line, height)
        if points:
            series.append(Series(name, _color(line), points))
    box = [round(edge, 1) for edge in (left, height - top, right, height - bottom)]
    title = axes.get_title() if len(figure.axes) > 1 else ""
    return HoverPanel(box, _plain(title), _x_name(axes), _plain(axes.get_ylabel()), _y_words(axes), series)


def _y_words(axes: Axes) -> dict[int, str]:
    formatter = axes.yaxis.get_major_formatter()
    if not isinstance(formatter, FixedFormatter):
        return {}
    places = zip(axes.get_yticks(), formatter.seq, strict=False)
    return {int(place): _plain(str(name)) for place, name in places}


def _names(figure: Figure) -> dict[str, str]:
    """What a legend calls lines whose own labels are not for readers, by that label."""
    legend = figure.legends[0] if figure.legends else None
    if legend is None:
        return {}
    labels = figure.axes[0].get_legend_handles_labels()[1]
    texts = [text.get_text() for text in legend.get_texts()]
    return dict(zip(labels, texts, strict=True)) if len(labels) == len(texts) else {}


def _meanings(figure: Figure) -> dict[str, str]:
    """What the legend says of looks, like "dotted: median"."""
    legends = [*figure.legends, *(legend for axes in figure.axes if (legend := axes.get_legend()))]
    texts = [text.get_text() for legend in legends for text in legend.get_texts()]
    return {look: meaning for look, _, meaning in (text.partition(": ") for text in texts) if meaning}


def _named_lines(axes: Axes, names: dict[str, str], meanings: dict[str, str]) -> Iterator[tuple[Line2D, str]]:
    """The lines of data, each with its name: of those without a label, that of the labelled one of their colour."""
    data = [line for line in axes.lines if line.get_transform() == axes.transData and line.get_visible()]
    labelled = {_color(line): str(line.get_label()) for line in reversed(data) if _has_label(line)}
    for line in data:
        label = str(line.get_label()) if _has_label(line) else labelled.get(_color(line), "")
        name = _plain(names.get(label, label))
        if not _has_label(line):
            look = "dotted" if line.get_linestyle() == _DOTTED else "thin" if line.get_linewidth() < _THIN else ""
            name = ", ".join(filter(None, [name, meanings.get(look, look)]))
        yield line, name


def _has_label(line: Line2D) -> bool:
    return not str(line.get_label()).startswith("_")


def _color(line: Line2D) -> str:
    return to_hex(line.get_color())


def _points(axes: Axes, line: Line2D, height: float) -> list[list[float | None]]:
    """The points of a line that can be seen, at most so many, evenly chosen."""
    x, y = (np.ma.filled(np.ma.asarray(part, dtype=np.float64), np.nan) for part in line.get_data())
    where = axes.transData.transform(np.column_stack([x, y])) if x.size else np.empty((0, 2))
    left, bottom, right, top = axes.bbox.extents
    seen = np.isfinite(where).all(axis=1) & np.isfinite(y)
    seen &= (where[:, 0] >= left - 1) & (where[:, 0] <= right + 1)
    seen &= (where[:, 1] >= bottom - 1) & (where[:, 1] <= top + 1)
    indices = np.flatnonzero(seen)
    if len(indices) > MOST_POINTS:
        indices = indices[np.linspace(0, len(indices) - 1, MOST_POINTS).round().astype(int)]
    bands = _band(axes, line) if _has_label(line) else {}
    return [
        [
            round(float(where[i, 0]), 1),
            round(height - float(where[i, 1]), 1),
            _digits(x[i]),
            _digits(y[i]),
            *bands.get(float(x[i]), []),
        ]
        for i in indices
    ]


def _band(axes: Axes, line: Line2D) -> dict[float, list[float | None]]:
    """The ends of the band of a line's colour, by x."""
    ends: dict[float, list[float | None]] = {}
    for band in axes.collections:
        faces: Any = band.get_facecolor()
        if len(faces) == 0 or to_hex(faces[0]) != _color(line):
            continue
        for path in band.get_paths():
            vertices: NDArray[np.float64] = np.asarray(path.vertices, dtype=np.float64)
            for x in np.unique(vertices[:, 0]):
                own = vertices[vertices[:, 0] == x, 1]
                ends[float(x)] = [_digits(own.min()), _digits(own.max())]
    return ends


def _digits(value: float | np.floating) -> float | None:
    """To five digits, which a reader wants no more of; None for what JSON has no number for."""
    return float(f"{value:.5g}") if np.isfinite(value) else None


def _x_name(axes: Axes) -> str:
    """What x is, without what its label explains."""
    return _plain(axes.get_xlabel()).partition(" (")[0]


def _plain(label: str) -> str:
    """A label without what keeps matplotlib from taking it for a formula."""
    return " ".join(label.replace(r"\$", "$").split())
