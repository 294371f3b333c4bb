"""Averages over inputs and over parameters that are uniform in intervals, for what is known of a loss analytically."""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Complex128, Float64
from numpy.typing import NDArray

from mamlcli.tasks.numbers import Interval

# Panels of a sum at most; what is beyond so many radians has averaged out.
_MAX_PANELS = 2**14
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(16)


class Points(NamedTuple):
    """Where a function is evaluated for its average: the sum of weight times value."""

    at: Float64[np.ndarray, " points"]
    weights: Float64[np.ndarray, " points"]
    """They sum to 1."""


def panel_points(edges: Float64[np.ndarray, " edges"]) -> Points:
    """Points for the mean over an interval, 16 Gauss nodes in each of the panels between rising edges.

    Of an interval that is one number, that number.
    """
    if edges[0] == edges[-1]:
        return Points(edges[:1], np.ones(1))
    widths = np.diff(edges)[:, None]
    at = edges[:-1, None] + (_NODES + 1) / 2 * widths
    return Points(at.ravel(), (_WEIGHTS / 2 * widths / (edges[-1] - edges[0])).ravel())


def grid_side(count: int, num_inputs: int) -> int:
    """Nodes along each axis of the smallest square grid that has so many.

    >>> grid_side(100, 1), grid_side(100, 2), grid_side(101, 2)
    (100, 10, 11)
    """
    return next(n for n in range(1, count + 1) if n**num_inputs >= count)


def uniform_edges(interval: Interval, panels: float) -> Float64[np.ndarray, " edges"]:
    """The edges of so many equal panels, rounded up, at least 1."""
    return np.linspace(*interval, max(1, min(_MAX_PANELS, math.ceil(panels))) + 1)


def octave_edges(interval: Interval, panels: int = 1) -> Float64[np.ndarray, " edges"]:
    """The edges of so many panels in each octave of an interval of numbers >= 0, for what changes with the logarithm.

    Octaves end at 2^-32 of the interval's end: what is below is one panel.
    """
    first, last = interval
    if first == last:
        return np.array(interval)
    octaves = min(32, math.ceil(math.log2(last / first))) if first else 32
    edges = np.maximum(first, last * 2.0 ** -np.linspace(octaves, 0, octaves * panels + 1))
    edges[0] = first
    return edges


def octave_points(interval: Interval, panels: int = 1) -> Points:
    """Points for the mean over an interval of numbers >= 0, in panels of each octave."""
    return panel_points(octave_edges(interval, panels))


def edges_at(interval: Interval, breaks: Float64[np.ndarray, "..."]) -> Float64[np.ndarray, " edges"]:
    """The edges of panels that end where a function breaks, as far as that is within the interval."""
    low, high = interval
    inside = breaks[(breaks > low) & (breaks < high)]
    return np.unique(np.concatenate([[low, high], inside]))


def mean_exponential(k: NDArray[np.float64], interval: Interval) -> Complex128[np.ndarray, "..."]:
    """E[exp(i k u)] for u uniform in an interval, at each k."""
    low, high = interval
    found: NDArray[np.complex128] = np.exp(0.5j * k * (low + high)) * np.sinc(k * (high - low) / (2 * np.pi))
    return found


def mean_square(interval: Interval) -> float:
    """E[u^2] for u uniform in an interval."""
    low, high = interval
    return (low**2 + low * high + high**2) / 3


def mean_decay(k: NDArray[np.float64], interval: Interval) -> Float64[np.ndarray, "..."]:
    """E[exp(-k u)] for u uniform in an interval, at each k >= 0."""
    low, high = interval
    width = k * (high - low)
    share = np.divide(-np.expm1(-width), width, out=np.ones_like(width), where=width > 0)
    found: NDArray[np.float64] = np.exp(-k * low) * share
    return found


def mean(interval: Interval) -> float:
    """E[u] for u uniform in an interval."""
    return sum(interval) / 2
