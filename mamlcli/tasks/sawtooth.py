"""Sawtooths: y = amplitude * saw(frequency * x - phase) + noise.

saw(u) rises from -1 to 1 in each turn of 2 pi, through 0 at u = 0, and falls back at once: saw(u) = (u - 2 pi n) / pi
with n the whole number next to u / (2 pi). Neural processes are tested on such tasks (Bruinsma et al. 2023,
arXiv:2303.14468). The ranges are this project's own.
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Literal

from mamlcli.section import FunctionTasksSection, Interval

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from mamlcli.tasks.family import TaskFamily

    # A function, its integral and the integral of that.
    Integrals: TypeAlias = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]

# Turns that count as none: a difference over fewer is one of rounding.
_NARROW = 1e-6
# Falls whose places are looked for; more have averaged out.
_MAX_FALLS = 4096


class SawtoothTasks(FunctionTasksSection):
    """Sawtooths: y = amplitude * saw(frequency * x - phase) + noise, where saw rises from -1 to 1 in each turn."""

    test_keys: ClassVar[tuple[str, ...]] = (*FunctionTasksSection.test_keys, "amplitude", "phase", "frequency")

    family: Literal["sawtooth"] = "sawtooth"
    """The task family."""
    amplitude: Interval = (0.1, 5.0)
    """Amplitudes are uniform in [low, high]."""
    phase: Interval = (0.0, 2 * math.pi)
    """Phases are uniform in [low, high], in radians."""
    frequency: Interval = (0.8, 1.2)
    """Angular frequencies are uniform in [low, high], in radians per unit of x."""


def sawtooth(config: SawtoothTasks) -> TaskFamily:
    """Build the family. An oracle is told every parameter that varies."""
    from mamlcli.tasks.bounds import Moments
    from mamlcli.tasks.family import function_family, varying

    parameters = {"amplitude": config.amplitude, "phase": config.phase, "frequency": config.frequency}
    moments = Moments(partial(_moments, config), partial(_edges, config))
    return function_family(_function, parameters, config, told=varying(parameters), moments=moments)


def _function(x: Tensor, amplitude: Tensor, phase: Tensor, frequency: Tensor) -> Tensor:
    turns = (frequency * x - phase) / (2 * math.pi)
    return 2 * amplitude * (turns - (turns + 0.5).floor())


def _moments(config: SawtoothTasks, x: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """E[y | x] and E[y^2 | x].

    The first is E[A] E[saw], the second E[A^2] E[saw^2]. With u in turns, saw(u) = 2 r, where r is u less the whole
    number next to it. Its first and second integral are r^2 and u / 12 + r^3 / 3 - r / 12, those of its square 4 r^2
    are u / 3 + 4 r^3 / 3 - r / 3 and u^2 / 6 + r^4 / 3 - r^2 / 6. Their differences give the means over frequency and
    phase.
    """
    from mamlcli.tasks.averages import mean, mean_square

    return mean(config.amplitude) * _mean(config, x, _saw), mean_square(config.amplitude) * _mean(config, x, _square)


def _saw(u: NDArray[np.float64], r: NDArray[np.float64]) -> Integrals:
    return 2 * r, r**2, u / 12 + r**3 / 3 - r / 12


def _square(u: NDArray[np.float64], r: NDArray[np.float64]) -> Integrals:
    return 4 * r**2, u / 3 + 4 * r**3 / 3 - r / 3, u**2 / 6 + r**4 / 3 - r**2 / 6


def _mean(config: SawtoothTasks, x: NDArray[np.float64], integrals_at: Callable[..., Integrals]) -> NDArray[np.float64]:
    """The mean of a periodic function of the turns u, from what it and its integrals are at u, whose rest is r.

    The turns are those of the middle and two parts, uniform around 0: that of the frequency, which is as wide as x
    times the interval, and that of the phase. A part without a width takes no difference.
    """
    import numpy as np

    frequency, phase = (np.array(interval) / (2 * math.pi) for interval in (config.frequency, config.phase))
    middle = frequency.mean() * x - phase.mean()
    widths = np.stack([abs(x) * np.ptp(frequency), np.full_like(x, np.ptp(phase))])
    widths = np.where(widths < _NARROW, 0, widths)
    found = np.zeros_like(x)
    for sides in ((-0.5, -0.5), (-0.5, 0.5), (0.5, -0.5), (0.5, 0.5)):
        turns = middle + sides[0] * widths[0] + sides[1] * widths[1]
        rest = turns - np.floor(turns + 0.5)
        levels = np.stack(integrals_at(turns, rest))
        level = (widths > 0).sum(axis=0)
        sign = np.where(widths[0] > 0, np.sign(sides[0]), 0.5) * np.where(widths[1] > 0, np.sign(sides[1]), 0.5)
        found += sign * np.take_along_axis(levels, level[None], axis=0)[0]
    divisor: NDArray[np.float64] = np.where(widths > 0, widths, 1).prod(axis=0)
    return found / divisor


def _edges(config: SawtoothTasks) -> NDArray[np.float64]:
    """Where the means break: where a sawtooth falls whose frequency and phase are at an end of their intervals."""
    import numpy as np

    from mamlcli.tasks.averages import edges_at, uniform_edges

    frequency, phase = (np.array(interval) / (2 * math.pi) for interval in (config.frequency, config.phase))
    most = int(np.abs(frequency).max() * max(map(abs, config.x)) + np.abs(phase).max()) + 1
    if most > _MAX_FALLS:
        return uniform_edges(config.x, float(most))
    falls = np.arange(-most, most + 1) + 0.5 + phase[:, None]
    breaks = falls[..., None] / frequency[frequency != 0]
    # And 1 / x, by which a mean over the frequency is divided.
    return np.union1d(edges_at(config.x, np.append(breaks, 0.0)), uniform_edges(config.x, 1.0))
