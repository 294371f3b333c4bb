"""A figure before it is drawn: plain values, which a run keeps beside it, so that it can be drawn again.

Loads no matplotlib, which takes as long as a third of torch: only what draws waits for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from mamlcli.plain import AnyRow

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from mamlcli.figures.style import Look


class Drawing(NamedTuple):
    """What a figure shows."""

    figure: str | Callable[..., Figure]
    """Its name in `by_name.FIGURES`; or what draws it, of a method of one's own: that one cannot be drawn again."""
    rows: Sequence[AnyRow]
    """The data behind it, as they stand in its CSV file."""
    labels: Mapping[str, Any] = {}
    """What else the figure is told, as keywords: its title, names of axes, levels; plain values."""

    def drawn(self, look: Look | None = None) -> Figure:
        """Draw it, as wide as a look says, or a page; what a method of one's own draws is as wide as that makes it."""
        from mamlcli.figures.by_name import FIGURES
        from mamlcli.figures.style import PAGE, styled

        look = look or PAGE
        with styled(look):
            if isinstance(self.figure, str):
                return FIGURES[self.figure](self.rows, look=look, **self.labels)
            return self.figure(self.rows, **self.labels)
