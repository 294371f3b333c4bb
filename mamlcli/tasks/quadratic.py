"""Parabolas: y = square * x^2 + slope * x + intercept + noise (Yao et al. 2020, arXiv:2001.00745).

The ranges are those of its code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from mamlcli.section import FunctionTasksSection, Interval

if TYPE_CHECKING:
    from mamlcli.tasks.family import TaskFamily


class QuadraticTasks(FunctionTasksSection):
    """Parabolas: y = square * x^2 + slope * x + intercept + noise."""

    test_keys: ClassVar[tuple[str, ...]] = (*FunctionTasksSection.test_keys, "square", "slope", "intercept")

    family: Literal["quadratic"] = "quadratic"
    """The task family."""
    square: Interval = (-0.2, 0.2)
    """Factors of x^2 are uniform in [low, high]."""
    slope: Interval = (-2.0, 2.0)
    """Slopes at x = 0 are uniform in [low, high]."""
    intercept: Interval = (-3.0, 3.0)
    """Values at x = 0 are uniform in [low, high]."""


def quadratic(config: QuadraticTasks) -> TaskFamily:
    """Build the family. An oracle is told every parameter that varies."""
    from mamlcli.tasks.polynomials import polynomial_family

    coefficients = {"square": config.square, "slope": config.slope, "intercept": config.intercept}
    return polynomial_family(coefficients, config)
