"""A figure before it is drawn: plain values, which a run keeps beside it, so that it can be drawn again."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from mamlcli.figures.adaptation import adaptation_figure, order_adaptation_figure, reproduction_figure
from mamlcli.figures.comparisons import compared_adaptation_figure, differences_figure
from mamlcli.figures.convergence import convergence_figure
from mamlcli.figures.fits import fits_figure
from mamlcli.figures.predictions import predictions_figure
from mamlcli.figures.rates import rates_figure, slot_weights_figure
from mamlcli.figures.style import PAGE, Look, styled
from mamlcli.figures.sweep import sweep_figure
from mamlcli.figures.training import cosine_figure, loss_figure, order_learning_figure
from mamlcli.plain import AnyRow

FIGURES: dict[str, Callable[..., Figure]] = {
    "loss": loss_figure,
    "learning": order_learning_figure,
    "cosine": cosine_figure,
    "adaptation": adaptation_figure,
    "order-adaptation": order_adaptation_figure,
    "compared-adaptation": compared_adaptation_figure,
    "differences": differences_figure,
    "reproduction": reproduction_figure,
    "fits": fits_figure,
    "predictions": predictions_figure,
    "rates": rates_figure,
    "slot-weights": slot_weights_figure,
    "sweep": sweep_figure,
    "convergence": convergence_figure,
}
"""By name, what maps (rows, labels as keywords, look) to a figure."""


class Drawing(NamedTuple):
    """What a figure shows."""

    figure: str | Callable[..., Figure]
    """Its name in `FIGURES`; or what draws it, of a method of one's own: such a figure cannot be drawn again."""
    rows: Sequence[AnyRow]
    """The data behind it, as they stand in its CSV file."""
    labels: Mapping[str, Any] = {}
    """What else the figure is told, as keywords: its title, names of axes, levels; plain values."""

    def drawn(self, look: Look = PAGE) -> Figure:
        """Draw it, as wide as a look says; what a method of one's own draws is as wide as that makes it."""
        with styled(look):
            if isinstance(self.figure, str):
                return FIGURES[self.figure](self.rows, look=look, **self.labels)
            return self.figure(self.rows, **self.labels)
