"""CAVIA against torch.nn with the context among its inputs; and meta-gradients that are clamped task by task."""

import pytest
import torch
from torch import Tensor, nn

from mamlcli import check_grads, parse_config
from mamlcli.compute.plan import make_plan, uncompiled_gradient
from mamlcli.errors import UsageError
from mamlcli.experiment import Experiment, make_experiment
from mamlcli.methods.inner_loops import constant
from mamlcli.methods.meta_gradients import adapted
from mamlcli.methods.method import make_bench
from mamlcli.models.module import module_model
from mamlcli.registry import build
from mamlcli.tasks.samples import Samples, some_tasks
from tests.conftest import TINY

CPU = torch.device("cpu")
CAVIA = "algorithm={name: cavia, inner_steps: 2, inner_lr: 0.7, context_size: 3}"


def experiment(*overrides: str) -> Experiment:
    return make_experiment(parse_config(TINY, overrides=overrides))


def test_the_first_layer_is_drawn_as_one_of_torch_that_sees_the_context_too() -> None:
    params = experiment(CAVIA).method.init(5)
    torch.manual_seed(5)
    layers = nn.Linear(1 + 3, 8), nn.Linear(8, 1)
    whole = torch.cat([params["layer0.weight"], params["context.weight"]], dim=1)
    # torch.nn.Linear scales what it has drawn in another order of rounding.
    torch.testing.assert_close(whole, layers[0].weight.detach(), rtol=1e-6, atol=1e-7)
    assert whole.abs().max() < (1 + 3) ** -0.5


def test_what_predicts_is_a_network_of_torch_that_was_given_the_adapted_context() -> None:
    chosen = experiment(CAVIA)
    params = {name: value.double() for name, value in chosen.method.init(1).items()}
    support = Samples(*(part[0, 0].double() for part in chosen.stream().batch(0).support))
    network = nn.Sequential(nn.Linear(1 + 3, 8), nn.ReLU(), nn.Linear(8, 1)).double()
    whole = torch.cat([params["layer0.weight"], params["context.weight"]], dim=1)
    values = [whole, *(params[name] for name in ("layer0.bias", "layer1.weight", "layer1.bias"))]
    for parameter, value in zip(network.parameters(), values, strict=True):
        parameter.data.copy_(value)

    def outputs(x: Tensor, phi: Tensor) -> Tensor:
        said: Tensor = network(torch.cat([x, phi.expand(len(x), 3)], dim=1))
        return said

    phi = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    for _ in range(4):
        (gradient,) = torch.autograd.grad(nn.functional.mse_loss(outputs(support.x, phi), support.y), phi)
        phi = (phi - 0.7 * gradient).detach().requires_grad_()
    found = adapted(chosen.method.inner, params, support, inner_steps=4, gradient=constant)[""]
    x = torch.linspace(-5, 5, 11, dtype=torch.float64).unsqueeze(1)
    torch.testing.assert_close(chosen.model.predict(found, x), outputs(x, phi), rtol=1e-10, atol=1e-12)
    assert [name for name in found if not torch.equal(found[name], params[name])] == ["layer0.bias"]


@pytest.mark.parametrize("order", ["first", "second"])
def test_every_check_can_fail_and_holds(order: str) -> None:
    report = check_grads(parse_config(TINY, overrides=[CAVIA, f"algorithm.order={order}", "outer.max_task_grad=0.01"]))
    assert {check["verdict"] for check in report.checks} == {"holds"}
    assert "the context as the identity" in [check["name"] for check in report.checks]


def test_a_model_whose_first_layer_is_not_known_is_refused_with_what_to_do() -> None:
    chosen = experiment(CAVIA)
    bench = make_bench(chosen.family, module_model(lambda: nn.Linear(1, 1), 1, 1), 10)
    with pytest.raises(UsageError, match=r"first layer of an MLP(.|\n)*use model.name: mlp"):
        build("algorithm", chosen.config.algorithm, bench)


@pytest.mark.parametrize("method", [CAVIA, "algorithm.inner_steps=2", "algorithm={name: reptile, inner_steps: 2}"])
def test_a_meta_gradient_clamped_by_task_is_what_a_loop_over_tasks_clamps(method: str) -> None:
    bound = 1e-3 if "reptile" in method else 0.2
    chosen = experiment(method, f"outer.max_task_grad={bound}", "engine.task_chunk=2")
    plan = make_plan(chosen, CPU)
    params = {name: value.double() for name, value in chosen.initial_state(CPU).params.items()}
    tasks = chosen.stream().batch(0).map(Tensor.double)
    grads, log = uncompiled_gradient(chosen, plan)(params, tasks)
    alone = [chosen.method.meta_gradient(params, some_tasks(tasks, slice(index, index + 1))) for index in range(3)]
    for name, value in grads.items():
        torch.testing.assert_close(value, torch.stack([one[name].clamp(-bound, bound) for one, _ in alone]).mean(dim=0))
    torch.testing.assert_close(
        log["post_adapt_loss"], torch.stack([logged["post_adapt_loss"] for _, logged in alone]).mean(dim=0)
    )
    size = torch.cat([value.abs().flatten() for one, _ in alone for value in one.values()])
    assert size.min() < bound < size.max()
    assert plan.form == "dense"
    assert any(f"outer.max_task_grad: {bound}" in reason for reason in plan.passed_over)


def test_a_bound_that_nothing_reaches_changes_nothing() -> None:
    plain, bounded = (experiment(CAVIA, f"outer.max_task_grad={bound}") for bound in ("null", "1e6"))
    params, tasks = plain.initial_state(CPU).params, plain.stream().batch(0)
    ours, theirs = (uncompiled_gradient(one, make_plan(one, CPU))(params, tasks) for one in (bounded, plain))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)
