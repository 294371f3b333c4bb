"""Dose and response: y = baseline + e_max * x^hill / (ec50^hill + x^hill) + noise.

The Emax model of pharmacology with Hill's coefficient (Holford and Sheiner 1981, Clinical Pharmacokinetics 6, 429-453,
doi:10.2165/00003088-198106060-00002). With hill = 1 and baseline = 0, the default, it is the law of Michaelis and
Menten for the rate of an enzyme, with e_max the largest rate and ec50 Michaelis' constant (1913, Biochemische
Zeitschrift 49, 333-369). The ranges are this project's own: half of the effect is reached within the doses that are
seen, early or late.
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Literal

from mamlcli.section import FunctionTasksSection, NonNegativeInterval, PositiveInterval

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from mamlcli.tasks.family import TaskFamily

# Parts of an octave at most: steeper curves are summed no finer, and their bounds are good to fewer digits.
_MAX_PANELS = 4


class DoseResponseTasks(FunctionTasksSection):
    """Dose and response, the Emax model: y = baseline + e_max * x^hill / (ec50^hill + x^hill) + noise."""

    test_keys: ClassVar[tuple[str, ...]] = (*FunctionTasksSection.test_keys, "baseline", "e_max", "ec50", "hill")

    family: Literal["dose_response"] = "dose_response"
    """The task family."""
    x: NonNegativeInterval = (0.0, 10.0)
    """Doses, or concentrations, of support and query samples are uniform in [low, high], in mg/L or any unit."""
    baseline: NonNegativeInterval = (0.0, 0.0)
    """Responses without a dose are uniform in [low, high], in the unit of y."""
    e_max: PositiveInterval = (1.0, 5.0)
    """Largest effects, what a dose without end adds to the baseline, are uniform in [low, high], in the unit of y."""
    ec50: PositiveInterval = (0.5, 5.0)
    """Doses of half the largest effect are uniform in [low, high], in the unit of x."""
    hill: PositiveInterval = (1.0, 1.0)
    """Hill's coefficients are uniform in [low, high]; above 1 a response is an S, below it rises at once."""


def dose_response(config: DoseResponseTasks) -> TaskFamily:
    """Build the family. An oracle is told every parameter that varies."""
    from mamlcli.tasks.averages import octave_edges
    from mamlcli.tasks.bounds import Moments
    from mamlcli.tasks.family import function_family, varying

    parameters = {"baseline": config.baseline, "e_max": config.e_max, "ec50": config.ec50, "hill": config.hill}
    return function_family(
        _function,
        parameters,
        config,
        told=varying(parameters),
        moments=Moments(partial(_moments, config), partial(octave_edges, config.x, _panels(config.hill[1]))),
    )


def _function(x: Tensor, baseline: Tensor, e_max: Tensor, ec50: Tensor, hill: Tensor) -> Tensor:
    # The smaller over the larger, so that no power overflows and a dose of zero has a value and a derivative.
    below = x < ec50
    power = (x.where(below, ec50) / ec50.where(below, x)) ** hill
    return baseline + e_max * power.where(below, 1) / (1 + power)


def _moments(config: DoseResponseTasks, x: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """E[y | x] and E[y^2 | x].

    With s = x^hill / (ec50^hill + x^hill), the first is E[b] + E[e] E[s | x], and the second E[b^2] + 2 E[b] E[e]
    E[s | x] + E[e^2] E[s^2 | x]. The expectations of s are summed over hill and ec50, and over x, with 16 Gauss nodes
    in each octave of each, and in parts of it where s is steep.
    """
    from mamlcli.tasks.averages import mean, mean_square

    share, share_square = _mean_shares(config, x)
    baseline, e_max = mean(config.baseline), mean(config.e_max)
    square = mean_square(config.baseline) + 2 * baseline * e_max * share + mean_square(config.e_max) * share_square
    return baseline + e_max * share, square


def _panels(hill: float) -> int:
    """In how many parts of an octave s is summed."""
    return min(_MAX_PANELS, math.ceil(hill / 8))


def _mean_shares(config: DoseResponseTasks, x: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """E[s | x] and E[s^2 | x] at each x."""
    import numpy as np

    from mamlcli.tasks.averages import octave_points

    share, share_square = np.zeros_like(x), np.zeros_like(x)
    with np.errstate(over="ignore", divide="ignore"):  # at a dose of zero, where s is exactly zero
        log_x = np.log(x)
        for hill, hill_weight in zip(*octave_points(config.hill), strict=True):
            for ec50, weight in zip(*octave_points(config.ec50, _panels(hill)), strict=True):
                values = 1 / (1 + np.exp(hill * (np.log(ec50) - log_x)))
                share += hill_weight * weight * values
                share_square += hill_weight * weight * values**2
    return share, share_square
