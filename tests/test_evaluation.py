"""Adaptation curves against an explicit loop, statistics against SciPy."""

import numpy as np
import pytest
import torch
from scipy import stats

from mamlcli.meta_test.losses import adaptation_losses, summarise
from mamlcli.methods.inner_loops import constant_rate, gradient_descent
from mamlcli.models.layers import init_params
from mamlcli.tasks.family import Request
from mamlcli.tasks.sinusoid import SinusoidTasks, sinusoid
from mamlcli.tasks.stream import TaskList
from tests.test_maml import loss_fn


def test_adaptation_losses_equal_an_explicit_loop_measured_on_query() -> None:
    params = [init_params([1, 6, 1], init="torch_default", seed=seed) for seed in (0, 1)]
    stacked = {name: torch.stack([one[name] for one in params]) for name in params[0]}
    tasks = TaskList(sinusoid(SinusoidTasks()), 0, "meta-test").tasks(0, 3, Request(support_shots=4, query_shots=5))
    inner = gradient_descent(loss_fn, constant_rate(0.05))
    (losses,) = adaptation_losses(inner, loss_fn, stacked, tasks, inner_steps=2).values()
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
    # Seeds: T times the variance of their means, on 2 degrees; what tasks add to that: S times theirs less the rest's.
    seeds, tasks = 40 * values.mean(axis=1).var(ddof=1), 3 * values.mean(axis=0).var(ddof=1)
    left = values - values.mean(axis=1, keepdims=True) - values.mean(axis=0) + values.mean()
    added = max(tasks - np.sum(left**2) / (2 * 39), 0.0)
    t = np.average(stats.t.ppf(0.975, [2, 39]), weights=[seeds, added])
    assert over["ci95"] == pytest.approx(t * np.sqrt((seeds + added) / 120))
    assert over["median"] == pytest.approx(np.median(values))
    assert over["interval"] == "over seeds and tasks"


def test_tasks_that_diverged_are_counted_and_kept() -> None:
    losses = torch.ones(1, 5, 1)
    losses[0, :3, 0] = torch.tensor([float("inf"), float("nan"), 1e3])
    row = summarise(losses, seeds=(0,), shots=5, diverged_above=100.0)[0]
    assert row["num_diverged"] == 3
    assert row["mean"] is None
    assert row["ci95"] is None
    losses[0, 0, 0] = 1.0  # two of five are left
    assert summarise(losses, seeds=(0,), shots=5, diverged_above=100.0)[0]["median"] == 1.0


def test_one_seed_has_no_interval_over_seeds_and_says_so() -> None:
    rows = summarise(torch.arange(5.0).view(1, 5, 1), seeds=(0,), shots=5, diverged_above=100.0)
    assert [row["seed"] for row in rows] == [0, "all"]
    assert rows[0]["ci95"] == pytest.approx(stats.t.ppf(0.975, 4) * stats.sem(range(5)))
    assert rows[0]["interval"] == "over tasks of one seed; nothing is known of other seeds"
    assert rows[1]["ci95"] is None
    assert rows[1]["interval"] == "none: one seed says nothing of other seeds"


def test_the_interval_over_all_seeds_knows_that_tasks_are_a_sample() -> None:
    # Ten seeds that agree on every task, so that all that is uncertain is which tasks there are.
    losses = torch.from_numpy(np.random.default_rng(2).gamma(2.0, size=(1, 50, 1))).expand(10, 50, 1)
    rows = summarise(losses, seeds=range(10), shots=5, diverged_above=100.0)
    assert rows[-1]["ci95"] == pytest.approx(rows[0]["ci95"])
