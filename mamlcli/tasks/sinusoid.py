"""Sinusoids: y = amplitude * sin(frequency * x - phase) + noise (Finn et al. 2017, arXiv:1703.03400, section 5.1)."""

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
    from mamlcli.tasks.averages import uniform_edges
    from mamlcli.tasks.bounds import Moments
    from mamlcli.tasks.family import function_family

    radians = max(map(abs, config.frequency)) * (config.x[1] - config.x[0])
    varies = config.frequency[0] < config.frequency[1]
    return function_family(
        _function,
        {"amplitude": config.amplitude, "phase": config.phase, "frequency": config.frequency},
        config,
        told=("amplitude", "phase", "frequency") if varies else ("amplitude", "phase"),
        moments=Moments(partial(_moments, config), partial(uniform_edges, config.x, radians)),
    )


def _function(x: Tensor, amplitude: Tensor, phase: Tensor, frequency: Tensor) -> Tensor:
    return amplitude * (frequency * x - phase).sin()


def _moments(config: SinusoidTasks, x: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """E[y | x] and E[y^2 | x].

    The first is E[A] E[sin(omega x - phase)]; the second E[A^2] E[sin^2(omega x - phase)], where sin^2(u) =
    (1 - cos(2 u)) / 2. The expectations of exp(i k (omega x - phase)) are known in omega and in phase, whose
    exponentials have mean exp(i k (low + high) / 2) sinc(k (high - low) / 2). A panel for each radian of omega x sums
    them over x.
    """
    import numpy as np

    from mamlcli.tasks.averages import mean, mean_exponential, mean_square

    def turned(k: float) -> NDArray[np.complex128]:
        """E[exp(i k (omega x - phase))] at each x."""
        phase: NDArray[np.complex128] = mean_exponential(np.array([-k]), config.phase)
        return mean_exponential(k * x, config.frequency) * phase

    return mean(config.amplitude) * turned(1.0).imag, mean_square(config.amplitude) * (1 - turned(2.0).real) / 2
