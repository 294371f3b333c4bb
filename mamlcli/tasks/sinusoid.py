"""Sinusoids: y = amplitude * sin(frequency * x - phase) + noise (Finn et al. 2017, arXiv:1703.03400, section 5.1)."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Literal

from mamlcli.section import FunctionTasksSection, Interval

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from mamlcli.tasks.family import TaskFamily


class SinusoidTasks(FunctionTasksSection):
    """The family of tasks: y = amplitude * sin(frequency * x - phase) + noise."""

    test_keys: ClassVar[tuple[str, ...]] = (*FunctionTasksSection.test_keys, "amplitude", "phase", "frequency")

    family: Literal["sinusoid"] = "sinusoid"
    """The task family."""
    amplitude: Interval = (0.1, 5.0)
    """Amplitudes are uniform in [low, high]."""
    phase: Interval = (0.0, math.pi)
    """Phases are uniform in [low, high], in radians."""
    frequency: Interval = (1.0, 1.0)
    """Angular frequencies are uniform in [low, high], in radians per unit of x."""


def sinusoid(config: SinusoidTasks) -> TaskFamily:
    """Build the family. An oracle is told amplitude and phase, and the frequency where it varies."""
    from mamlcli.tasks.family import function_family

    varies = config.frequency[0] < config.frequency[1]
    return function_family(
        _function,
        {"amplitude": config.amplitude, "phase": config.phase, "frequency": config.frequency},
        config,
        told=("amplitude", "phase", "frequency") if varies else ("amplitude", "phase"),
        bounds=partial(_bounds, config),
    )


def _function(x: Tensor, amplitude: Tensor, phase: Tensor, frequency: Tensor) -> Tensor:
    return amplitude * (frequency * x - phase).sin()


def _bounds(config: SinusoidTasks, grid: int | None) -> Mapping[str, float]:
    """The expected loss of a model that always says zero, and of the best single function for all tasks.

    The first is E[y^2] = E[A^2] E[sin^2(omega x - phase)] + noise_std^2, where sin^2(u) = (1 - cos(2 u)) / 2. The
    second says g(x) = E[y | x] = E[A] E[sin(omega x - phase)] and is less by E[g(x)^2]. The expectations of
    exp(i k (omega x - phase)) are known in omega and in phase, whose exponentials have mean exp(i k (low + high) / 2)
    sinc(k (high - low) / 2); over x they are summed, with 16 Gauss nodes for each radian of omega x.

    Args:
        config: The distribution of tasks.
        grid: Of how many evenly spaced inputs, ends included, a loss is the mean; None for inputs drawn as the
            family says.
    """
    import numpy as np

    from mamlcli.tasks.averages import even_points, mean_exponential, mean_square, uniform_points

    low, high = config.amplitude
    radians = max(map(abs, config.frequency)) * (config.x[1] - config.x[0])
    x, weights = even_points(config.x, grid) if grid else uniform_points(config.x, math.ceil(radians))

    def turned(k: float) -> NDArray[np.complex128]:
        """E[exp(i k (omega x - phase))] at each x."""
        phase: NDArray[np.complex128] = mean_exponential(np.array([-k]), config.phase)
        return mean_exponential(k * x, config.frequency) * phase

    zero = float(mean_square(config.amplitude) * (1 - (weights @ turned(2.0)).real) / 2 + config.noise_std**2)
    mean = (low + high) / 2 * turned(1.0).imag
    return {"zero predictor": zero, "best single function": zero - float(weights @ mean**2)}
