"""Which figures there are, by name."""

from collections.abc import Callable

from matplotlib.figure import Figure

from mamlcli.figures.adaptation import adaptation_figure, order_adaptation_figure, reproduction_figure
from mamlcli.figures.comparisons import compared_adaptation_figure, differences_figure
from mamlcli.figures.convergence import convergence_figure
from mamlcli.figures.fits import fits_figure
from mamlcli.figures.predictions import predictions_figure
from mamlcli.figures.rates import rates_figure, slot_weights_figure
from mamlcli.figures.sweep import sweep_figure
from mamlcli.figures.training import cosine_figure, loss_figure, order_learning_figure

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
