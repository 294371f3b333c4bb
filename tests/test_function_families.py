"""Families of functions: their formulas, and what y and y^2 are on average, each by another way."""

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import integrate, stats

from mamlcli import TaskFamily, parse_config
from mamlcli.registry import build
from mamlcli.tasks.family import Request
from mamlcli.tasks.stream import TaskList

Array = NDArray[np.float64]


def saw(turns: Array) -> Array:
    """From -1 to 1 in each turn, through 0 at 0."""
    rising: Array = 2 * ((turns + 0.5) % 1.0) - 1
    return rising


FORMULAS: dict[str, Callable[..., Array]] = {
    "linear": lambda x, slope, intercept: slope * x[..., 0] + intercept,
    "quadratic": lambda x, square, slope, intercept: np.polyval([square, slope, intercept], x[..., 0]),
    "cubic": lambda x, cube, square, slope, intercept: np.polyval([cube, square, slope, intercept], x[..., 0]),
    "absolute_value": lambda x, slope, centre, offset: (
        np.hypot(slope * (x[..., 0] - centre), 0) * np.sign(slope) + offset
    ),
    "tanh": lambda x, amplitude, centre, offset: amplitude * (1 - 2 / (np.exp(2 * (x[..., 0] - centre)) + 1)) + offset,
    "sawtooth": lambda x, amplitude, phase, frequency: amplitude * saw((frequency * x[..., 0] - phase) / math.tau),
    "harmonic": lambda x, amplitude, phase, overtone_amplitude, overtone_phase, frequency: (
        (
            amplitude * np.exp(1j * (frequency * x[..., 0] - phase))
            + overtone_amplitude * np.exp(1j * (2 * frequency * x[..., 0] - overtone_phase))
        ).imag
    ),
    "surface": lambda x, first_square, second_square: first_square * x[..., 0] ** 2 + second_square * x[..., 1] ** 2,
    "ripple": lambda x, frequency, offset: offset - np.sin(frequency * (x**2).sum(axis=-1)),
}
# Ranges that are symmetric in nothing, so that nothing cancels.
SKEWED = {
    "linear": "slope: [0.5, 2.0], intercept: [-1.0, 3.0]",
    "quadratic": "square: [-0.1, 0.3], slope: [0.5, 2.0], intercept: [-1.0, 3.0]",
    "cubic": "cube: [0.0, 0.1], square: [-0.1, 0.3], slope: [0.5, 2.0], intercept: [-1.0, 3.0]",
    "absolute_value": "slope: [0.5, 2.0], centre: [-1.0, 2.5], offset: [-1.0, 3.0]",
    "tanh": "amplitude: [0.5, 2.0], centre: [-1.0, 2.5], offset: [-1.0, 3.0]",
    "sawtooth": "amplitude: [1.0, 2.0], phase: [0.3, 2.1], frequency: [1.5, 3.5]",
    "harmonic": "amplitude: [1.0, 2.0], phase: [0.3, 2.1], overtone_amplitude: [0.5, 1.0], overtone_phase: [1.0, 2.5]",
    "surface": "first_square: [0.1, 0.4], second_square: [-0.1, 0.3]",
    "ripple": "frequency: [0.1, 0.3], offset: [-1.0, 3.0]",
}
families = pytest.mark.parametrize("name", FORMULAS)


def section(name: str, keys: str = "") -> Any:
    return parse_config(f"name: a\ntasks: {{family: {name}, {keys}}}").tasks


def skewed(name: str, more: str = "") -> Any:
    return section(name, f"x: [-2.0, 4.0], {SKEWED[name]}, {more}")


def built(config: Any) -> TaskFamily:
    family: TaskFamily = build("tasks", config)
    return family


def interval_of(config: Any, name: str) -> tuple[float, float]:
    low, high = getattr(config, name)
    return low, high


def parameters(name: str) -> list[str]:
    config = section(name)
    return [key for key in type(config).test_keys if key not in ("x", "noise_std", "corrupted_slots")]


@families
def test_an_oracle_can_tell_every_target_from_what_it_sees_by_the_formula(name: str) -> None:
    config = skewed(name, "oracle_inputs: true")
    family, keys = built(config), parameters(name)
    x, y = TaskList(family, 3, "meta-test").tasks(0, 500, Request(2, 7)).query
    varying = [key for key in keys if len(set(interval_of(config, key))) > 1]
    seen = x.double().numpy()
    coordinates = family.num_inputs - family.num_told
    assert seen.shape[-1] == coordinates + len(varying)
    told = dict(zip(varying, seen[..., coordinates:].transpose(2, 0, 1), strict=True))
    fixed = {key: np.float64(interval_of(config, key)[0]) for key in keys if key not in varying}
    if name == "sawtooth":  # where float32 can tell on which side of a fall it is
        turns = (told["frequency"] * seen[..., 0] - told["phase"]) / math.tau
        clear = abs((turns % 1) - 0.5) > 1e-5
    else:
        clear = np.full(y.shape[:2], fill_value=True)
    expected = FORMULAS[name](seen[..., :coordinates], **told, **fixed)
    np.testing.assert_allclose(y[..., 0].numpy()[clear], expected[clear], rtol=2e-5, atol=3e-5)
    for key in varying:
        low, high = interval_of(config, key)
        assert stats.kstest(told[key][:, 0], "uniform", (low, high - low)).pvalue > 1e-3
    for index in range(coordinates):
        assert stats.kstest(seen[..., index].ravel(), "uniform", (-2.0, 6.0)).pvalue > 1e-3


# By hand: x uniform in [-5, 5] has E[x^2] = 25/3, E[x^4] = 125 and E[x^6] = 15625/7; u in [-a, a] has E[u^2] = a^2 / 3.
CLOSED = {
    "linear": 3 * Fraction(25, 3) + 3,
    "quadratic": Fraction(4, 300) * 125 + Fraction(4, 3) * Fraction(25, 3) + 3,
    "cubic": Fraction(1, 300) * Fraction(15625, 7) + Fraction(4, 300) * 125 + Fraction(4, 3) * Fraction(25, 3) + 3,
    "absolute_value": 3 * (Fraction(25, 3) + 3) + 3,
    "surface": 2 * Fraction(1, 3) * 125,
    "sawtooth": Fraction(25_000 + 500 + 10, 3000) / 3,  # E[A^2] of [0.1, 5], and 1/3 of a sawtooth of any phase
    "harmonic": 2 * Fraction(4, 3) / 2,
}


@pytest.mark.parametrize("name", CLOSED)
def test_the_default_ranges_give_the_losses_that_are_known_by_hand(name: str) -> None:
    found = built(section(name)).bounds(None)
    # Every one of these means is zero at every x, so that no single function does better than zero.
    assert found == {key: pytest.approx(float(CLOSED[name]), rel=1e-9) for key in found}
    assert list(found) == ["zero predictor", "best single function"]


def mean_over(config: Any, name: str, values: Callable[[Any], Array]) -> float:
    """The mean of a function of a parameter that may kink, by SciPy."""
    low, high = interval_of(config, name)
    found, _ = integrate.quad(lambda one: float(values(one)), low, high, limit=200, epsabs=1e-12)
    return float(found) / (high - low)


def exponential(k: Array, interval: tuple[float, float]) -> NDArray[np.complex128]:
    """E[exp(i k u)] by the quotient of the integral."""
    low, high = interval
    found: NDArray[np.complex128] = (np.exp(1j * k * high) - np.exp(1j * k * low)) / (1j * k * (high - low))
    return found


def fourier_saw(config: Any, x: float) -> tuple[float, float]:
    """The mean of a sawtooth and of its square over phase and frequency, by forty thousand terms of their series."""
    k = np.arange(1.0, 40_001)
    turned = exponential(k * x, config.frequency) * exponential(-k, config.phase)
    once = (2 / math.pi) * ((-1) ** (k + 1) * turned.imag / k).sum()
    square = 1 / 3 + (4 / math.pi**2) * ((-1) ** k * turned.real / k**2).sum()
    return once, square


def shifted(config: Any, x: float, function: Callable[[Array], Array]) -> tuple[float, float]:
    """The mean over the centre of a function of x - centre, and of its square."""
    once = mean_over(config, "centre", lambda centre: function(x - centre))
    return once, mean_over(config, "centre", lambda centre: function(x - centre) ** 2)


@pytest.mark.parametrize("x", [-1.7, 0.4, 3.1])
@pytest.mark.parametrize("name", ["absolute_value", "tanh", "sawtooth"])
def test_the_means_at_an_input_are_those_of_scipy_and_of_a_fourier_series(name: str, x: float) -> None:
    config = skewed(name)
    match name:
        case "sawtooth":
            (once, square), scale, offset = fourier_saw(config, x), config.amplitude, (0.0, 0.0)
        case "tanh":
            (once, square), scale, offset = shifted(config, x, np.tanh), config.amplitude, config.offset
        case _:
            (once, square), scale, offset = shifted(config, x, np.abs), config.slope, config.offset
    mean, shift = sum(scale) / 2, sum(offset) / 2
    mean_square, shift_square = ((high**3 - low**3) / (3 * (high - low) or 1) for low, high in (scale, offset))
    moments = built(config).moments
    assert moments is not None
    (first,), (second,) = moments.at(np.array([x]))
    assert first == pytest.approx(mean * once + shift, rel=1e-8)
    assert second == pytest.approx(mean_square * square + 2 * mean * shift * once + shift_square, rel=1e-8)


@pytest.mark.parametrize("name", ["linear", "quadratic", "cubic", "harmonic", "surface", "ripple"])
def test_the_means_at_an_input_are_a_sum_over_all_parameters_by_the_formula(name: str) -> None:
    config = skewed(name)
    nodes, weights = np.polynomial.legendre.leggauss(9)
    grids = []
    for key in parameters(name):
        low, high = interval_of(config, key)
        grids.append(((low + high) / 2 + (high - low) / 2 * nodes, weights / 2))
    values = [axis.ravel() for axis in np.meshgrid(*(at for at, _ in grids), indexing="ij")]
    weight = np.prod([axis.ravel() for axis in np.meshgrid(*(part for _, part in grids), indexing="ij")], axis=0)
    family = built(config)
    assert family.moments is not None
    x = np.random.default_rng(0).uniform(-2, 4, (5, family.num_inputs))
    first, second = family.moments.at(*x.T)
    for index, point in enumerate(x):
        y = FORMULAS[name](point, **dict(zip(parameters(name), values, strict=True)))
        assert first[index] == pytest.approx(weight @ y, rel=1e-9)
        assert second[index] == pytest.approx(weight @ y**2, rel=1e-9)


@families
def test_what_is_known_is_the_integral_of_the_means_over_the_inputs(name: str) -> None:
    config = skewed(name, "noise_std: 0.3")
    family, breaks = built(config), [-1.0, 0.0, 2.5]
    moments = family.moments
    assert moments is not None
    if family.num_inputs == 1:

        def of(values: Callable[[Array, Array], Array]) -> float:
            found, _ = integrate.quad(
                lambda x: float(values(*moments.at(np.array([x])))[0]), -2, 4, limit=2000, points=breaks
            )
            return float(found) / 6
    else:
        at, weights = np.polynomial.legendre.leggauss(90)
        first, second = (axis.ravel() for axis in np.meshgrid(1 + 3 * at, 1 + 3 * at))
        both = np.outer(weights, weights).ravel() / 4

        def of(values: Callable[[Array, Array], Array]) -> float:
            return float(both @ values(*moments.at(first, second)))

    found = family.bounds(None)
    zero = of(lambda _, square: square) + 0.09
    assert found["zero predictor"] == pytest.approx(zero, rel=1e-7)
    assert found["best single function"] == pytest.approx(zero - of(lambda mean, _: mean**2), rel=1e-7)


@families
@pytest.mark.parametrize("keys", ["as they are", "skewed"])
def test_zero_and_the_mean_of_all_functions_score_what_is_known_on_twenty_thousand_tasks(name: str, keys: str) -> None:
    family = built(section(name) if keys == "as they are" else skewed(name, "noise_std: 0.3"))
    tasks = TaskList(family, 3, "meta-test").tasks(0, 20_000, Request(1, 21, query_grid=True))
    y, found = tasks.query.y[..., 0].double().numpy(), family.bounds(21)
    zero, single = (y**2).mean(axis=1), ((y - y.mean(axis=0)) ** 2).mean(axis=1)
    assert abs(zero.mean() - found["zero predictor"]) < 4 * stats.sem(zero)
    assert abs(single.mean() - found["best single function"]) < 4 * stats.sem(single)


@families
def test_one_function_for_all_tasks_is_the_best_single_function(name: str) -> None:
    low = {key: interval_of(skewed(name), key)[0] for key in parameters(name)}
    config = section(name, ", ".join(f"{key}: [{value}, {value}]" for key, value in low.items()))
    family = built(config)
    found = family.bounds(None)
    at, weights = np.polynomial.legendre.leggauss(400 if family.num_inputs == 1 else 120)
    grid = np.stack([axis.ravel() for axis in np.meshgrid(*[5 * at] * family.num_inputs)], axis=-1)
    weight = np.prod([axis.ravel() / 2 for axis in np.meshgrid(*[weights] * family.num_inputs)], axis=0)
    square = weight @ FORMULAS[name](grid, **{key: np.float64(value) for key, value in low.items()}) ** 2
    # A sum that knows nothing of a saw's falls is good to a few thousandths.
    assert found["zero predictor"] == pytest.approx(square, rel=5e-3 if name == "sawtooth" else 1e-4)
    assert found["best single function"] == pytest.approx(0, abs=1e-9)


def test_a_sawtooth_of_one_frequency_and_phase_has_its_integral_in_closed_form() -> None:
    # From -1 to 1 in each of the two turns within [-pi, pi], whatever the phase.
    config = section("sawtooth", f"x: [{-math.pi}, {math.pi}], amplitude: [3, 3], frequency: [2, 2], phase: [0.7, 0.7]")
    assert built(config).bounds(None)["zero predictor"] == pytest.approx(9 / 3, rel=1e-12)
