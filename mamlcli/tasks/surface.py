"""Surfaces of two inputs: y = first_square * x1^2 + second_square * x2^2 + noise (Yao et al. 2020, arXiv:2001.00745).

Bowls, hills and saddles. The ranges are those of its code.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, ClassVar, Literal

from mamlcli.section import FunctionTasksSection, Interval

if TYPE_CHECKING:
    from torch import Tensor

    from mamlcli.tasks.family import TaskFamily


class SurfaceTasks(FunctionTasksSection):
    """Surfaces of two inputs: y = first_square * x1^2 + second_square * x2^2 + noise."""

    test_keys: ClassVar[tuple[str, ...]] = (*FunctionTasksSection.test_keys, "first_square", "second_square")
    num_inputs: ClassVar[int] = 2

    family: Literal["surface"] = "surface"
    """The task family."""
    first_square: Interval = (-1.0, 1.0)
    """Factors of x1^2 are uniform in [low, high]."""
    second_square: Interval = (-1.0, 1.0)
    """Factors of x2^2 are uniform in [low, high]."""


def surface(config: SurfaceTasks) -> TaskFamily:
    """Build the family. An oracle is told every parameter that varies."""
    from mamlcli.tasks.averages import uniform_edges
    from mamlcli.tasks.bounds import Moments, linear_moments
    from mamlcli.tasks.family import function_family, varying

    parameters = {"first_square": config.first_square, "second_square": config.second_square}
    moments = Moments(
        linear_moments(lambda first, second: (first**2, second**2), [*parameters.values()]),
        partial(uniform_edges, config.x, 1.0),
    )
    return function_family(_function, parameters, config, told=varying(parameters), moments=moments)


def _function(x: Tensor, first_square: Tensor, second_square: Tensor) -> Tensor:
    return first_square * x[..., :1].square() + second_square * x[..., 1:].square()
