"""Averaged models: each is trained as if alone, and their mean is what adapts."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from mamlcli import parse_config
from mamlcli.errors import UsageError
from mamlcli.experiment import Experiment, make_experiment
from mamlcli.methods.averaged import mean_of_models, task_numbers, without_numbers
from mamlcli.tasks.samples import Samples, Task, all_samples, some_tasks
from mamlcli.training import make_update
from mamlcli.types import Params

SMALL = """
name: apart
seeds: [3]
device: cpu
tasks: {pool: 4, support_shots: 3, query_shots: 2}
model: {hidden_sizes: [5], activation: tanh}
algorithm: {name: averaged, models: 4}
outer: {meta_batch_size: 4, lr: 0.01}
"""
CPU = torch.device("cpu")


@pytest.fixture
def experiment() -> Experiment:
    return make_experiment(parse_config(SMALL))


def rounds(experiment: Experiment, count: int) -> Iterator[Task]:
    return experiment.stream().batches(0, count)


def test_each_task_of_a_pool_says_its_number_in_the_order_that_it_is_met_in(experiment: Experiment) -> None:
    first, *others = [task_numbers(tasks)[0].tolist() for tasks in rounds(experiment, 6)]
    assert all(sorted(numbers) == [0, 1, 2, 3] for numbers in (first, *others))
    assert any(numbers != first for numbers in others), "a round has an order of its own"
    # Tasks of one number lie on one sinusoid: those of noiseless samples of 40 rounds fit one amplitude and phase.
    samples = [
        (x.double(), y.double())
        for tasks in rounds(experiment, 40)
        for number, x, y in zip(
            task_numbers(tasks)[0].tolist(), *(part[0] for part in all_samples(without_numbers(tasks))), strict=True
        )
        if number == 2
    ]
    x, y = (torch.cat(parts).flatten() for parts in zip(*samples, strict=True))
    design = torch.stack([x.sin(), x.cos()], dim=1)
    left = y - design @ torch.linalg.lstsq(design, y.unsqueeze(1)).solution.squeeze(1)
    assert left.abs().max() < 1e-4


def test_each_model_is_trained_as_torch_trains_it_alone(experiment: Experiment) -> None:
    state = experiment.initial_state(CPU)
    alone = [
        {name: value[0, model].clone().requires_grad_() for name, value in state.params.items()} for model in range(4)
    ]
    # A meta-loss is the mean over tasks: each model's share of it is a quarter.
    optimizers = [torch.optim.Adam(list(theta.values()), lr=0.01) for theta in alone]
    update = make_update(state, experiment.method.meta_gradient, None)
    for tasks in rounds(experiment, 5):
        update(tasks)
        for number, x, y in zip(
            task_numbers(tasks)[0].tolist(), *(part[0] for part in all_samples(without_numbers(tasks))), strict=True
        ):
            optimizers[number].zero_grad()
            torch.autograd.backward(experiment.loss_fn(alone[number], Samples(x, y)) / 4)
            optimizers[number].step()
    for model, theta in enumerate(alone):
        for name, value in theta.items():
            torch.testing.assert_close(state.params[name][0, model], value.detach(), rtol=1e-4, atol=1e-5)


def test_what_adapts_is_the_mean_of_all_models(experiment: Experiment) -> None:
    params: Params = {name: value[0] for name, value in experiment.initial_state(CPU).params.items()}
    begun = experiment.method.inner.start(params).theta
    for name, value in begun.items():
        torch.testing.assert_close(value, torch.stack(list(params[name])).mean(dim=0))
    assert list(begun) == list(mean_of_models(params))


@pytest.mark.parametrize("penalty", ["none", "l2", "mean"])
def test_a_whole_round_has_the_gradient_that_its_halves_have_together(penalty: str) -> None:
    text = SMALL.replace("models: 4", f"models: 4, penalty: {penalty}, strength: 0.3")
    experiment = make_experiment(parse_config(text))
    gradient = experiment.method.meta_gradient
    params = {name: value.double() for name, value in experiment.initial_state(CPU).params.items()}
    tasks = experiment.stream().batch(0).map(Tensor.double)
    whole, log = gradient(params, tasks)
    halves = [gradient(params, some_tasks(tasks, half)) for half in (slice(2), slice(2, 4))]
    for name, value in whole.items():
        torch.testing.assert_close(value, (halves[0][0][name] + halves[1][0][name]) / 2)
    assert ("meta_loss" in log) == (penalty != "none")


def test_models_without_a_task_each_are_refused_with_what_to_set() -> None:
    for tasks in ("{}", "{pool: 5}"):
        config = parse_config(SMALL.replace("{pool: 4, support_shots: 3, query_shots: 2}", tasks))
        with pytest.raises(UsageError, match=r"set tasks\.pool: 4"):
            make_experiment(config)
