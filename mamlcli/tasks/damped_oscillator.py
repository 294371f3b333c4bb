"""Damped oscillations: y = amplitude * exp(-damping * x) * cos(frequency * x - phase) + noise.

The free motion of a mass on a spring with friction that is proportional to its velocity, x seconds after its release,
where the friction is too weak to stop it within a swing: y'' + 2 damping y' + (damping^2 + frequency^2) y = 0 (Taylor
2005, Classical Mechanics, section 5.4). The ranges are this project's own: within 10 s, up to two swings, of which
between a hundredth and six tenths are left.
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Literal

from mamlcli.section import FunctionTasksSection, Interval, NonNegativeInterval, PositiveInterval

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from mamlcli.tasks.family import TaskFamily


class DampedOscillatorTasks(FunctionTasksSection):
    """Damped oscillations: y = amplitude * exp(-damping * x) * cos(frequency * x - phase) + noise."""

    test_keys: ClassVar[tuple[str, ...]] = (
        *FunctionTasksSection.test_keys,
        "amplitude",
        "damping",
        "frequency",
        "phase",
    )

    family: Literal["damped_oscillator"] = "damped_oscillator"
    """The task family."""
    x: NonNegativeInterval = (0.0, 10.0)
    """Times since the release, of support and query samples, are uniform in [low, high], in seconds."""
    amplitude: Interval = (1.0, 5.0)
    """Amplitudes are uniform in [low, high], in the unit of y."""
    damping: NonNegativeInterval = (0.05, 0.45)
    """Damping rates are uniform in [low, high], per second; 0 is an oscillation that stays."""
    frequency: PositiveInterval = (0.8, 1.2)
    """Angular frequencies are uniform in [low, high], in radians per second."""
    phase: Interval = (0.0, math.pi)
    """Phases are uniform in [low, high], in radians."""


def damped_oscillator(config: DampedOscillatorTasks) -> TaskFamily:
    """Build the family. An oracle is told every parameter that varies."""
    from mamlcli.tasks.family import function_family

    parameters = {
        "amplitude": config.amplitude,
        "damping": config.damping,
        "frequency": config.frequency,
        "phase": config.phase,
    }
    return function_family(
        _function,
        parameters,
        config,
        told=[name for name, (low, high) in parameters.items() if low < high],
        bounds=partial(_bounds, config),
    )


def _function(x: Tensor, amplitude: Tensor, damping: Tensor, frequency: Tensor, phase: Tensor) -> Tensor:
    return amplitude * (-damping * x).exp() * (frequency * x - phase).cos()


def _bounds(config: DampedOscillatorTasks, grid: int | None) -> Mapping[str, float]:
    """The expected loss of a model that always says zero, and of the best single function for all tasks.

    The first is E[A^2] E[exp(-2 d x) cos^2(omega x - phase)] + noise_std^2, where cos^2(u) = (1 + cos(2 u)) / 2. The
    second says g(x) = E[y | x] = E[A] E[exp(-d x)] E[cos(omega x - phase)] and is less by E[g(x)^2]. The expectations
    of exponentials are known in every parameter; over x they are summed, with 16 Gauss nodes for each radian of
    omega x and each 1 of d x.

    Args:
        config: The distribution of tasks.
        grid: Of how many evenly spaced inputs, ends included, a loss is the mean; None for inputs drawn as the
            family says.
    """
    import numpy as np

    from mamlcli.tasks.averages import even_points, mean_decay, mean_exponential, mean_square, uniform_points

    panels = math.ceil((config.frequency[1] + config.damping[1]) * (config.x[1] - config.x[0]))
    x, weights = even_points(config.x, grid) if grid else uniform_points(config.x, panels)

    def cosine(k: float) -> NDArray[np.float64]:
        """E[cos(k (omega x - phase))] at each x."""
        phase: NDArray[np.complex128] = mean_exponential(np.array([-k]), config.phase)
        return (mean_exponential(k * x, config.frequency) * phase).real

    square = mean_square(config.amplitude) * mean_decay(2 * x, config.damping) * (1 + cosine(2.0)) / 2
    mean = sum(config.amplitude) / 2 * mean_decay(x, config.damping) * cosine(1.0)
    zero = float(weights @ square) + config.noise_std**2
    return {"zero predictor": zero, "best single function": zero - float(weights @ mean**2)}
