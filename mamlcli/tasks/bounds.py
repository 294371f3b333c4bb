"""What is known of the query loss of tasks that are random functions, from the mean of y and of y^2 at each input."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Float64
from numpy.typing import NDArray

from mamlcli.tasks.averages import Points, grid_side, panel_points
from mamlcli.tasks.numbers import Interval

Array: TypeAlias = NDArray[np.float64]


class Moments(NamedTuple):
    """What y is on average over the tasks of a family, without noise, at each input."""

    at: Callable[..., tuple[Array, Array]]
    """E[y | x] and E[y^2 | x], each of shape (points,); called with every coordinate of x, each of shape (points,)."""
    edges: Callable[[], Array]
    """Rising edges of panels from the lowest to the highest input, in each of which 16 Gauss nodes average both."""


class Part(NamedTuple):
    """A family among others."""

    weight: float
    """Which part of the tasks are its; those of all parts sum to 1."""
    moments: Moments
    num_inputs: int
    """Coordinates of x. Where others have more, its further ones are 1."""


def known_losses(parts: Sequence[Part], x: Interval, noise_std: float, grid: int | None) -> Mapping[str, float]:
    """The expected loss of a model that always says zero, and of the best single function for all tasks.

    The first is E[y^2] + noise_std^2. The second says g(x) = E[y | x] and is less by E[g(x)^2].

    Args:
        parts: The families that tasks are of.
        x: Where every coordinate of an input is.
        noise_std: Standard deviation of the noise on y.
        grid: Of how many evenly spaced inputs, ends included, a loss is the mean; None for inputs that are uniform.
    """
    zero, found = noise_std**2, list[tuple[Any, Any, Any]]()
    most = max(part.num_inputs for part in parts)
    for num_inputs in sorted({part.num_inputs for part in parts}):
        alike = [part for part in parts if part.num_inputs == num_inputs]
        at, weights = _points(alike, x, num_inputs, grid)
        said = np.zeros(len(at))
        for part in alike:
            mean, square = part.moments.at(*at.T)
            zero += part.weight * float((weights * square).sum())
            said += part.weight * mean
        at = np.pad(at, ((0, 0), (0, most - num_inputs)), constant_values=1.0)
        found.append((at, weights * sum(part.weight for part in alike), weights * said))
    at, mass, said = (np.concatenate(columns) for columns in zip(*found, strict=True))
    if grid:
        # On a grid inputs of several families can meet, and a model, which sees float32, cannot tell them apart.
        _, place = np.unique(at.astype(np.float32), axis=0, return_inverse=True)
        mass, said = (np.bincount(place.ravel(), column).astype(np.float64) for column in (mass, said))
    return {"zero predictor": zero, "best single function": zero - float((said**2 / mass).sum())}


def _points(
    parts: Sequence[Part], x: Interval, num_inputs: int, grid: int | None
) -> tuple[Float64[np.ndarray, "points inputs"], Float64[np.ndarray, " points"]]:
    """Inputs of several coordinates and the weight of each: every combination of points of one."""
    if grid is None:
        line = panel_points(np.unique(np.concatenate([part.moments.edges() for part in parts])))
    else:
        side = grid_side(grid, num_inputs)
        line = Points(np.linspace(*x, side), np.full(side, 1.0))
    at = np.stack([axis.ravel() for axis in np.meshgrid(*[line.at] * num_inputs, indexing="ij")], axis=1)
    axes = np.meshgrid(*[line.weights] * num_inputs, indexing="ij")
    weights: Array = np.prod([axis.ravel() for axis in axes], axis=0)
    return (at, weights) if grid is None else (at[:grid], weights[:grid] / grid)


def linear_moments(
    features: Callable[..., Sequence[Array | float]], parameters: Sequence[Interval]
) -> Callable[..., tuple[Array, Array]]:
    """The moments of y = sum of p_k f_k(x), where each p_k is uniform in its interval.

    E[y | x] = sum of E[p_k] f_k(x), and E[y^2 | x] is its square and the sum of Var[p_k] f_k(x)^2.
    """
    means = np.array([sum(interval) / 2 for interval in parameters])
    variances = np.array([(high - low) ** 2 / 12 for low, high in parameters])

    def moments(*x: Array) -> tuple[Array, Array]:
        values = np.stack([np.broadcast_to(feature, x[0].shape) for feature in features(*x)])
        said: Array = means @ values
        square: Array = said**2 + variances @ values**2
        return said, square

    return moments


def polynomial_moments(coefficients: Sequence[Interval]) -> Callable[[Array], tuple[Array, Array]]:
    """The moments of a polynomial, whose coefficients begin with that of the highest power."""
    degree = len(coefficients) - 1
    return linear_moments(lambda x: [x ** (degree - index) for index in range(degree + 1)], coefficients)
