"""Intervals against SciPy, an analysis of variance by least squares, and what they hold in a simulation."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from mamlcli.statistics import (
    MeanSquares,
    control_variate,
    crossed_half_width,
    half_width,
    half_width_of,
    interval_over,
    mean_squares,
)

# Variances of the effects of seeds and of tasks, and of what is left.
MIXES = {
    "seeds dominate": (1.0, 0.01, 0.01),
    "tasks dominate": (0.0001, 1.0, 0.01),
    "all are equal": (1.0, 1.0, 1.0),
    "both weigh alike in the mean": (0.01, 1.0, 0.1),
    "the residual dominates": (0.0001, 0.01, 1.0),
    "nothing but the residual": (0.0, 0.0, 1.0),
}


def coverage(mix: tuple[float, float, float], num_seeds: int, num_tasks: int, draws: int = 20_000) -> float:
    """How often the interval of a mean holds the truth: mean squares of normal effects are independent chi-squares."""
    seeds, tasks, residual = mix
    rng, few, many = np.random.default_rng([num_seeds, num_tasks]), num_seeds - 1, num_tasks - 1
    squares = MeanSquares(
        (residual + num_tasks * seeds) * rng.chisquare(few, draws) / few,
        (residual + num_seeds * tasks) * rng.chisquare(many, draws) / many,
        residual * rng.chisquare(few * many, draws) / (few * many),
    )
    deviation = np.sqrt(seeds / num_seeds + tasks / num_tasks + residual / (num_seeds * num_tasks))
    half = half_width_of(squares, num_seeds=num_seeds, num_tasks=num_tasks)
    return float(np.mean(1 - 2 * stats.norm.sf(half / deviation)))  # of a mean that does not depend on them


def tables(mix: tuple[float, float, float], num_seeds: int, num_tasks: int, count: int) -> NDArray[np.float64]:
    """Tables of crossed normal effects around zero."""
    rng = np.random.default_rng([num_seeds, num_tasks])
    shapes = ((count, num_seeds, 1), (count, 1, num_tasks), (count, num_seeds, num_tasks))
    seeds, tasks, left = (np.sqrt(part) * rng.standard_normal(shape) for part, shape in zip(mix, shapes, strict=True))
    drawn: NDArray[np.float64] = seeds + tasks + left
    return drawn


@pytest.mark.parametrize("num_tasks", [50, 100, 200, 600])
@pytest.mark.parametrize("num_seeds", [2, 3, 5, 10, 30])
def test_a_95_percent_interval_holds_the_truth_in_93_to_98_percent(num_seeds: int, num_tasks: int) -> None:
    found = {name: coverage(mix, num_seeds, num_tasks) for name, mix in MIXES.items()}
    # And wherever seeds and tasks stand to each other, not only where someone thought of looking.
    ratios = (0.0, 1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0)
    found |= {f"{a} : {b} : 1": coverage((a, b, 1.0), num_seeds, num_tasks) for a in ratios for b in ratios}
    outside = {name: held for name, held in found.items() if not 0.93 <= held <= 0.98}
    assert not outside


@pytest.mark.parametrize(("num_seeds", "num_tasks"), [(2, 100), (3, 100), (10, 100)])
@pytest.mark.parametrize("mix", MIXES.values(), ids=MIXES)
def test_tables_drawn_in_full_are_held_as_often(
    mix: tuple[float, float, float], num_seeds: int, num_tasks: int
) -> None:
    drawn = tables(mix, num_seeds, num_tasks, 2000)
    held = np.mean(np.abs(drawn.mean(axis=(1, 2))) <= crossed_half_width(drawn))
    assert held == pytest.approx(coverage(mix, num_seeds, num_tasks), abs=0.0175)  # three and a half standard errors


def test_few_tasks_and_many_seeds_are_held_like_few_seeds_and_many_tasks() -> None:
    drawn = tables((1.0, 1.0, 1.0), 30, 5, 50)
    np.testing.assert_allclose(crossed_half_width(drawn), crossed_half_width(drawn.transpose(0, 2, 1)))


def test_the_analysis_of_variance_is_that_of_least_squares() -> None:
    table = np.random.default_rng(0).gamma(2.0, size=(3, 7))
    seed, task = (index.ravel() for index in np.indices(table.shape))

    def left(*factors: NDArray[np.int64]) -> float:
        """The sum of squares that a linear model of these factors leaves."""
        design = np.column_stack([np.ones(21), *(np.eye(7)[factor] for factor in factors)])
        fit = design @ np.linalg.lstsq(design, table.ravel(), rcond=None)[0]
        return float(np.sum((table.ravel() - fit) ** 2))

    found = mean_squares(table)
    assert found.seeds == pytest.approx((left() - left(seed)) / 2)
    assert found.tasks == pytest.approx((left() - left(task)) / 6)
    assert found.residual == pytest.approx(left(seed, task) / 12)


def test_where_only_seeds_or_only_tasks_differ_the_interval_is_students() -> None:
    rng = np.random.default_rng(1)
    for effects, spread in ((rng.normal(size=(4, 1)), (4, 50)), (rng.normal(size=(1, 50)), (4, 50))):
        sample = effects.ravel()
        expected = stats.t.ppf(0.975, len(sample) - 1) * stats.sem(sample)
        assert crossed_half_width(np.broadcast_to(effects, spread)) == pytest.approx(expected)


def test_half_width_is_that_of_scipy() -> None:
    sample = np.random.default_rng(0).gamma(2.0, size=50)
    low, high = stats.t.interval(0.95, 49, loc=sample.mean(), scale=stats.sem(sample))
    assert half_width(sample) == pytest.approx((high - low) / 2)


def test_the_interval_of_one_seed_is_over_its_tasks_and_says_so() -> None:
    sample = np.random.default_rng(2).normal(0.3, 1.0, size=80)
    assert crossed_half_width(sample[None]) == pytest.approx(stats.t.ppf(0.975, 79) * stats.sem(sample))
    assert interval_over(1) == "over tasks of one seed; nothing is known of other seeds"
    assert interval_over(2) == "over seeds and tasks"


def test_equal_numbers_have_an_interval_of_exactly_zero() -> None:
    assert crossed_half_width(np.zeros((2, 3, 50))).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("num_seeds", [1, 3])
@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan, 1e300])
def test_an_interval_of_what_is_not_finite_is_not_a_number_and_spoils_no_other(num_seeds: int, value: float) -> None:
    differences = np.zeros((2, num_seeds, 50))
    differences[0, 0, 3] = value
    first, second = crossed_half_width(differences)
    assert np.isnan(first)
    assert second == 0.0


def test_one_value_has_no_interval() -> None:
    assert np.isnan(half_width(np.ones(1)))
    assert np.isnan(crossed_half_width(np.ones((3, 1))))
    assert np.isnan(crossed_half_width(np.ones((3, 2)), fitted=1))


def test_a_control_variate_is_the_intercept_of_a_line_through_the_tasks() -> None:
    rng = np.random.default_rng(3)
    control = rng.gamma(2.0, size=60)
    values = 0.2 * control + 0.05 * rng.normal(size=(1, 60))
    line = stats.linregress(control - 1.7, values[0])
    found = control_variate(values, control, expected=1.7)
    assert found.coefficient == pytest.approx(line.slope)
    assert found.values.mean() == pytest.approx(line.intercept)
    assert found.offset == pytest.approx(values.mean() - line.intercept)
    # The standard error at the mean of the control; at 1.7 it is larger by a part in the number of tasks.
    error = np.sqrt(np.sum((values[0] - line.intercept - line.slope * (control - 1.7)) ** 2) / 58 / 60)
    assert crossed_half_width(found.values, fitted=1) == pytest.approx(stats.t.ppf(0.975, 58) * error)


def test_a_corrected_mean_is_as_often_in_its_interval_and_nearer_to_the_truth() -> None:
    rng, truth = np.random.default_rng(4), 0.6
    plain, corrected, held = [], [], []
    for _ in range(1500):
        amplitude = rng.uniform(0.0, 1.0, size=100)
        difficulty = amplitude**2 * (1 + 0.3 * rng.normal(size=100))
        seeds, rest = 0.03 * rng.normal(size=(3, 1)), 0.2 * rng.normal(size=(3, 100)) * amplitude
        table = truth + seeds + (amplitude**2 - 1 / 3) + rest
        found = control_variate(table, difficulty, expected=1 / 3)
        plain.append(table.mean() - truth)
        corrected.append(found.values.mean() - truth)
        held.append(abs(corrected[-1]) <= crossed_half_width(found.values, fitted=1))
    assert np.mean(held) == pytest.approx(0.955, abs=0.025)
    assert abs(np.mean(corrected)) < 0.002
    assert np.std(corrected) < 0.8 * np.std(plain)


def test_a_control_that_does_not_vary_corrects_nothing() -> None:
    found = control_variate(np.ones((2, 5)), np.full(5, 3.0), expected=1.0)
    assert found.offset == 0.0
    assert found.values.tolist() == np.ones((2, 5)).tolist()
