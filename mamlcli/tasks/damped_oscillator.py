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
    from mamlcli.tasks.averages import uniform_edges
    from mamlcli.tasks.bounds import Moments
    from mamlcli.tasks.family import function_family, varying

    panels = (config.frequency[1] + config.damping[1]) * (config.x[1] - config.x[0])
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
        told=varying(parameters),
        moments=Moments(partial(_moments, config), partial(uniform_edges, config.x, panels)),
    )


def _function(x: Tensor, amplitude: Tensor, damping: Tensor, frequency: Tensor, phase: Tensor) -> Tensor:
    return amplitude * (-damping * x).exp() * (frequency * x - phase).cos()


def _moments(config: DampedOscillatorTasks, x: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """E[y | x] and E[y^2 | x].

    The first is E[A] E[exp(-d x)] E[cos(omega x - phase)]; the second E[A^2] E[exp(-2 d x) cos^2(omega x - phase)],
    where cos^2(u) = (1 + cos(2 u)) / 2. The expectations of exponentials are known in every parameter. A panel for each
    radian of omega x and each 1 of d x sums them over x.
    """
    import numpy as np

    from mamlcli.tasks.averages import mean, mean_decay, mean_exponential, mean_square

    def cosine(k: float) -> NDArray[np.float64]:
        """E[cos(k (omega x - phase))] at each x."""
        phase: NDArray[np.complex128] = mean_exponential(np.array([-k]), config.phase)
        return (mean_exponential(k * x, config.frequency) * phase).real

    square = mean_square(config.amplitude) * mean_decay(2 * x, config.damping) * (1 + cosine(2.0)) / 2
    return mean(config.amplitude) * mean_decay(x, config.damping) * cosine(1.0), square
