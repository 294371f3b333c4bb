"""Absolute values: y = slope * |x - centre| + offset + noise (Vuorio et al. 2019, arXiv:1910.13616).

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


class AbsoluteValueTasks(FunctionTasksSection):
    """Absolute values: y = slope * abs(x - centre) + offset + noise."""

    test_keys: ClassVar[tuple[str, ...]] = (*FunctionTasksSection.test_keys, "slope", "centre", "offset")

    family: Literal["absolute_value"] = "absolute_value"
    """The task family."""
    slope: Interval = (-3.0, 3.0)
    """Slopes to the right of the centre are uniform in [low, high]; to its left a slope is the negative of it."""
    centre: Interval = (-3.0, 3.0)
    """Places of the kink are uniform in [low, high]."""
    offset: Interval = (-3.0, 3.0)
    """Values at the kink are uniform in [low, high]."""


def absolute_value(config: AbsoluteValueTasks) -> TaskFamily:
    """Build the family. An oracle is told every parameter that varies."""
    import numpy as np

    from mamlcli.tasks.averages import edges_at
    from mamlcli.tasks.bounds import Moments
    from mamlcli.tasks.family import function_family, varying

    parameters = {"slope": config.slope, "centre": config.centre, "offset": config.offset}
    moments = Moments(partial(_moments, config), lambda: edges_at(config.x, np.array(config.centre)))
    return function_family(_function, parameters, config, told=varying(parameters), moments=moments)


def _function(x: Tensor, slope: Tensor, centre: Tensor, offset: Tensor) -> Tensor:
    return slope * (x - centre).abs() + offset


def _moments(config: AbsoluteValueTasks, x: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """E[y | x] and E[y^2 | x].

    With d = |x - centre|, the first is E[slope] E[d] + E[offset], and the second E[slope^2] E[d^2] + 2 E[slope] E[d]
    E[offset] + E[offset^2]. The distance |u| is the slope of u |u| / 2, which gives its mean over the centre; both are
    smooth in x but where it meets an end of the centres.
    """
    from mamlcli.tasks.averages import mean, mean_square

    low, high = config.centre
    distance = abs(x - low)
    if low < high:
        distance = ((x - low) * abs(x - low) - (x - high) * abs(x - high)) / (2 * (high - low))
    square = (x - mean(config.centre)) ** 2 + (high - low) ** 2 / 12
    slope, offset = mean(config.slope), mean(config.offset)
    second = mean_square(config.slope) * square + 2 * slope * offset * distance + mean_square(config.offset)
    return slope * distance + offset, second
