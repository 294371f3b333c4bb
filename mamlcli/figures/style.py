"""How figures look, in one place: sizes, fonts, colours, line styles, axes and legends; and rows as columns.

What a figure function draws is styled by `styled`, which whoever calls it holds (`Drawing.drawn` does).
"""

import io
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple, TypeAlias

import matplotlib.style
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.ticker import FixedLocator, LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter
from numpy.typing import NDArray

from mamlcli.escaping import label as escaped
from mamlcli.escaping import visible
from mamlcli.plain import AnyRow

Title: TypeAlias = str | Sequence[str]
"""Of a figure: a line, or several."""
Width: TypeAlias = Literal["column", "page"]


class Look(NamedTuple):
    """For which place in a paper a figure is drawn."""

    width: float
    """Inches, as printed."""
    font_size: float
    """Points, of most text; what stands small is a point less."""
    across: int
    """Panels side by side, at most."""
    settings: Mapping[str, Any] = {}
    """Of matplotlib, for the kind of file that it becomes."""

    def letters(self, share: float = 1.0) -> int:
        """How many letters of small text fit into a share of the width."""
        return int(share * self.width * 72 / (0.58 * (self.font_size - 1)))


LOOKS: dict[Width, Look] = {"column": Look(3.4, 8.0, 1), "page": Look(7.0, 9.0, 3)}
"""A column of a page with two, 86 mm, and the whole text of a page, 178 mm."""
PAGE = LOOKS["page"]
DPI = 200
"""Of figures as PNG."""
# Of a panel: its height against its width, alone in its row and beside others; in inches the highest, what its ticks
# and labels take, and what fits on a page with a legend.
_ASPECT, _ASPECT_BESIDE, _HIGHEST, _LABELS, _PAGE_HEIGHT = 0.6, 0.8, 3.3, 0.5, 7.6
_MOST_COLUMNS = 4
"""Of a legend."""
_ROUND_STEPS = (1, 2, 5, 10)
"""Between two ticks, but for a power of ten."""

# Okabe and Ito's palette, which stays distinct to most colour-blind readers.
BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#777777"
CYCLE = (BLUE, ORANGE, GREEN, PURPLE, "#E69F00", "#56B4E9")
# In black and white, lines are told apart by their marks or dashes.
MARKERS = ("o", "s", "^", "D", "v", "P")
DASHES: tuple[Any, ...] = ("-", "--", "-.", (0, (5, 1.5, 1, 1.5, 1, 1.5)), (0, (1, 1.2)), (0, (7, 2)))
LEVELS: tuple[Any, ...] = ("--", "-.", (0, (1, 3)))
"""Line styles of levels that are known."""
LINE, THIN, HAIR = 1.5, 0.6, 0.8
"""Line widths in points: of what is shown, of what is behind it, and of levels."""
SHADE, FAINT = 0.2, 0.55
"""Opacity of bands, and of thin lines."""


def _settings(look: Look) -> dict[str, Any]:
    """Of matplotlib, for figures of a look; files are the same bytes for the same figure."""
    size, small = look.font_size, look.font_size - 1
    return {
        "font.size": size,
        "figure.titlesize": size,
        "axes.titlesize": small,
        "axes.labelsize": small,
        "legend.fontsize": small,
        "legend.title_fontsize": small,
        "xtick.labelsize": small,
        "ytick.labelsize": small,
        "legend.frameon": False,
        "legend.handlelength": 2.4,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.linewidth": 0.7,
        "axes.grid": True,
        "axes.grid.axis": "y",
        "axes.grid.which": "major",
        "grid.linewidth": 0.4,
        "grid.alpha": 0.5,
        "lines.linewidth": LINE,
        "lines.markersize": 3.5,
        "savefig.dpi": DPI,
        "svg.hashsalt": "mamlcli",
        "pdf.fonttype": 42,
        **look.settings,
    }


@contextmanager
def styled(look: Look) -> Iterator[None]:
    """Let matplotlib draw so, whatever the user's own settings are."""
    with matplotlib.style.context(["default", _settings(look)]):
        yield


class Drawn(Figure):
    """A figure that is drawn in its style whenever that happens, and that a notebook shows; without pyplot."""

    def __init__(self, look: Look, **options: Any) -> None:
        self.look = look
        super().__init__(**options)

    def draw(self, renderer: Any) -> None:
        """Draw it: matplotlib makes ticks only now, in the style that holds now."""
        with styled(self.look):
            super().draw(renderer)

    def savefig(self, fname: Any, **options: Any) -> None:
        """Save it."""
        with styled(self.look):
            super().savefig(fname, **options)

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        """What a notebook shows, at its printed width and twice as sharp as most screens."""
        buffer = io.BytesIO()
        self.savefig(buffer, format="png")
        return buffer.getvalue(), {"width": round(96 * self.get_figwidth())}


def shown(title: Title, letters: int) -> str:
    """A title as it is drawn: nothing in it is taken for a formula or for a line break, and long lines are wrapped."""
    return "\n".join(wrapped(line, letters) for line in ([title] if isinstance(title, str) else title))


def wrapped(text: str, letters: int) -> str:
    """Text as it is drawn, in lines of at most so many letters."""
    text = visible(text)
    return "\n".join(
        map(escaped, textwrap.wrap(text, letters, break_on_hyphens=False) if len(text) > letters else [text])
    )


def new_panels(title: Title, look: Look, count: int, *, height: float | None = None, **shared: Any) -> list[Axes]:
    """The panels of a new figure, side by side as far as its look allows, and then in further rows.

    Args:
        title: Of the figure.
        look: How wide it is.
        count: How many panels, >= 1.
        height: Of a panel, in inches; None for what its width asks for.
        shared: Whether they share axes, as for matplotlib: sharex, sharey.
    """
    across = min(look.across, count)
    down = -(-count // across)
    if height is None:
        height = min((_ASPECT if across == 1 else _ASPECT_BESIDE) * look.width / across, _HIGHEST) + _LABELS
    figure = Drawn(look, figsize=(look.width, min(height, max(1.2, _PAGE_HEIGHT / down)) * down), layout="constrained")
    figure.suptitle(shown(title, look.letters(0.95)))
    panels = list(figure.subplots(down, across, squeeze=False, **shared).ravel())
    for axes in panels[count:]:
        axes.remove()
    # Above a panel that is left out, the one before has the labels of its ticks.
    for axes in panels[max(0, count - across) : count]:
        axes.xaxis.set_tick_params(labelbottom=True)
        axes.locator_params(axis="x", nbins=8 if across == 1 else 7, steps=_ROUND_STEPS)
    return panels[:count]


def outer_labels(panels: Sequence[Axes], x_label: str, y_label: str) -> None:
    """Name the axes of panels that share them, on the left and under the last of each column."""
    across = panels[0].get_gridspec().ncols  # type: ignore[union-attr]
    for index, axes in enumerate(panels):
        if index % across == 0:
            axes.set_ylabel(_beside(axes, y_label))
        if index + across >= len(panels):
            axes.set_xlabel(x_label)


def new_axes(title: Title, x_label: str, y_label: str, look: Look, *, height: float | None = None) -> Axes:
    """The panel of a new figure of one."""
    (axes,) = new_panels(title, look, 1, height=height)
    axes.set_xlabel(x_label)
    axes.set_ylabel(_beside(axes, y_label))
    return axes


def _beside(axes: Axes, label: str) -> str:
    """A name of a y axis, in as many lines as it needs beside its panel."""
    figure = figure_of(axes)
    height = figure.get_figheight() / axes.get_gridspec().nrows  # type: ignore[union-attr]
    return shown(label.split("\n"), figure.look.letters(0.75 * height / figure.look.width))


def figure_of(axes: Axes) -> Drawn:
    """The figure that a panel is of."""
    figure = axes.get_figure(root=True)
    assert isinstance(figure, Drawn)
    return figure


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
    low, high = low / margin, high if is_cut else high * margin
    panels[0].set_yscale("log")
    panels[0].set_ylim(low, high)
    panels[0].yaxis.set_major_locator(_log_ticks(low, high))
    panels[0].yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    panels[0].yaxis.set_minor_formatter(NullFormatter())
    notes = {
        f"cut at {top:.3g}, lines and bands go on above": is_cut,
        "what leaves at the bottom reaches zero or below": bool((values <= 0).any()),
        "where a line is missing it is not finite": not np.isfinite(values).all(),
    }
    return "; ".join(note for note, holds in notes.items() if holds)


def _log_ticks(low: float, high: float) -> LogLocator | FixedLocator:
    """Where a logarithmic axis has numbers: at 1, 2 and 5, or where there would be no two, at round ones."""
    places = [digit * 10.0**power for power in range(-300, 300) for digit in (1, 2, 5)]
    if sum(low <= place <= high for place in places) >= 2:
        wide = high / low > 1e4
        return LogLocator(subs=(1.0,) if wide else (1.0, 2.0, 5.0))
    return FixedLocator([tick for tick in MaxNLocator(5, steps=_ROUND_STEPS).tick_values(low, high) if tick > 0])


def _drawn(axes: Axes) -> NDArray[np.float64]:
    """Every y of the lines and bands of a panel."""
    lines = [np.asarray(line.get_ydata(), dtype=np.float64) for line in axes.lines]
    bands = [np.asarray(path.vertices)[:, 1] for band in axes.collections for path in band.get_paths()]
    return np.concatenate([*lines, *bands])


def legend_below(panels: Sequence[Axes], *, note: str = "", entries: Mapping[str, Artist] | None = None) -> Figure:
    """Put the legend under the whole figure, where it covers nothing, in as many columns as fit, with a note over it.

    Args:
        panels: Of the figure; the first one's lines are explained.
        note: Over the legend.
        entries: What to explain in place of those lines: label to artist.

    Returns:
        The figure, as much higher as its title and legend need.
    """
    figure = figure_of(panels[0])
    look, height = figure.look, figure.get_figheight()
    if entries is None:
        handles, labels = panels[0].get_legend_handles_labels()
    else:
        handles, labels = list(entries.values()), [escaped(label) for label in entries]
    place: dict[str, Any] = {"loc": "outside lower center", "title": wrapped(note, look.letters()) or None}
    full = {-(-len(labels) // rows) for rows in range(1, len(labels) + 1)}
    for columns in sorted((count for count in full if count <= _MOST_COLUMNS), reverse=True):
        if figure.legends:
            figure.legends[0].remove()
        legend = figure.legend(handles, [""] * len(labels), ncols=columns, **place)
        for text, label in zip(legend.get_texts(), labels, strict=True):
            text.set_text(label)  # given as one, a label that begins with "_" would be left out
        if legend.get_window_extent().width <= figure.bbox.width:
            break
    else:
        _wrap(legend, look)
    title = figure.get_suptitle().count("\n") + 1
    figure.set_figheight(height + legend.get_window_extent().height / figure.dpi + 1.4 * title * look.font_size / 72)
    return figure


def _wrap(legend: Legend, look: Look) -> None:
    """Break what is too long even for a column."""
    for text in legend.get_texts():
        lines = textwrap.wrap(text.get_text(), look.letters(0.86), break_on_hyphens=False)
        text.set_text("\n".join(lines) if len(lines) > 1 else text.get_text())


def shade_key(axes: Axes, meaning: str) -> None:
    """Say in the legend what every band is."""
    axes.fill_between([], [], color="black", alpha=SHADE, linewidth=0, label=f"shaded: {meaning}")


def interval_name(over: str | None) -> str:
    """What intervals are, for a legend."""
    return f"95% interval of the mean {over or ''}".strip()


def column(rows: Sequence[AnyRow], name: str) -> NDArray[np.float64]:
    """A column as numbers; null becomes NaN, which leaves a gap in a line."""
    return np.array([np.nan if row[name] is None else row[name] for row in rows], dtype=np.float64)


class LineStyle(NamedTuple):
    """How a line is told from others, in colours and without."""

    color: str
    marker: str
    dashes: Any


def numbered(index: int, *, dashed: bool) -> LineStyle:
    """The style of the line with this number, with dashes of its own or without any.

    Those after the last colour begin again with other marks and dashes.
    """
    color, again = index % len(CYCLE), index // len(CYCLE)
    dashes = DASHES[(color + again) % len(DASHES)] if dashed else "-"
    return LineStyle(CYCLE[color], MARKERS[(color + again) % len(MARKERS)], dashes)


def interval_line(axes: Axes, rows: Sequence[AnyRow], label: str, style: LineStyle) -> None:
    """Draw the mean against inner steps, and its interval as a band."""
    x, mean, half = (column(rows, name) for name in ("inner_steps", "mean", "ci95"))
    axes.plot(x, mean, color=style.color, marker=style.marker, linestyle=style.dashes, label=label)
    # A wide interval can reach below zero, which a logarithmic axis cannot show: there it runs off the bottom.
    axes.fill_between(x, mean - half, mean + half, color=style.color, alpha=SHADE, linewidth=0)


def whole_steps(axes: Axes) -> None:
    """Let an axis of steps have whole numbers alone."""
    axes.locator_params(axis="x", integer=True)
