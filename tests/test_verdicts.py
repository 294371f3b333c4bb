"""Statements about differences: what their words mean, and how often they are wrong."""

import math

import numpy as np
import pytest
from scipy import stats

from mamlcli.verdicts import (
    Difference,
    Spread,
    against,
    bound_statement,
    paired_difference,
    published_spread,
    spread_of_trainings,
    spread_over_tasks,
    statement,
)
from tests.error_rates import KINDS, SHARES, Kind, World, rates, wrong


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shares", SHARES.values(), ids=SHARES)
def test_statements_are_wrong_as_rarely_as_they_say(kind: Kind, shares: tuple[float, float, float]) -> None:
    draws = 2000 if kind == "paired" else 800
    found = wrong(kind, shares, draws)
    # Three standard errors of a rate that is counted in so many draws above what is allowed, and the rate of
    # equivalence is the larger of two sides.
    assert found["equivalent at the margin"] <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / draws)
    assert max(found["better at 0"], found["worse at 0"]) <= 0.025 + 3 * math.sqrt(0.025 * 0.975 / draws)


def test_what_is_clear_is_said_and_a_wide_interval_says_nothing() -> None:
    shares = SHARES["both weigh alike"]
    assert rates(World("paired", shares, 0.0, 0.1), 400)["equivalent"] > 0.99
    assert rates(World("paired", shares, 2.0, 0.3), 400)["worse"] > 0.95
    assert rates(World("paired", shares, 0.0, 3.0), 400)["equivalent"] == 0.0


@pytest.mark.parametrize(
    ("mean", "half95", "expected"),
    [
        (0.04, 0.05, "equivalent"),
        (-0.04, 0.05, "equivalent"),
        (0.09, 0.05, "worse"),
        (-0.09, 0.05, "better"),
        (0.09, 0.1, "inconclusive"),
        (0.0, 0.13, "inconclusive"),
        (0.0, math.nan, "inconclusive"),
        (math.nan, math.nan, "diverged"),
        (math.inf, math.nan, "diverged"),
    ],
)
def test_a_statement_follows_from_mean_interval_and_margin(mean: float, half95: float, expected: str) -> None:
    assert statement(Difference(mean, half95, 0.84 * half95), margin=0.1) == expected


@pytest.mark.parametrize(
    ("mean", "relation", "expected"),
    [
        (-3.0, "at_most", "met"),
        (0.004, "at_most", "met"),
        (0.05, "at_most", "not met"),
        (0.011, "at_most", "inconclusive"),
        (3.0, "at_least", "met"),
        (-0.05, "at_least", "not met"),
        (math.nan, "at_least", "diverged"),
    ],
)
def test_a_bound_is_met_on_its_side_alone(mean: float, relation: str, expected: str) -> None:
    assert bound_statement(Difference(mean, 0.012, 0.01), margin=0.02, relation=relation) == expected  # type: ignore[arg-type]


def test_the_90_percent_interval_of_what_was_published_is_of_its_own_distribution() -> None:
    assert published_spread(1.96).half90 == pytest.approx(1.6448, abs=1e-3)
    # 1.984 is the factor of 100 degrees of freedom.
    assert published_spread(1.984, 100).half90 == pytest.approx(stats.t.ppf(0.95, 100), abs=1e-3)


def test_uncertainties_of_both_sides_are_added_as_squares() -> None:
    assert against(1.0, 0.5, Spread(3.0, 2.0), Spread(4.0, 1.5)) == Difference(0.5, 5.0, 2.5)


def test_a_training_of_theirs_is_as_uncertain_as_a_next_seed_of_ours() -> None:
    values = np.random.default_rng(0).normal(size=(5, 40))
    means = values.mean(axis=1)
    once = spread_of_trainings(values, 1)
    assert once.half95 == pytest.approx(stats.t.ppf(0.975, 4) * means.std(ddof=1))
    assert spread_of_trainings(values, 4).half90 == pytest.approx(once.half90 / 2)
    assert spread_of_trainings(values[:1], 1) == Spread(0.0, 0.0)
    # With the seeds' own part it is Student's prediction interval.
    own = stats.t.ppf(0.975, 4) * stats.sem(means)
    whole = against(0.0, 0.0, Spread(own, own), Spread(once.half95, 0.0)).half95
    assert whole == pytest.approx(stats.t.ppf(0.975, 4) * means.std(ddof=1) * math.sqrt(1 + 1 / 5))


def test_a_paired_difference_has_both_intervals() -> None:
    values = np.random.default_rng(1).normal(0.2, 1.0, size=(1, 50))
    found = paired_difference(values)
    assert found.mean == pytest.approx(values.mean())
    assert found.half95 == pytest.approx(stats.t.ppf(0.975, 49) * stats.sem(values[0]))
    assert found.half90 == pytest.approx(stats.t.ppf(0.95, 49) * stats.sem(values[0]))
    assert spread_over_tasks(values) == pytest.approx(found[1:])
