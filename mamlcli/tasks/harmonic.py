"""Harmonics: a sinusoid and its first overtone (Lacoste et al. 2018, arXiv:1806.07528, appendix).

y = amplitude * sin(frequency * x - phase) + overtone_amplitude * sin(2 * frequency * x - overtone_phase) + noise.
Theirs have normal amplitudes, frequencies of 5 to 7 and inputs around a point of each task; the ranges here are this
project's own: up to two periods in x, which ten samples can tell.
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Literal

from mamlcli.section import FunctionTasksSection, Interval

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from mamlcli.tasks.family import TaskFamily


class HarmonicTasks(FunctionTasksSection):
    """A sinusoid and its first overtone, of twice its frequency, with an amplitude and a phase of its own."""

    test_keys: ClassVar[tuple[str, ...]] = (
        *FunctionTasksSection.test_keys,
        "amplitude",
        "phase",
        "overtone_amplitude",
        "overtone_phase",
        "frequency",
    )

    family: Literal["harmonic"] = "harmonic"
    """The task family."""
    amplitude: Interval = (-2.0, 2.0)
    """Amplitudes of the sinusoid are uniform in [low, high]."""
    phase: Interval = (0.0, 2 * math.pi)
    """Its phases are uniform in [low, high], in radians."""
    overtone_amplitude: Interval = (-2.0, 2.0)
    """Amplitudes of the overtone are uniform in [low, high]."""
    overtone_phase: Interval = (0.0, 2 * math.pi)
    """Phases of the overtone are uniform in [low, high], in radians."""
    frequency: Interval = (0.8, 1.2)
    """Angular frequencies of the sinusoid are uniform in [low, high], in radians per unit of x."""


def harmonic(config: HarmonicTasks) -> TaskFamily:
    """Build the family. An oracle is told every parameter that varies."""
    from mamlcli.tasks.averages import uniform_edges
    from mamlcli.tasks.bounds import Moments
    from mamlcli.tasks.family import function_family, varying

    radians = 2 * max(map(abs, config.frequency)) * (config.x[1] - config.x[0])
    parameters = {
        "amplitude": config.amplitude,
        "phase": config.phase,
        "overtone_amplitude": config.overtone_amplitude,
        "overtone_phase": config.overtone_phase,
        "frequency": config.frequency,
    }
    moments = Moments(partial(_moments, config), partial(uniform_edges, config.x, radians))
    return function_family(_function, parameters, config, told=varying(parameters), moments=moments)


def _function(
    x: Tensor, amplitude: Tensor, phase: Tensor, overtone_amplitude: Tensor, overtone_phase: Tensor, frequency: Tensor
) -> Tensor:
    angle = frequency * x
    return amplitude * (angle - phase).sin() + overtone_amplitude * (2 * angle - overtone_phase).sin()


def _moments(config: HarmonicTasks, x: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """E[y | x] and E[y^2 | x].

    With u = frequency x - phase and v = 2 frequency x - overtone_phase, the first is E[A] E[sin u] + E[B] E[sin v], and
    the second E[A^2] E[sin^2 u] + E[B^2] E[sin^2 v] + 2 E[A] E[B] E[sin u sin v]: the products are cosines of 2 u, 2 v,
    v - u and u + v, whose means are known, as those of the exponentials of frequency and phases are. A panel for each
    radian of 2 frequency x sums them over x.
    """
    import numpy as np

    from mamlcli.tasks.averages import mean, mean_exponential, mean_square

    def turned(of_u: float, of_v: float) -> NDArray[np.complex128]:
        """E[exp(i (of_u u + of_v v))] at each x."""
        phases: NDArray[np.complex128] = mean_exponential(np.array([-of_u]), config.phase)
        phases = phases * mean_exponential(np.array([-of_v]), config.overtone_phase)
        return mean_exponential((of_u + 2 * of_v) * x, config.frequency) * phases

    first, second = mean(config.amplitude), mean(config.overtone_amplitude)
    square = mean_square(config.amplitude) * (1 - turned(2.0, 0.0).real) / 2
    square = square + mean_square(config.overtone_amplitude) * (1 - turned(0.0, 2.0).real) / 2
    square = square + first * second * (turned(-1.0, 1.0).real - turned(1.0, 1.0).real)
    return first * turned(1.0, 0.0).imag + second * turned(0.0, 1.0).imag, square
