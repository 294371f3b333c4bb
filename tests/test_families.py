"""The families beside the sinusoid: their samples, what an oracle is told, and what is known of their losses."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import integrate, stats

from mamlcli import FunctionTasksSection, TaskFamily, parse_config
from mamlcli.errors import ConfigError
from mamlcli.experiment import make_experiment
from mamlcli.tasks import damped_oscillator as oscillator
from mamlcli.tasks import dose_response as dose
from mamlcli.tasks.damped_oscillator import DampedOscillatorTasks, damped_oscillator
from mamlcli.tasks.dose_response import DoseResponseTasks, dose_response
from mamlcli.tasks.family import Request
from mamlcli.tasks.samples import Samples
from mamlcli.tasks.stream import TaskList

Array = NDArray[np.float64]


def oscillation(x: Array, amplitude: Array, damping: Array, frequency: Array, phase: Array) -> Array:
    # The real part of a turning pointer that shrinks.
    pointer: Array = (amplitude * np.exp((-damping + 1j * frequency) * x - 1j * phase)).real
    return pointer


def response(x: Array, baseline: Array, e_max: Array, ec50: Array, hill: Array) -> Array:
    power: Array = x**hill
    return baseline + e_max * power / (ec50**hill + power)


# Ranges that are symmetric in nothing, so that nothing cancels.
OSCILLATOR = DampedOscillatorTasks(
    amplitude=(1.0, 2.0), damping=(0.1, 0.6), frequency=(0.5, 2.5), phase=(0.3, 1.1), x=(0.5, 4.0), noise_std=0.3
)
DOSE = DoseResponseTasks(baseline=(0.5, 1.0), e_max=(1.0, 3.0), ec50=(0.2, 6.0), hill=(0.7, 2.5), noise_std=0.3)
FORMULAS: dict[str, Callable[..., Array]] = {"damped_oscillator": oscillation, "dose_response": response}
CASES = [OSCILLATOR, DOSE, DampedOscillatorTasks(), DoseResponseTasks()]
NAMES = {
    "damped_oscillator": ["amplitude", "damping", "frequency", "phase"],
    "dose_response": ["baseline", "e_max", "ec50", "hill"],
}
cases = pytest.mark.parametrize("config", CASES, ids=["oscillator", "dose", "default oscillator", "Michaelis-Menten"])


def built(config: FunctionTasksSection, **changes: object) -> TaskFamily:
    config = config.model_copy(update=changes)
    return damped_oscillator(config) if isinstance(config, DampedOscillatorTasks) else dose_response(config)  # type: ignore[arg-type]


def query(config: FunctionTasksSection, tasks: int = 500, shots: int = 7, **changes: object) -> Samples:
    return TaskList(built(config, **changes), 3, "meta-test").tasks(0, tasks, Request(2, shots)).query


def oracle(config: FunctionTasksSection, seen: torch.Tensor) -> Array:
    """What is true, of what a model is told: x, the parameters that vary in their order, and what is always so."""
    columns = iter(seen.double().numpy().transpose(2, 0, 1))
    x, values = next(columns), {}
    for name in NAMES[config.family]:
        low, high = getattr(config, name)
        values[name] = np.float64(low) if low == high else next(columns)
    assert next(columns, None) is None
    return FORMULAS[config.family](x, **values)


@cases
def test_an_oracle_that_is_told_the_parameters_that_vary_is_right_without_noise(config: FunctionTasksSection) -> None:
    x, y = query(config, oracle_inputs=True, noise_std=0.0)
    np.testing.assert_allclose(y[..., 0].numpy(), oracle(config, x), atol=2e-5)


@cases
def test_what_an_oracle_misses_is_the_noise(config: FunctionTasksSection) -> None:
    x, y = query(config, oracle_inputs=True, noise_std=0.3)
    noise = (y[..., 0].numpy() - oracle(config, x)).ravel()
    assert stats.kstest(noise, "norm", (0, 0.3)).pvalue > 1e-3


@cases
def test_parameters_and_inputs_are_uniform_in_their_ranges(config: FunctionTasksSection) -> None:
    seen = query(config, tasks=4000, shots=1, oracle_inputs=True).x[:, 0].numpy()
    ranges = [config.x, *(getattr(config, name) for name in NAMES[config.family])]
    varying = [(low, high) for low, high in ranges if low < high]
    assert seen.shape[1] == len(varying)
    for values, (low, high) in zip(seen.T, varying, strict=True):
        assert stats.kstest(values, "uniform", (low, high - low)).pvalue > 1e-3


def test_without_being_told_a_model_sees_x_alone() -> None:
    for config in CASES:
        assert query(config).x.shape[-1] == built(config).num_inputs == 1


def gauss(interval: tuple[float, float], count: int) -> tuple[Array, Array]:
    """Nodes and weights of the mean over an interval; of one number, the number."""
    low, high = interval
    nodes, weights = np.polynomial.legendre.leggauss(count if low < high else 1)
    return (low + high) / 2 + (high - low) / 2 * nodes, weights / 2


@cases
def test_what_is_known_of_losses_is_what_a_sum_over_all_parameters_and_inputs_says(
    config: FunctionTasksSection,
) -> None:
    # E[y^2] and E[E[y | x]^2] by the formula itself, at every combination of ten nodes of each parameter.
    grids = [gauss(getattr(config, name), 10) for name in NAMES[config.family]]
    values = [axis.ravel() for axis in np.meshgrid(*(nodes for nodes, _ in grids), indexing="ij")]
    weights = np.prod([axis.ravel() for axis in np.meshgrid(*(part for _, part in grids), indexing="ij")], axis=0)
    square = single = 0.0
    for x, weight in zip(*gauss(config.x, 300), strict=True):
        y = FORMULAS[config.family](x, *values)
        square += weight * (weights @ y**2)
        single += weight * (weights @ y) ** 2
    found = built(config).bounds(None)
    assert found["zero predictor"] == pytest.approx(square + config.noise_std**2, rel=1e-5)
    assert found["best single function"] == pytest.approx(square - single + config.noise_std**2, rel=1e-5)


@cases
def test_zero_and_the_mean_of_all_functions_score_what_is_known_on_twenty_thousand_tasks(
    config: FunctionTasksSection,
) -> None:
    tasks = TaskList(built(config), 3, "meta-test").tasks(0, 20_000, Request(1, 21, query_grid=True))
    y, found = tasks.query.y[..., 0].double().numpy(), built(config).bounds(21)
    zero, single = (y**2).mean(axis=1), ((y - y.mean(axis=0)) ** 2).mean(axis=1)
    assert abs(zero.mean() - found["zero predictor"]) < 4 * stats.sem(zero)
    assert abs(single.mean() - found["best single function"]) < 4 * stats.sem(single)


def test_michaelis_menten_has_its_integrals_in_closed_form() -> None:
    # With ec50 = c uniform in [a, b]: E[x / (c + x)] = x ln((b + x) / (a + x)) / (b - a), and
    # E[(x / (c + x))^2] = x^2 / ((a + x) (b + x)); over x in [0, X] by SciPy.
    a, b, end = 0.5, 5.0, 10.0
    square, _ = integrate.quad(lambda x: x**2 / ((a + x) * (b + x)), 0, end, epsabs=1e-13)
    single, _ = integrate.quad(lambda x: (x * np.log((b + x) / (a + x)) / (b - a)) ** 2, 0, end, epsabs=1e-13)
    e_square = (1 + 5 + 25) / 3
    found = dose_response(DoseResponseTasks()).bounds(None)
    assert found["zero predictor"] == pytest.approx(e_square * square / end, rel=1e-10)
    assert found["best single function"] == pytest.approx((e_square * square - 9 * single) / end, rel=1e-9)


@pytest.mark.parametrize("hill", [0.3, 2.0, 20.0])
def test_a_steep_or_flat_response_to_one_dose_of_half_has_the_integral_of_scipy(hill: float) -> None:
    config = DoseResponseTasks(e_max=(2.0, 2.0), ec50=(3.0, 3.0), hill=(hill, hill))
    integral, _ = integrate.quad(lambda x: (2 / (1 + (3 / x) ** hill)) ** 2, 0, 10, points=[3.0], epsabs=1e-12)
    found = dose_response(config).bounds(None)
    assert found["zero predictor"] == pytest.approx(integral / 10, rel=1e-8)
    assert found["best single function"] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(("damping", "frequency"), [(0.0, 1.3), (0.2, 7.0), (40.0, 2.0)])
def test_one_oscillation_has_the_integral_of_scipy(damping: float, frequency: float) -> None:
    config = DampedOscillatorTasks(
        amplitude=(3.0, 3.0), damping=(damping, damping), frequency=(frequency, frequency), phase=(0.7, 0.7)
    )
    integral, _ = integrate.quad(
        lambda x: (3 * np.exp(-damping * x) * np.cos(frequency * x - 0.7)) ** 2, 0, 10, limit=500, points=[0.1, 1.0]
    )
    found = damped_oscillator(config).bounds(None)
    assert found["zero predictor"] == pytest.approx(integral / 10, rel=1e-8)
    assert found["best single function"] == pytest.approx(0, abs=1e-12)


def test_an_oscillation_solves_its_equation_of_motion() -> None:
    # y'' + 2 damping y' + (damping^2 + frequency^2) y = 0, with y' and y'' of torch on the curves of the family.
    x = torch.linspace(0, 5, 11, dtype=torch.float64, requires_grad=True)
    values = [torch.tensor(value, dtype=torch.float64) for value in (2.0, 0.3, 1.7, 0.4)]
    y = oscillator._function(x, *values)
    (slope,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    (curvature,) = torch.autograd.grad(slope.sum(), x)
    residual = curvature + 2 * 0.3 * slope + (0.3**2 + 1.7**2) * y
    torch.testing.assert_close(residual, torch.zeros_like(residual), atol=1e-12, rtol=0)


@pytest.mark.parametrize("hill", [1.0, 2.0, 60.0])
def test_a_response_has_its_value_and_every_derivative_at_no_dose_at_half_and_at_doses_without_end(hill: float) -> None:
    x = torch.tensor([0.0, 1e-300, 0.5, 3.0, 1e6, 1e300], dtype=torch.float64, requires_grad=True)
    values = [torch.full((6,), value, dtype=torch.float64, requires_grad=True) for value in (0.2, 2.0, 3.0, hill)]
    y = dose._function(x, *values)
    assert y[[0, 3, 5]].tolist() == pytest.approx([0.2, 1.2, 2.2])
    grads = torch.autograd.grad(y.sum(), [x, *values])
    assert all(torch.isfinite(grad).all() for grad in grads)
    # d/dx at 0 is e_max / ec50 for hill 1 and 0 above; at ec50 it is e_max hill / (4 ec50).
    assert grads[0][0].item() == pytest.approx(2 / 3 if hill == 1 else 0)
    assert grads[0][3].item() == pytest.approx(2 * hill / 12)


def test_the_defaults_of_inputs_start_at_the_release_and_at_no_dose() -> None:
    for name in FORMULAS:
        config = parse_config(f"name: a\ntasks: {{family: {name}}}")
        assert config.tasks.x == (0.0, 10.0)  # type: ignore[attr-defined]
        assert make_experiment(config).family.domain == "[0, 10]"


@pytest.mark.parametrize(
    ("family", "key", "value", "message"),
    [
        ("damped_oscillator", "damping", "[-0.1, 1]", "must hold no negative number, got [-0.1, 1.0]"),
        ("damped_oscillator", "x", "[-5, 5]", "must hold no negative number, got [-5.0, 5.0]"),
        ("damped_oscillator", "frequency", "[0, 1]", "must hold positive numbers alone, got [0.0, 1.0]"),
        ("dose_response", "ec50", "[0, 1]", "must hold positive numbers alone, got [0.0, 1.0]"),
        ("dose_response", "hill", "[-1, 1]", "must hold positive numbers alone, got [-1.0, 1.0]"),
        ("dose_response", "e_max", "[0, 0]", "must hold positive numbers alone, got [0.0, 0.0]"),
        ("dose_response", "x", "[-1, 1]", "must hold no negative number, got [-1.0, 1.0]"),
        ("dose_response", "baseline", "[-1, 1]", "must hold no negative number, got [-1.0, 1.0]"),
        ("dose_response", "ec50", "[2, 1]", "must be [low, high] with low <= high, got [2.0, 1.0]"),
    ],
)
def test_an_interval_that_makes_no_sense_is_refused_at_its_key(family: str, key: str, value: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(f"name: a\ntasks: {{family: {family}}}", overrides=[f"tasks.{key}={value}"])
    assert f"tasks.{key}: {message}" in str(caught.value)
