"""Hessian-free MAML: its recursion on a cubic by hand, what it computes, and its proof against planted mistakes."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch import Tensor

from mamlcli import parse_config
from mamlcli.experiment import make_experiment
from mamlcli.methods import by_difference as code
from mamlcli.methods.by_difference import Sides, by_difference
from mamlcli.methods.inner_loops import constant_rate, gradient_descent
from mamlcli.methods.meta_gradients import unrolled
from mamlcli.methods.method import MetaGradient
from mamlcli.proofs.checks import relative_error
from mamlcli.tasks.samples import Samples, Task
from mamlcli.types import LossFn, Params
from tests.conftest import Maml

ALPHA, DELTA = 0.1, 0.05
SMOOTH = "model={hidden_sizes: [6], activation: tanh}"


def one_task(support: float, query: float) -> Task:
    """A seed and a task of one sample on each side, whose target stands in the loss."""
    sides = (torch.full((1, 1, 1, 1), value, dtype=torch.float64) for value in (support, query))
    return Task(*(Samples(torch.zeros_like(y), y) for y in sides))


@pytest.mark.parametrize("sides", ["forward", "central"])
@pytest.mark.parametrize("steps", [1, 3])
def test_on_a_cubic_differences_are_off_by_what_a_sheet_of_paper_says(sides: Sides, steps: int) -> None:
    def loss_fn(params: Params, samples: Samples) -> Tensor:
        return samples.y.sum() * params["theta"] ** 3 / 3  # gradient c theta^2, second derivative 2 c theta

    gradient = by_difference(loss_fn, inner_lr=ALPHA, inner_steps=steps, difference_step=DELTA, sides=sides)
    grads, log = gradient({"theta": torch.tensor([0.7], dtype=torch.float64)}, one_task(2.0, -1.5))
    path = [0.7]
    for _ in range(steps):
        path.append(path[-1] - ALPHA * 2.0 * path[-1] ** 2)
    vector = -1.5 * path[-1] ** 2
    for theta in reversed(path[:-1]):
        # Forward, ((theta + delta u)^2 - theta^2) / delta is 2 theta u + delta; the last term cancels in a central one.
        vector -= ALPHA * 2.0 * (2 * theta * vector + (DELTA * abs(vector) if sides == "forward" else 0.0))
    assert grads["theta"].item() == pytest.approx(vector, rel=1e-12)
    assert log["post_adapt_loss"].item() == pytest.approx(-1.5 * path[-1] ** 3 / 3, rel=1e-12)


def meta_gradient(*overrides: str) -> Params:
    """In double precision, of a small smooth network."""
    text = "name: a\nseeds: [0, 3]\nouter: {meta_batch_size: 4}"
    experiment = make_experiment(parse_config(text, overrides=[SMOOTH, *overrides]))
    params = {name: value.double() for name, value in experiment.initial_state(torch.device("cpu")).params.items()}
    return experiment.method.meta_gradient(params, experiment.stream().batch(0).map(Tensor.double))[0]


@pytest.mark.parametrize(("difference", "falls"), [("forward", 10.0), ("central", 100.0)])
def test_the_error_against_maml_falls_as_the_step_or_as_its_square(
    difference: Literal["forward", "central"], falls: float
) -> None:
    exact = meta_gradient("algorithm={inner_steps: 3, inner_lr: 0.05}")
    errors = [
        relative_error(
            meta_gradient(
                f"algorithm={{name: hessian_free, inner_steps: 3, inner_lr: 0.05, difference_step: {step}, "
                f"difference: {difference}}}"
            ),
            exact,
        )
        for step in (1e-2, 1e-3)
    ]
    assert errors[0] / errors[1] == pytest.approx(falls, rel=0.05)
    assert errors[1] < 1e-2


@pytest.mark.parametrize(("sides", "extra"), [("forward", 1), ("central", 2)])
def test_each_inner_step_costs_as_many_more_gradients_as_are_promised(sides: Sides, extra: int) -> None:
    calls = []

    def loss_fn(params: Params, samples: Samples) -> Tensor:
        calls.append(1)
        return samples.y.sum() * params["w"] ** 3

    gradient = by_difference(loss_fn, inner_lr=ALPHA, inner_steps=3, difference_step=DELTA, sides=sides)
    gradient({"w": torch.ones(1, dtype=torch.float64)}, one_task(1.0, 2.0))
    assert len(calls) == 3 + 1 + 3 * extra


def test_no_second_derivative_is_asked_for() -> None:
    def without_one(params: Params, samples: Samples) -> Tensor:
        # Its gradient is 2 w y, which autograd takes for a constant.
        return samples.y.sum() * 2 * params["w"].detach() * params["w"]

    def whole(params: Params, samples: Samples) -> Tensor:
        return samples.y.sum() * params["w"].square()

    start, task = {"w": torch.ones(1, dtype=torch.float64)}, one_task(1.0, 2.0)
    settings: dict[str, Any] = {"inner_lr": ALPHA, "inner_steps": 2, "difference_step": DELTA, "sides": "forward"}
    found, expected = (by_difference(loss_fn, **settings)(start, task)[0]["w"] for loss_fn in (without_one, whole))
    assert found.item() == pytest.approx(4 * (1 - 2 * ALPHA) ** 4)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0.0)


def test_a_task_whose_query_gradient_is_zero_adds_nothing() -> None:
    def loss_fn(params: Params, samples: Samples) -> Tensor:
        return samples.y.sum() * params["w"].square()

    gradient = by_difference(loss_fn, inner_lr=ALPHA, inner_steps=2, difference_step=DELTA, sides="forward")
    grads, _ = gradient({"w": torch.ones(1, dtype=torch.float64)}, one_task(1.0, 0.0))
    assert grads["w"].tolist() == [0.0]


def report_of(maml: Maml, *options: str, code: int = 0) -> dict[str, Any]:
    outcome = maml("check-grads", "-c", "tiny.yaml", "--json", *options)
    assert outcome.code == code, outcome.err
    report: dict[str, Any] = json.loads(outcome.out)
    return report


@pytest.mark.parametrize("difference", ["forward", "central"])
@pytest.mark.parametrize("model", ["model={hidden_sizes: [8]}", SMOOTH, "model={hidden_sizes: []}"])
def test_the_checks_hold(maml: Maml, difference: str, model: str) -> None:
    algorithm = f"algorithm={{name: hessian_free, inner_steps: 2, difference: {difference}}}"
    report = report_of(maml, "--set", algorithm, "--set", model)
    assert [check["verdict"] for check in report["checks"]] == ["holds"] * 3
    assert "is checked instead" in report["notes"][0]


def planted(**changes: Callable[[Any], Any]) -> Callable[..., MetaGradient]:
    """The meta-gradient with other settings than those that are asked for."""

    def build(loss_fn: LossFn[Samples], **asked: Any) -> MetaGradient:
        return by_difference(loss_fn, **asked | {name: change(asked[name]) for name, change in changes.items()})

    return build


def term_left_out(loss_fn: LossFn[Samples], *, inner_lr: float, inner_steps: int, **_: Any) -> MetaGradient:
    inner = gradient_descent(loss_fn, constant_rate(inner_lr))
    return unrolled(inner, loss_fn, inner_steps=inner_steps, order="first")


@pytest.mark.parametrize(
    ("difference", "mistake"),
    [
        pytest.param("forward", term_left_out, id="the term left out"),
        pytest.param("forward", planted(inner_steps=lambda steps: steps - 1), id="a step too few"),
        pytest.param("forward", planted(difference_step=lambda _: 0.02), id="a step that does not shrink"),
        pytest.param("forward", planted(difference_step=lambda step: step**0.5), id="a step that shrinks as its root"),
        pytest.param("central", planted(sides=lambda _: "forward"), id="one side, where two were asked for"),
    ],
)
def test_a_planted_mistake_is_caught(
    maml: Maml, monkeypatch: pytest.MonkeyPatch, difference: str, mistake: Callable[..., MetaGradient]
) -> None:
    monkeypatch.setattr(code, "by_difference", mistake)
    report = report_of(maml, "--set", f"algorithm={{name: hessian_free, difference: {difference}}}", code=1)
    failed = [check["name"] for check in report["checks"] if not check["passed"]]
    assert "limit of the gradient as its step shrinks" in failed


def test_check_grads_draws_how_the_error_falls_and_says_it_in_words(maml: Maml, folder: Path) -> None:
    options = ("check-grads", "-c", "tiny.yaml", "--set", "algorithm.name=hessian_free", "--set", SMOOTH)
    outcome = maml(*options, "--out", "proof")
    assert outcome.code == 0, outcome.err
    assert "By the step, in float64 and float32" in outcome.out.replace("\n", " ")
    assert "written to proof: gradients.json, difference-step.png" in outcome.out
    files = {path.name for path in (folder / "proof").iterdir()}
    assert files == {"config.yaml", "gradients.json"} | {
        f"difference-step.{ending}" for ending in ("png", "svg", "csv", "figure.json")
    }
    with (folder / "proof" / "difference-step.csv").open() as file:
        double = {float(row["x"]): float(row["error"]) for row in csv.DictReader(file) if row["line"] == "float64"}
    assert double[1e-3] / double[1e-5] == pytest.approx(100, rel=0.1)
    assert maml("plot", "proof", "--what", "difference-step", "--out", "again.pdf").code == 0
    again = maml(*options, "--out", "proof")
    assert again.code == 3
    assert "proof exists already; name a new folder" in again.err
    assert maml("runs", "ls", ".", "--json").out.count('"run"') == 0
