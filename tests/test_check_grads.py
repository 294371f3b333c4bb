"""`maml check-grads` holds for what is right, and catches each classic mistake planted in the code it checks."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from mamlcli.algorithms.maml import adapt, meta_gradient
from torch import Tensor

from mamlcli.models.layers import squared_error
from mamlcli.proofs.checks import relative_error
from mamlcli.tasks import Task
from mamlcli.types import Params
from tests.conftest import Maml


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["algorithm.inner_steps=3", "algorithm.inner_lr=0.05"],
        ["algorithm.inner_steps=0"],
        ["algorithm.inner_lr=0"],
        ["model.activation=tanh", "model.hidden_sizes=[5, 4]"],
        ["model.init=truncated_normal", "model.hidden_sizes=[40, 40]"],
        ["model.hidden_sizes=[]"],
        ["algorithm.order=first"],
        ["algorithm.name=joint"],
        ["tasks.oracle_inputs=true", "tasks.frequency=[0.5, 2]"],
        ["algorithm.learned_inner_lr=tensor", "algorithm.inner_steps=2"],
        [
            "algorithm.learned_inner_lr=tensor_and_step",
            "algorithm.inner_steps=3",
            "algorithm.inner_lr_init=[0.005, 0.1]",
        ],
        ["algorithm.learned_inner_lr=parameter", "algorithm.inner_steps=2", "algorithm.inner_lr_init=[0.005, 0.1]"],
        ["algorithm.learned_inner_lr=parameter", "algorithm.order=first"],
    ],
    ids=lambda overrides: " ".join(overrides) or "as it is",
)
def test_the_checks_hold(maml: Maml, overrides: list[str]) -> None:
    options = [part for override in overrides for part in ("--set", override)]
    outcome = maml("check-grads", "-c", "tiny.yaml", *options, "--json")
    report = json.loads(outcome.out)
    assert outcome.code == 0
    assert report["passed"] is True
    assert report["schema"] == "mamlcli.check-grads/1"
    assert len(report["checks"]) == 5
    for check in report["checks"]:
        assert check["relative_error"] <= check["tolerance"] <= 1e-6
    without_inner_gradient = {"algorithm.inner_steps=0", "algorithm.inner_lr=0", "algorithm.name=joint"}
    trivial = not without_inner_gradient.isdisjoint(overrides)
    assert (report["info"]["second_order_share"] == 0) == trivial


def inner_gradients(loss_fn: Any, params: Params, support: Any) -> Params:
    gradients: Params = torch.func.grad(loss_fn)(params, support)
    return gradients


def create_graph_dropped(loss_fn: Any, params: Params, support: Any, **settings: Any) -> Params:
    return adapt(loss_fn, params, support, **settings | {"order": "first"})


def in_place_under_no_grad(
    loss_fn: Any, params: Params, support: Any, *, inner_lr: float, inner_steps: int, order: str
) -> Params:
    del order
    for _ in range(inner_steps):
        grads = inner_gradients(loss_fn, params, support)
        params = {name: value + 0 * grads[name].detach() for name, value in params.items()}
        with torch.no_grad():
            for name, value in params.items():
                value.sub_(inner_lr * grads[name])
    return params


def one_layer_detached(
    loss_fn: Any, params: Params, support: Any, *, inner_lr: float, inner_steps: int, order: str
) -> Params:
    for _ in range(inner_steps):
        grads = inner_gradients(loss_fn, params, support)
        constant = {name: order == "first" or name == "layer0.weight" for name in grads}
        grads = {name: grad.detach() if constant[name] else grad for name, grad in grads.items()}
        params = {name: value - inner_lr * grads[name] for name, value in params.items()}
    return params


def wrong_sign(loss_fn: Any, params: Params, support: Any, **settings: Any) -> Params:
    adapted = adapt(loss_fn, params, support, **settings)
    return {name: 2 * value - adapted[name] for name, value in params.items()}


def accumulated(loss_fn: Any, params: Params, tasks: Task, **settings: Any) -> tuple[Params, Tensor]:
    grads, losses = meta_gradient(loss_fn, params, tasks, **settings)
    earlier, _ = meta_gradient(loss_fn, params, tasks, **settings | {"inner_steps": 0})
    return {name: grad + earlier[name] for name, grad in grads.items()}, losses


def swapped(loss_fn: Any, params: Params, tasks: Task, **settings: Any) -> tuple[Params, Tensor]:
    return meta_gradient(loss_fn, params, Task(support=tasks.query, query=tasks.support), **settings)


def graph_cut(loss_fn: Any, params: Params, tasks: Task, **settings: Any) -> tuple[Params, Tensor]:
    with torch.no_grad():
        return meta_gradient(loss_fn, params, tasks, **settings)


def divided_twice(predictions: Tensor, targets: Tensor) -> Tensor:
    return squared_error(predictions, targets) / len(targets)


ADAPT, GRADIENT, LOSS = "algorithms.maml.adapt", "experiments.setup.meta_gradient", "experiments.setup.squared_error"


@pytest.mark.parametrize(
    ("place", "mistake"),
    [
        (ADAPT, create_graph_dropped),
        (ADAPT, in_place_under_no_grad),
        (ADAPT, one_layer_detached),
        (ADAPT, wrong_sign),
        (GRADIENT, accumulated),
        (GRADIENT, swapped),
        (GRADIENT, graph_cut),
        (LOSS, divided_twice),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_planted_mistake_is_caught(
    maml: Maml, monkeypatch: pytest.MonkeyPatch, place: str, mistake: Callable[..., Any]
) -> None:
    monkeypatch.setattr(f"mamlcli.{place}", mistake)
    outcome = maml("check-grads", "-c", "tiny.yaml")
    assert outcome.code == 1
    assert outcome.out.splitlines()[3].startswith("FAILS")  # after the title and the table's head
    assert "not all checks hold" in outcome.out
    assert "Traceback" not in outcome.err


def test_a_gradient_that_is_not_a_number_is_no_match() -> None:
    one = {"w": torch.tensor([1.0, float("nan")])}
    assert relative_error(one, {"w": torch.ones(2)}) == float("inf")
    assert relative_error({"w": torch.zeros(2)}, {"w": torch.zeros(2)}) == 0.0


def test_bad_input_is_answered_as_everywhere(maml: Maml) -> None:
    outcome = maml("check-grads", "-c", "tiny.yaml", "--set", "algorithm.inner_stps=1")
    assert outcome.code == 2
    assert "did you mean 'algorithm.inner_steps'?" in outcome.err


@pytest.mark.parametrize(
    ("override", "row"),
    [("engine.inner_update=low_rank", "low-rank inner update"), ("engine.task_chunk=2", "chunks of 2 tasks")],
)
def test_what_the_config_accelerates_is_compared_with_the_plain_path(maml: Maml, override: str, row: str) -> None:
    outcome = maml("check-grads", "-c", "tiny.yaml", "--set", override)
    assert outcome.code == 0
    assert f"holds    {row}" in outcome.out
