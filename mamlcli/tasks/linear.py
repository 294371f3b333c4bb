"""Straight lines: y = slope * x + intercept + noise (Yao et al. 2020, arXiv:2001.00745, whose code has these ranges).

Vuorio et al. 2019 (arXiv:1910.13616) have the same lines with the same ranges.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from mamlcli.section import FunctionTasksSection, Interval

if TYPE_CHECKING:
    from mamlcli.tasks.family import TaskFamily


class LinearTasks(FunctionTasksSection):
    """Straight lines: y = slope * x + intercept + noise."""

    test_keys: ClassVar[tuple[str, ...]] = (*FunctionTasksSection.test_keys, "slope", "intercept")

    family: Literal["linear"] = "linear"
    """The task family."""
    slope: Interval = (-3.0, 3.0)
    """Slopes are uniform in [low, high]."""
    intercept: Interval = (-3.0, 3.0)
    """Values at x = 0 are uniform in [low, high]."""


def linear(config: LinearTasks) -> TaskFamily:
    """Build the family. An oracle is told every parameter that varies."""
    from mamlcli.tasks.polynomials import polynomial_family

    coefficients = {"slope": config.slope, "intercept": config.intercept}
    return polynomial_family(coefficients, config)
