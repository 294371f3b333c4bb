"""What families of polynomials have in common, whatever their degree."""

from collections.abc import Mapping
from functools import partial

from torch import Tensor

from mamlcli.section import FunctionTasksSection
from mamlcli.tasks.averages import uniform_edges
from mamlcli.tasks.bounds import Moments, polynomial_moments
from mamlcli.tasks.family import TaskFamily, function_family, varying
from mamlcli.tasks.numbers import Interval


def polynomial_family(coefficients: Mapping[str, Interval], config: FunctionTasksSection) -> TaskFamily:
    """Build a family of polynomials of one input. An oracle is told every coefficient that varies.

    Args:
        coefficients: The interval in which each is uniform, that of the highest power first.
        config: Where inputs come from, and what is done to samples.
    """
    moments = Moments(polynomial_moments([*coefficients.values()]), partial(uniform_edges, config.x, 1.0))
    return function_family(_horner, coefficients, config, told=varying(coefficients), moments=moments)


def _horner(x: Tensor, **coefficients: Tensor) -> Tensor:
    y, *lower = coefficients.values()
    for coefficient in lower:
        y = y * x + coefficient
    return y
