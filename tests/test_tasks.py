"""The task stream: a pure function of (seed, split, step)."""

import math
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats
from torch import Tensor

from mamlcli import parse_config
from mamlcli.experiment import make_experiment
from mamlcli.tasks.family import Request
from mamlcli.tasks.numbers import parameter_lane
from mamlcli.tasks.samples import Samples, Task
from mamlcli.tasks.sinusoid import SinusoidTasks, sinusoid
from mamlcli.tasks.stream import TaskList, TaskStream

PLAIN, NOISY = SinusoidTasks(), SinusoidTasks(noise_std=0.3, frequency=(0.5, 2.0))


class Sinusoids(NamedTuple):
    """The functions behind n tasks: each parameter of shape (n, 1, 1), in float64."""

    amplitude: Tensor
    phase: Tensor
    frequency: Tensor

    def at(self, x: Tensor) -> Tensor:
        return self.amplitude * (self.frequency * x.double() - self.phase).sin()


def sinusoids(config: SinusoidTasks, tasks: TaskList, first: int, count: int) -> Sinusoids:
    """Draw the parameters of tasks from the random numbers that are theirs."""
    numbers, intervals = tasks.numbers(first, count), (config.amplitude, config.phase, config.frequency)
    drawn = (numbers.between(interval, parameter_lane(index), 1) for index, interval in enumerate(intervals))
    return Sinusoids(*(values.unsqueeze(-1) for values in drawn))


def leaves(task: Task) -> list[torch.Tensor]:
    return [part for side in task for part in side]


def equal(one: Task, other: Task) -> bool:
    return all(torch.equal(a, b) for a, b in zip(leaves(one), leaves(other), strict=True))


def stream(seeds: tuple[int, ...] = (0, 5), size: int = 3) -> TaskStream:
    return TaskStream(sinusoid(NOISY), seeds, size, Request(support_shots=4, query_shots=2))


def test_shapes_are_seeds_tasks_shots_one() -> None:
    batch = stream().batch(7)
    assert batch.support.x.shape == batch.support.y.shape == (2, 3, 4, 1)
    assert batch.query.x.shape == batch.query.y.shape == (2, 3, 2, 1)
    assert batch.support.x.dtype == torch.float32


@settings(max_examples=25, deadline=None)
@given(first=st.integers(0, 10**9), count=st.integers(1, 40), size=st.integers(1, 7))
def test_any_range_of_steps_gives_the_same_tasks(first: int, count: int, size: int) -> None:
    tasks = stream(size=size)
    for offset, batch in enumerate(tasks.batches(first, first + count)):
        if offset in (0, count // 2, count - 1):
            assert equal(batch, tasks.batch(first + offset))


@settings(max_examples=25, deadline=None)
@given(block=st.integers(1, 1000), count=st.integers(1, 12))
def test_any_block_size_gives_the_same_tasks(block: int, count: int) -> None:
    expected = list(stream().batches(3, 3 + count))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mamlcli.tasks.stream._BLOCK_SAMPLES", block)
        assert all(equal(a, b) for a, b in zip(stream().batches(3, 3 + count), expected, strict=True))


def test_seeds_side_by_side_get_the_tasks_of_each_seed_alone() -> None:
    both, alone = stream((0, 5)).batch(9), stream((5,)).batch(9)
    assert all(torch.equal(a[1], b[0]) for a, b in zip(leaves(both), leaves(alone), strict=True))


@settings(max_examples=25, deadline=None)
@given(one=st.integers(0, 2**63 - 1), other=st.integers(0, 2**63 - 1))
def test_different_seeds_and_splits_share_no_task(one: int, other: int) -> None:
    lists = [TaskList(sinusoid(NOISY), seed, split) for seed in {one, other} for split in ("meta-train", "meta-test")]
    amplitudes = torch.cat([sinusoids(NOISY, tasks, 0, 50).amplitude for tasks in lists])
    assert len(set(amplitudes.flatten().tolist())) == 50 * len(lists)


def test_fewer_shots_are_the_first_of_more() -> None:
    tasks = TaskList(sinusoid(NOISY), 0, "meta-test")
    few, many = (tasks.tasks(0, 6, Request(k, query_shots=9)) for k in (5, 20))
    assert torch.equal(few.support.y, many.support.y[:, :5])
    assert equal(Task(few.query, few.query), Task(many.query, many.query))


def test_targets_are_the_sinusoid_of_the_inputs() -> None:
    config = SinusoidTasks(frequency=(0.5, 2.0))
    tasks = TaskList(sinusoid(config), 1, "meta-train")
    functions = sinusoids(config, tasks, 10, 8)
    for samples in tasks.tasks(10, 8, Request(support_shots=5, query_shots=3)):
        np.testing.assert_allclose(samples.y.numpy(), functions.at(samples.x).numpy(), atol=5e-6)


def test_curves_are_the_functions_behind_the_tasks_on_an_even_grid_without_noise() -> None:
    tasks = TaskList(sinusoid(NOISY), 1, "meta-test")
    assert tasks.family.curves is not None
    curves = tasks.family.curves(tasks.numbers(10, 8), 11)
    assert curves.x.tolist() == [-5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5]
    assert torch.equal(curves.inputs, curves.x.float().view(1, 11, 1).expand(8, 11, 1))
    torch.testing.assert_close(curves.y, sinusoids(NOISY, tasks, 10, 8).at(curves.x.view(1, -1, 1)))


def test_parameters_and_inputs_are_uniform_in_their_intervals() -> None:
    tasks = TaskList(sinusoid(PLAIN), 2, "meta-train")
    functions = sinusoids(PLAIN, tasks, 0, 4000)
    batch = tasks.tasks(0, 4000, Request(support_shots=2, query_shots=1))
    assert (functions.frequency == 1).all()
    for values, low, high in (
        (functions.amplitude, 0.1, 5.0),
        (functions.phase, 0.0, np.pi),
        (batch.support.x[:, 0], -5.0, 5.0),
        (batch.support.x[:, 1], -5.0, 5.0),
        (batch.query.x, -5.0, 5.0),
    ):
        assert stats.kstest(values.flatten().numpy(), "uniform", (low, high - low)).pvalue > 1e-3


def test_support_and_query_are_independent() -> None:
    batch = TaskList(sinusoid(PLAIN), 2, "meta-train").tasks(0, 4000, Request(support_shots=1, query_shots=1))
    correlation = np.corrcoef(batch.support.x.flatten().numpy(), batch.query.x.flatten().numpy())[0, 1]
    assert abs(correlation) < 4 / np.sqrt(4000)


def test_noise_is_gaussian_of_the_given_width_on_support_and_query() -> None:
    tasks = TaskList(sinusoid(NOISY), 3, "meta-train")
    functions = sinusoids(NOISY, tasks, 0, 2000)
    for samples in tasks.tasks(0, 2000, Request(support_shots=1, query_shots=1)):
        noise = (samples.y.double() - functions.at(samples.x)).flatten().numpy()
        assert stats.kstest(noise, "norm", (0, 0.3)).pvalue > 1e-3


def test_the_zero_predictor_scores_the_analytic_anchor() -> None:
    # E[A^2] E[sin^2] with A in U[0.1, 5] and x in U[-5, 5], phase in U[0, pi].
    batch = TaskList(sinusoid(PLAIN), 0, "meta-test").tasks(0, 20_000, Request(support_shots=1, query_shots=10))
    losses = batch.query.y.square().mean(dim=(1, 2)).numpy()
    assert losses.mean() == pytest.approx(4.2517, abs=4 * losses.std() / np.sqrt(20_000))


def test_the_stream_is_pinned() -> None:
    # Philox 4x64-10 with key (seed, split) and counter (block, 0, shot, lane): NumPy's own raw numbers.
    raw = np.random.Philox(key=5, counter=3 << 192).random_raw(1)[0]
    x = TaskList(sinusoid(PLAIN), 5, "meta-train").tasks(0, 1, Request(support_shots=1, query_shots=1)).support.x
    assert x.item() == pytest.approx(-5 + 10 * (int(raw) / 2**64), abs=1e-6)


def test_samples_are_a_pair_of_tensors() -> None:
    assert Samples._fields == ("x", "y")


# Neither symmetric nor over whole periods, so that nothing cancels.
SKEWED = SinusoidTasks(amplitude=(1.0, 2.0), phase=(0.3, 1.1), frequency=(0.5, 2.5), x=(-1.0, 4.0), noise_std=0.3)


def single(frequency: float, amplitude: float, phase: float) -> SinusoidTasks:
    """Tasks that are all the same function on [-1, 4]."""
    return SinusoidTasks(
        amplitude=(amplitude, amplitude), phase=(phase, phase), frequency=(frequency, frequency), x=(-1.0, 4.0)
    )


def bound(config: SinusoidTasks, name: str, grid: int | None = None) -> float:
    return sinusoid(config).bounds(grid)[name]


def skewed_query() -> Samples:
    return TaskList(sinusoid(SKEWED), 0, "meta-test").tasks(0, 20_000, Request(support_shots=1, query_shots=20)).query


def test_what_zero_scores_is_what_an_integral_and_twenty_thousand_tasks_say() -> None:
    integral, _ = integrate.tplquad(lambda p, w, x: np.sin(w * x - p) ** 2, -1.0, 4.0, 0.5, 2.5, 0.3, 1.1)
    square, _ = integrate.quad(np.square, 1.0, 2.0)
    found = bound(SKEWED, "zero predictor")
    assert found == pytest.approx(square * integral / (5 * 2 * 0.8) + 0.09, rel=1e-9)
    losses = skewed_query().y.double().square().mean(dim=(1, 2)).numpy()
    assert abs(losses.mean() - found) < 3 * stats.sem(losses)


def test_the_best_single_function_says_the_mean_of_all_tasks() -> None:
    # E[y | x] = E[A] E[sin(omega x - phase)], with omega and the phase on the midpoints of a fine grid.
    middles = (np.arange(200) + 0.5) / 200
    frequency, phase = np.meshgrid(0.5 + 2 * middles, 0.3 + 0.8 * middles)
    line = np.linspace(-1.0, 4.0, 2001)
    mean = 1.5 * np.array([np.sin(frequency * x - phase).mean() for x in line])
    found = bound(SKEWED, "best single function")
    square = integrate.trapezoid(mean**2, line) / 5
    assert found == pytest.approx(bound(SKEWED, "zero predictor") - square, rel=1e-4)
    x, y = (part.flatten(1).numpy() for part in skewed_query())
    losses = ((np.interp(x, line, mean) - y) ** 2).mean(axis=1)
    assert abs(losses.mean() - found) < 3 * stats.sem(losses)


def test_what_zero_scores_on_a_grid_is_the_sum_over_its_points() -> None:
    config = single(1.5, amplitude=2.0, phase=0.3)
    x = torch.linspace(-1.0, 4.0, 7, dtype=torch.float64)
    expected = (2.0 * torch.sin(1.5 * x - 0.3)).square().mean().item()
    assert bound(config, "zero predictor", grid=7) == pytest.approx(expected, rel=1e-12)
    assert bound(config, "zero predictor") != pytest.approx(expected, rel=1e-2)


@pytest.mark.parametrize("frequency", [1e-6, 1.0, 300.0])
def test_what_zero_scores_of_one_phase_is_a_closed_form(frequency: float) -> None:
    config = single(frequency, amplitude=3.0, phase=0.7)
    angles = [2 * (frequency * x - 0.7) for x in (-1.0, 4.0)]
    cosine = (math.sin(angles[1]) - math.sin(angles[0])) / (angles[1] - angles[0])
    assert bound(config, "zero predictor") == pytest.approx(9 * (1 - cosine) / 2, rel=1e-8)
    assert bound(config, "best single function") == pytest.approx(0.0, abs=1e-7)


@pytest.mark.parametrize("steps", [1, 4])
def test_what_a_process_draws_are_those_tasks_of_the_whole(steps: int) -> None:
    config = parse_config("{name: a, seeds: [3, 5, 7], outer: {meta_batch_size: 9}}")
    stream = make_experiment(config).stream()
    whole = next(stream.blocks(6, 6 + steps))
    of_seeds = next(stream._replace(rows=range(1, 3)).blocks(6, 6 + steps))
    of_tasks = next(stream._replace(places=range(4, 9)).blocks(6, 6 + steps))
    for all_of_it, seeds, tasks in zip(
        *((one.support.x, one.query.y) for one in (whole, of_seeds, of_tasks)), strict=True
    ):
        assert torch.equal(all_of_it[:, 1:3], seeds[:, 1:3])
        assert torch.equal(all_of_it[:, :, 4:9], tasks[:, :, 4:9])
