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


def even_points(interval: Interval, count: int) -> Points:
    """So many evenly spaced points with both ends, that all count the same."""
    return Points(np.linspace(*interval, count), np.full(count, 1 / count))


def uniform_points(interval: Interval, panels: int) -> Points:
    """Points for the mean over an interval, 16 Gauss nodes in each of so many equal panels, at least 1."""
    panels = max(1, min(_MAX_PANELS, panels))
    (first, last), edges = interval, np.linspace(*interval, panels, endpoint=False)
    at = (edges[:, None] + (_NODES + 1) / 2 * (last - first) / panels).ravel()
    return Points(at, np.tile(_WEIGHTS, panels) / (2 * panels))


def octave_points(interval: Interval, panels: int = 1) -> Points:
    """Points for the mean over an interval of numbers >= 0, 16 Gauss nodes in each of so many panels of each octave.

    For what changes with the logarithm. Octaves end at 2^-32 of the interval's end: what is below is one panel.
    """
    first, last = interval
    if first == last:
        return Points(np.array([last]), np.ones(1))
    octaves = min(32, math.ceil(math.log2(last / first))) if first else 32
    edges = np.maximum(first, last * 2.0 ** -np.linspace(octaves, 0, octaves * panels + 1))
    edges[0] = first
    widths = np.diff(edges)[:, None]
    at = edges[:-1, None] + (_NODES + 1) / 2 * widths
    return Points(at.ravel(), (_WEIGHTS / 2 * widths / (last - first)).ravel())


def mean_exponential(k: NDArray[np.float64], interval: Interval) -> Complex128[np.ndarray, "..."]:
    """E[exp(i k u)] for u uniform in an interval, at each k."""
    low, high = interval
    mean: NDArray[np.complex128] = np.exp(0.5j * k * (low + high)) * np.sinc(k * (high - low) / (2 * np.pi))
    return mean


def mean_square(interval: Interval) -> float:
    """E[u^2] for u uniform in an interval."""
    low, high = interval
    return (low**2 + low * high + high**2) / 3


def mean_decay(k: NDArray[np.float64], interval: Interval) -> Float64[np.ndarray, "..."]:
    """E[exp(-k u)] for u uniform in an interval, at each k >= 0."""
    low, high = interval
    width = k * (high - low)
    share = np.divide(-np.expm1(-width), width, out=np.ones_like(width), where=width > 0)
    mean: NDArray[np.float64] = np.exp(-k * low) * share
    return mean
