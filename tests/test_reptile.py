"""Reptile, against PyTorch's own optimisers and layers, and what is said of its having no slope."""

import pytest
import torch
from torch import Tensor, nn

from mamlcli import Config, check_grads, compare_orders, parse_config
from mamlcli.compute.plan import make_plan
from mamlcli.errors import UsageError
from mamlcli.experiment import make_experiment
from mamlcli.tasks.samples import Task
from mamlcli.training import make_update
from tests.conftest import TINY, needs_compiler

CPU = torch.device("cpu")


def reptile(keys: str, *overrides: str) -> Config:
    return parse_config(TINY, overrides=[f"algorithm={{name: reptile, {keys}}}", *overrides])


def adapted_by_torch(values: list[Tensor], x: Tensor, y: Tensor) -> nn.Module:
    """Five steps of torch.optim.Adam on one task."""
    module = nn.Sequential(nn.Linear(1, 8), nn.ReLU(), nn.Linear(8, 1))
    for parameter, value in zip(module.parameters(), values, strict=True):
        parameter.data.copy_(value)
    optimizer = torch.optim.Adam(module.parameters(), lr=0.01)
    for _ in range(5):
        optimizer.zero_grad()
        torch.autograd.backward(nn.functional.mse_loss(module(x), y))
        optimizer.step()
    return module


def test_with_sgd_outside_the_weights_go_a_part_of_the_way_to_the_mean_of_the_adapted() -> None:
    experiment = make_experiment(reptile("inner_steps: 5, inner_lr: 0.01", "outer.optimizer=sgd", "outer.lr=0.3"))
    state, tasks = experiment.initial_state(CPU), experiment.stream().batch(0)
    begun = {name: value.clone() for name, value in state.params.items()}
    log, _ = make_update(state, experiment.method.meta_gradient, None)(tasks)
    for seed in range(2):
        ends, losses = [], []
        for index in range(3):
            support, query = (tuple(part[seed, index] for part in side) for side in tasks)
            ends.append(adapted_by_torch([value[seed] for value in begun.values()], *support))
            losses.append(nn.functional.mse_loss(ends[-1](query[0]), query[1]).detach())
        torch.testing.assert_close(log["post_adapt_loss"][seed], torch.stack(losses).mean())
        for number, (name, value) in enumerate(begun.items()):
            mean = torch.stack([list(end.parameters())[number].detach() for end in ends]).mean(dim=0)
            expected = value[seed] + 0.3 * (mean - value[seed])
            torch.testing.assert_close(state.params[name][seed], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("samples", ["support", "all"])
@pytest.mark.parametrize("rule", ["sgd", "momentum", "adam"])
def test_every_check_can_fail_and_holds_and_none_is_a_difference(rule: str, samples: str) -> None:
    report = check_grads(reptile(f"inner_steps: 3, inner_optimizer: {rule}, samples: {samples}"))
    assert {check["verdict"] for check in report.checks} == {"holds"}
    assert len(report.checks) == (1 if rule == "adam" else 2)
    assert not [check for check in report.checks if "difference" in check["compared_with"]]
    assert "the gradient of no loss" in report.notes[0]


@pytest.mark.parametrize("steps", [1, 2])
def test_what_it_steps_along_is_a_gradient_of_no_loss_from_two_inner_steps_on(steps: int) -> None:
    keys = f"inner_steps: {steps}, inner_lr: 0.2, inner_optimizer: sgd"
    experiment = make_experiment(reptile(keys, "model={hidden_sizes: [2], activation: tanh}", "seeds=[0]"))
    params = {name: value.double() for name, value in experiment.initial_state(CPU).params.items()}
    tasks = experiment.stream().batch(0).map(Tensor.double)
    flat = torch.cat([value.flatten() for value in params.values()])

    def moved(flat: Tensor) -> Tensor:
        cut = torch.split(flat, [value.numel() for value in params.values()])
        at = {name: part.view(value.shape) for (name, value), part in zip(params.items(), cut, strict=True)}
        return torch.cat([value.flatten() for value in experiment.method.meta_gradient(at, tasks)[0].values()])

    # A gradient has a symmetric Jacobian.
    jacobian = torch.stack([(moved(flat + 1e-5 * axis) - moved(flat - 1e-5 * axis)) / 2e-5 for axis in torch.eye(7)])
    asymmetry = (jacobian - jacobian.T).norm() / jacobian.norm()
    assert asymmetry < 1e-8 if steps == 1 else asymmetry > 1e-2
    assert ("inner_lr times the gradient of the loss on the support samples" in str(experiment.method.no_slope)) == (
        steps == 1
    )


def test_of_one_step_on_all_samples_it_is_the_gradient_of_joint_training() -> None:
    joint, own = (
        make_experiment(parse_config(TINY, overrides=["tasks.query_shots=10", f"algorithm={{name: {keys}}}"]))
        for keys in ("joint", "reptile, inner_steps: 1, inner_lr: 0.25, inner_optimizer: sgd, samples: all")
    )
    params = {name: value.double() for name, value in own.initial_state(CPU).params.items()}
    tasks: Task = own.stream().batch(0).map(Tensor.double)
    ours, theirs = (experiment.method.meta_gradient(params, tasks)[0] for experiment in (own, joint))
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], 0.25 * value)


@needs_compiler
@pytest.mark.parametrize(
    ("steps", "outer_steps", "compiled"), [(32, 4_999, False), (32, 5_000, True), (101, 100_000, False)]
)
def test_many_steps_that_nothing_differentiates_through_neither_cut_the_meta_batch_nor_put_off_a_graph(
    steps: int, outer_steps: int, compiled: bool
) -> None:
    config = reptile(
        f"inner_steps: {steps}", f"outer={{steps: {outer_steps}, meta_batch_size: 25}}", "model.hidden_sizes=[40, 40]"
    )
    plan = make_plan(make_experiment(config), CPU)
    assert (plan.chunk, plan.compiled) == (25, compiled)


def test_it_has_no_order_to_compare_and_says_so() -> None:
    with pytest.raises(UsageError, match="differentiates through no inner step"):
        compare_orders(reptile("inner_steps: 2"))
