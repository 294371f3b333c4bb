"""Adaptation curves against an explicit loop, statistics against SciPy."""

import numpy as np
import pytest
import torch
from scipy import stats

from mamlcli.algorithms.maml import adapt
from mamlcli.evaluation import adaptation_losses, bootstrap_intervals, half_width, student_quantile, summarise
from mamlcli.mlp import init_params
from mamlcli.tasks import Samples, SinusoidFamily, TaskList
from mamlcli.types import Params
from tests.test_maml import loss_fn


def sgd_step(params: Params, support: Samples, step: int) -> Params:
    del step
    return adapt(loss_fn, params, support, inner_lr=0.05, inner_steps=1, order="first")


def test_adaptation_losses_equal_an_explicit_loop_measured_on_query() -> None:
    params = [init_params([1, 6, 1], init="torch_default", seed=seed) for seed in (0, 1)]
    stacked = {name: torch.stack([one[name] for one in params]) for name in params[0]}
    tasks = TaskList(SinusoidFamily(), 0, "meta-test").tasks(0, 3, support_shots=4, query_shots=5)
    losses = adaptation_losses(loss_fn, sgd_step, stacked, tasks, inner_steps=2)
    assert losses.shape == (2, 3, 3)
    for seed in range(2):
        for task in range(3):
            module = torch.nn.Sequential(torch.nn.Linear(1, 6), torch.nn.Tanh(), torch.nn.Linear(6, 1))
            for parameter, value in zip(module.parameters(), params[seed].values(), strict=True):
                parameter.data.copy_(value)
            sgd = torch.optim.SGD(module.parameters(), lr=0.05)
            for step in range(3):
                query = torch.nn.functional.mse_loss(module(tasks.query.x[task]), tasks.query.y[task])
                torch.testing.assert_close(losses[seed, task, step], query.detach(), rtol=1e-5, atol=1e-6)
                sgd.zero_grad()
                support = torch.nn.functional.mse_loss(module(tasks.support.x[task]), tasks.support.y[task])
                torch.autograd.backward(support)
                sgd.step()


@pytest.mark.parametrize("degrees", [1, 2, 3, 4, 9, 10, 99, 599, 1001, 10**6])
@pytest.mark.parametrize("probability", [0.5, 0.95, 0.99])
def test_student_quantiles_are_those_of_scipy(degrees: int, probability: float) -> None:
    expected = stats.t.ppf((1 + probability) / 2, degrees)
    assert student_quantile(degrees, probability) == pytest.approx(expected, rel=1e-10)


def test_half_width_is_that_of_scipy() -> None:
    sample = np.random.default_rng(0).gamma(2.0, size=50)
    low, high = stats.t.interval(0.95, 49, loc=sample.mean(), scale=stats.sem(sample))
    assert half_width(sample) == pytest.approx((high - low) / 2)


def test_rows_say_mean_median_and_interval_per_seed_and_over_seeds() -> None:
    losses = torch.from_numpy(np.random.default_rng(1).gamma(2.0, size=(3, 40, 2)))
    rows = summarise(losses, seeds=(4, 5, 6), shots=10, diverged_above=3.0)
    assert [(row["inner_steps"], row["seed"]) for row in rows] == [(s, n) for s in (0, 1) for n in (4, 5, 6, "all")]
    values = losses.numpy()[:, :, 1]
    seed, over = rows[5], rows[7]
    assert seed["mean"] == pytest.approx(values[1].mean())
    assert seed["ci95"] == pytest.approx(stats.t.ppf(0.975, 39) * stats.sem(values[1]))
    assert seed["median"] == pytest.approx(np.median(values[1]))
    assert seed["num_diverged"] == (values[1] > 3).sum()
    assert seed["interval"] == "over tasks"
    assert over["mean"] == pytest.approx(values.mean())
    assert over["ci95"] == pytest.approx(stats.t.ppf(0.975, 2) * stats.sem(values.mean(axis=1)))
    assert over["median"] == pytest.approx(np.median(values))
    assert over["interval"] == "over seeds"


def test_tasks_that_diverged_are_counted_and_kept() -> None:
    losses = torch.ones(1, 5, 1)
    losses[0, :3, 0] = torch.tensor([float("inf"), float("nan"), 1e3])
    row = summarise(losses, seeds=(0,), shots=5, diverged_above=100.0)[0]
    assert row["num_diverged"] == 3
    assert row["mean"] is None
    assert row["ci95"] is None
    losses[0, 0, 0] = 1.0  # two of five are left
    assert summarise(losses, seeds=(0,), shots=5, diverged_above=100.0)[0]["median"] == 1.0


def test_one_seed_has_no_interval_over_seeds() -> None:
    rows = summarise(torch.ones(1, 5, 1), seeds=(0,), shots=5, diverged_above=100.0)
    assert rows[1]["seed"] == "all"
    assert rows[1]["ci95"] is None


def test_the_bootstrap_of_one_seed_is_that_of_scipy() -> None:
    sample = np.random.default_rng(2).normal(0.3, 1.0, size=80)
    low, high = bootstrap_intervals(sample[None, None, :])[0]
    expected = stats.bootstrap((sample,), np.mean, method="percentile", rng=0).confidence_interval
    assert low == pytest.approx(expected.low, abs=0.01)
    assert high == pytest.approx(expected.high, abs=0.01)


def test_the_bootstrap_sees_the_spread_over_seeds() -> None:
    seeds = np.array([[0.0], [1.0], [2.0]]) + np.zeros((3, 50))
    low, high = bootstrap_intervals(seeds[None])[0]
    assert low == pytest.approx(0.0, abs=0.34)
    assert high == pytest.approx(2.0, abs=0.34)


def test_equal_numbers_have_an_interval_of_exactly_zero() -> None:
    assert bootstrap_intervals(np.zeros((2, 3, 50))) == [(0.0, 0.0), (0.0, 0.0)]


def test_an_interval_of_what_is_not_finite_is_not_a_number_and_spoils_no_other() -> None:
    differences = np.zeros((2, 1, 50))
    differences[0, 0, 3] = np.inf
    first, second = bootstrap_intervals(differences)
    assert np.isnan(first).all()
    assert second == (0.0, 0.0)
