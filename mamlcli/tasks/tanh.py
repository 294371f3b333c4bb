"""Hyperbolic tangents: y = amplitude * tanh(x - centre) + offset + noise (Vuorio et al. 2019, arXiv:1910.13616).

The ranges are those of its code.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, ClassVar, Literal

from mamlcli.section import FunctionTasksSection, Interval

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from mamlcli.tasks.family import TaskFamily


class TanhTasks(FunctionTasksSection):
    """Hyperbolic tangents: y = amplitude * tanh(x - centre) + offset + noise."""

    test_keys: ClassVar[tuple[str, ...]] = (*FunctionTasksSection.test_keys, "amplitude", "centre", "offset")

    family: Literal["tanh"] = "tanh"
    """The task family."""
    amplitude: Interval = (-3.0, 3.0)
    """Amplitudes, half of the way from the left end to the right one, are uniform in [low, high]."""
    centre: Interval = (-3.0, 3.0)
    """Places of the steepest slope are uniform in [low, high]."""
    offset: Interval = (-3.0, 3.0)
    """Values there are uniform in [low, high]."""


def tanh(config: TanhTasks) -> TaskFamily:
    """Build the family. An oracle is told every parameter that varies."""
    from mamlcli.tasks.averages import uniform_edges
    from mamlcli.tasks.bounds import Moments
    from mamlcli.tasks.family import function_family, varying

    parameters = {"amplitude": config.amplitude, "centre": config.centre, "offset": config.offset}
    moments = Moments(partial(_moments, config), partial(uniform_edges, config.x, config.x[1] - config.x[0]))
    return function_family(_function, parameters, config, told=varying(parameters), moments=moments)


def _function(x: Tensor, amplitude: Tensor, centre: Tensor, offset: Tensor) -> Tensor:
    return amplitude * (x - centre).tanh() + offset


def _moments(config: TanhTasks, x: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """E[y | x] and E[y^2 | x].

    With t = tanh(x - centre), the first is E[amplitude] E[t] + E[offset], and the second E[amplitude^2] E[t^2] + 2
    E[amplitude] E[t] E[offset] + E[offset^2]. Over the centre, tanh is the slope of log cosh, and tanh^2 = 1 - tanh'. A
    panel for each 1 of x sums them over x.
    """
    import numpy as np

    from mamlcli.tasks.averages import mean, mean_square

    low, high = config.centre
    said = np.tanh(x - low)
    square = said**2
    if low < high:
        # log cosh u = log(exp(u) + exp(-u)) - log 2, of which the last falls out.
        said = (np.logaddexp(x - low, low - x) - np.logaddexp(x - high, high - x)) / (high - low)
        square = 1 - (np.tanh(x - low) - np.tanh(x - high)) / (high - low)
    amplitude, offset = mean(config.amplitude), mean(config.offset)
    second = mean_square(config.amplitude) * square + 2 * amplitude * offset * said + mean_square(config.offset)
    return amplitude * said + offset, second
