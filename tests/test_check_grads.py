"""`maml check-grads` holds for what is right, and catches each classic mistake planted in the code it checks."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from mamlcli.methods.inner_loops import descend, through
from mamlcli.methods.meta_gradients import gradient_per_seed, unrolled
from mamlcli.methods.method import Bench, InnerLoop, Log, MetaGradient, make_bench
from mamlcli.models.model import Model
from mamlcli.proofs.checks import relative_error
from mamlcli.tasks.family import TaskFamily
from mamlcli.tasks.samples import Samples, Task
from mamlcli.types import Data, LossFn, Order, Params
from tests.conftest import Maml, Outcome

# What there is to show where the order of the meta-gradient is one of the things that can be wrong, and where not.
OF_THE_ORDER = [
    "second order: slope of the meta-loss",
    "second order: gradient and loss",
    "first order: gradient and loss",
    "second order minus first order",
    "both orders on a quadratic",
]
OF_THE_GRADIENT = ["slope of the meta-loss", "gradient and loss"]


def check_grads(maml: Maml, *overrides: str, as_json: bool = False) -> Outcome:
    options = [part for override in overrides for part in ("--set", override)]
    return maml("check-grads", "-c", "tiny.yaml", *options, *["--json"] * as_json)


def verdicts(outcome: Outcome) -> dict[str, str]:
    return {check["name"]: check["verdict"] for check in json.loads(outcome.out)["checks"]}


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["algorithm.inner_steps=3", "algorithm.inner_lr=0.05"],
        ["model.activation=tanh", "model.hidden_sizes=[5, 4]"],
        ["model.init=truncated_normal", "model.hidden_sizes=[40, 40]"],
        ["model.hidden_sizes=[]"],
        ["algorithm.order=first"],
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
    outcome = check_grads(maml, *overrides, as_json=True)
    report = passed_report(outcome)
    assert verdicts(outcome) == dict.fromkeys(OF_THE_ORDER, "holds")
    assert report["info"]["second_order_share"] > 0


def passed_report(outcome: Outcome) -> dict[str, Any]:
    report: dict[str, Any] = json.loads(outcome.out)
    assert outcome.code == 0
    assert report["passed"] is True
    assert report["schema"] == "mamlcli.check-grads/1"
    for check in report["checks"]:
        assert check["relative_error"] <= check["tolerance"] <= 1e-6
    return report


@pytest.mark.parametrize("override", ["algorithm.inner_steps=0", "algorithm.inner_lr=0"])
@pytest.mark.parametrize("order", ["first", "second"])
def test_where_nothing_adapts_what_is_said_of_the_order_says_nothing(maml: Maml, override: str, order: Order) -> None:
    outcome = check_grads(maml, override, f"algorithm.order={order}", as_json=True)
    report = passed_report(outcome)
    expected = dict.fromkeys(OF_THE_ORDER, "says nothing here") | dict.fromkeys(OF_THE_GRADIENT, "holds")
    assert verdicts(outcome) == expected
    assert [check["verdict"] for check in report["checks"]] == ["holds"] * 2 + ["says nothing here"] * 5
    assert all(check["passed"] for check in report["checks"])
    assert report["info"]["second_order_share"] == 0
    said = check_grads(maml, override, f"algorithm.order={order}").out.splitlines()
    assert [line.startswith("says nothing here") for line in said[3:10]] == [False] * 2 + [True] * 5
    assert said[-1] == "2 checks hold; 5 say nothing here: what they look for would change nothing"


def test_joint_training_has_no_order_and_no_row_of_it(maml: Maml) -> None:
    outcome = check_grads(maml, "algorithm.name=joint", as_json=True)
    report = passed_report(outcome)
    assert verdicts(outcome) == dict.fromkeys(OF_THE_GRADIENT, "holds")
    assert report["info"]["second_norm"] > 0
    assert {report["info"][name] for name in ("first_norm", "second_order_share", "cosine")} == {None}
    said = check_grads(maml, "algorithm.name=joint").out
    assert "order" not in said.replace("there is no inner gradient, and so no order", "")
    assert said.splitlines()[-1] == "all checks hold"


def create_graph_dropped(loss_fn: LossFn[Data], params: Params, data: Data) -> Params:
    return {name: gradient.detach() for name, gradient in through(loss_fn, params, data).items()}


def one_layer_detached(loss_fn: LossFn[Data], params: Params, data: Data) -> Params:
    gradients = through(loss_fn, params, data)
    return {name: grad.detach() if name == "layer0.weight" else grad for name, grad in gradients.items()}


def in_place_under_no_grad(params: Params, grads: Params, rate: Callable[[str], float | Tensor]) -> Params:
    params = {name: value + 0 * grads[name].detach() for name, value in params.items()}
    with torch.no_grad():
        for name, value in params.items():
            value.sub_(rate(name) * grads[name])
    return params


def wrong_sign(params: Params, grads: Params, rate: Callable[[str], float | Tensor]) -> Params:
    return descend(params, grads, lambda name: -rate(name))


def accumulated(inner: InnerLoop, loss_fn: LossFn[Samples], *, inner_steps: int, order: Order) -> MetaGradient:
    def gradient(params: Params, tasks: Task) -> tuple[Params, Log]:
        (earlier, _), (grads, log) = (
            unrolled(inner, loss_fn, inner_steps=steps, order=order)(params, tasks) for steps in (0, inner_steps)
        )
        return {name: grad + earlier[name] for name, grad in grads.items()}, log

    return gradient


def swapped(losses_of: Callable[[Params, Task], Tensor], params: Params, tasks: Task) -> tuple[Params, Log]:
    return gradient_per_seed(losses_of, params, Task(support=tasks.query, query=tasks.support))


def graph_cut(losses_of: Callable[[Params, Task], Tensor], params: Params, tasks: Task) -> tuple[Params, Log]:
    with torch.no_grad():
        return gradient_per_seed(losses_of, params, tasks)


def divided_twice(family: TaskFamily, model: Model, support_shots: int) -> Bench:
    bench = make_bench(family, model, support_shots)
    return bench._replace(loss_fn=lambda params, samples: bench.loss_fn(params, samples) / len(samples.y))


def query_alone(tasks: Task) -> Samples:
    return tasks.query


LOOPS, GRADIENTS = "methods.inner_loops", "methods.meta_gradients"
THROUGH, STEP = f"{LOOPS}.through", f"{LOOPS}.descend"
UNROLLED, GRADIENT, SAMPLES = (f"{GRADIENTS}.{name}" for name in ("unrolled", "gradient_per_seed", "all_samples"))
LOSS = "experiment.make_bench"


@pytest.mark.parametrize(
    ("place", "mistake"),
    [
        (THROUGH, create_graph_dropped),
        (STEP, in_place_under_no_grad),
        (THROUGH, one_layer_detached),
        (STEP, wrong_sign),
        (UNROLLED, accumulated),
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
    assert_caught(check_grads(maml))


def assert_caught(outcome: Outcome) -> None:
    assert outcome.code == 1
    assert outcome.out.splitlines()[3].startswith("FAILS")  # after the title and the table's head
    assert "not all checks hold" in outcome.out
    assert "Traceback" not in outcome.err


@pytest.mark.parametrize(
    ("override", "place", "mistake"),
    [
        ("algorithm.inner_steps=0", GRADIENT, swapped),
        ("algorithm.inner_steps=0", GRADIENT, graph_cut),
        ("algorithm.inner_steps=0", LOSS, divided_twice),
        ("algorithm.inner_lr=0", UNROLLED, accumulated),
        ("algorithm.name=joint", SAMPLES, query_alone),
        ("algorithm.name=joint", GRADIENT, graph_cut),
        ("algorithm.name=joint", LOSS, divided_twice),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_mistake_that_is_none_of_the_order_is_caught_where_there_is_no_order(
    maml: Maml, monkeypatch: pytest.MonkeyPatch, override: str, place: str, mistake: Callable[..., Any]
) -> None:
    monkeypatch.setattr(f"mamlcli.{place}", mistake)
    assert_caught(check_grads(maml, override))


def test_a_gradient_that_is_not_a_number_is_no_match() -> None:
    one = {"w": torch.tensor([1.0, float("nan")])}
    assert relative_error(one, {"w": torch.ones(2)}) == float("inf")
    assert relative_error({"w": torch.zeros(2)}, {"w": torch.zeros(2)}) == 0.0


def test_bad_input_is_answered_as_everywhere(maml: Maml) -> None:
    outcome = check_grads(maml, "algorithm.inner_stps=1")
    assert outcome.code == 2
    assert "did you mean 'algorithm.inner_steps'?" in outcome.err


@pytest.mark.parametrize(
    ("override", "row"),
    [("engine.inner_update=low_rank", "low-rank inner update"), ("engine.task_chunk=2", "chunks of 2 tasks")],
)
def test_what_the_config_accelerates_is_compared_with_the_plain_path(maml: Maml, override: str, row: str) -> None:
    outcome = check_grads(maml, override)
    assert outcome.code == 0
    assert f"holds    {row}" in outcome.out
    assert outcome.out.splitlines()[-1] == "all checks hold"
