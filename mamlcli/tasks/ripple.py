"""Rings of two inputs: y = sin(-frequency * (x1^2 + x2^2)) + offset + noise (Yao et al. 2020, arXiv:2001.00745).

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

# Parts of an axis at most; rings beyond have averaged out.
_MAX_PANELS = 32


class RippleTasks(FunctionTasksSection):
    """Rings of two inputs: y = sin(-frequency * (x1^2 + x2^2)) + offset + noise."""

    test_keys: ClassVar[tuple[str, ...]] = (*FunctionTasksSection.test_keys, "frequency", "offset")
    num_inputs: ClassVar[int] = 2

    family: Literal["ripple"] = "ripple"
    """The task family."""
    frequency: Interval = (-0.2, 0.2)
    """Frequencies are uniform in [low, high], in radians per unit of x1^2 + x2^2."""
    offset: Interval = (-3.0, 3.0)
    """Offsets are uniform in [low, high]."""


def ripple(config: RippleTasks) -> TaskFamily:
    """Build the family. An oracle is told every parameter that varies."""
    from mamlcli.tasks.averages import uniform_edges
    from mamlcli.tasks.bounds import Moments
    from mamlcli.tasks.family import function_family, varying

    parameters = {"frequency": config.frequency, "offset": config.offset}
    moments = Moments(partial(_moments, config), partial(uniform_edges, config.x, _panels(config)))
    return function_family(_function, parameters, config, told=varying(parameters), moments=moments)


def _function(x: Tensor, frequency: Tensor, offset: Tensor) -> Tensor:
    return (-frequency * x.square().sum(dim=-1, keepdim=True)).sin() + offset


def _panels(config: RippleTasks) -> float:
    """In how many parts an axis is cut: one for each 4 radians of sin^2, whose angle turns by 4 frequency x1 per x1."""
    reach = max(map(abs, config.x))
    return min(_MAX_PANELS, max(map(abs, config.frequency)) * reach * (config.x[1] - config.x[0]))


def _moments(
    config: RippleTasks, first: NDArray[np.float64], second: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """E[y | x] and E[y^2 | x].

    With s = sin(-frequency (x1^2 + x2^2)), the first is E[s] + E[offset], and the second E[s^2] + 2 E[s] E[offset] +
    E[offset^2], where sin^2(u) = (1 - cos(2 u)) / 2. The mean of exp(-i frequency k) is known.
    """
    from mamlcli.tasks.averages import mean, mean_exponential, mean_square

    radius = first**2 + second**2
    sine = mean_exponential(-radius, config.frequency).imag
    sine_square = (1 - mean_exponential(-2 * radius, config.frequency).real) / 2
    offset = mean(config.offset)
    return sine + offset, sine_square + 2 * offset * sine + mean_square(config.offset)
