"""Implicit MAML: its solver against SciPy's, its inner loop against a closed form, its proof against mistakes."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse.linalg
import torch
from torch import Tensor

from mamlcli import parse_config
from mamlcli.errors import ConfigError
from mamlcli.experiment import make_experiment
from mamlcli.methods import implicit as code
from mamlcli.methods.implicit import conjugate_gradients, proximal_descent
from mamlcli.methods.inner_loops import constant
from mamlcli.methods.meta_gradients import adapted
from mamlcli.methods.method import Gradient, InnerLoop
from mamlcli.tasks.samples import Samples
from mamlcli.types import LossFn, Params
from tests.conftest import Maml

IMAML = "algorithm={name: imaml, inner_steps: 3, inner_lr: 0.02, proximal_strength: 1.5, cg_steps: 4}"

CHECKS = ("gradient and loss", "implicit gradient on a quadratic", "implicit gradient, inner problem solved")


@pytest.fixture(autouse=True)
def few_steps_to_measure(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is measured beside the checks takes most of the time of them all."""
    monkeypatch.setattr("mamlcli.proofs.implicit._LADDER", (1, 64))
    monkeypatch.setattr("mamlcli.proofs.implicit._LADDER_TASKS", 1)


def solved(matrices: Tensor, targets: Tensor, steps: int) -> Tensor:
    """Conjugate gradients of several systems at once, with unknowns in two pieces as parameters are."""

    def of_one(matrix: Tensor, target: Tensor) -> Tensor:
        def product(vector: Params) -> Params:
            whole = matrix @ torch.cat([vector["a"], vector["b"].flatten()])
            return {"a": whole[:2], "b": whole[2:].view(2, 2)}

        found = conjugate_gradients(product, {"a": target[:2], "b": target[2:].view(2, 2)}, steps)
        return torch.cat([found["a"], found["b"].flatten()])

    return torch.vmap(of_one)(matrices, targets)


def systems() -> tuple[Tensor, Tensor]:
    """Three positive definite ones; of the second b is an eigenvector, so that one step solves it; the third's is 0."""
    rng = np.random.default_rng(0)
    halves = torch.from_numpy(rng.normal(size=(3, 6, 6)))
    matrices = halves @ halves.mT + torch.eye(6)
    targets = torch.from_numpy(rng.normal(size=(3, 6)))
    targets[1], targets[2] = torch.linalg.eigh(matrices[1])[1][:, 3], 0.0
    return matrices, targets


@pytest.mark.parametrize("steps", [1, 2, 4, 6, 40])
def test_conjugate_gradients_are_those_of_scipy_step_by_step(steps: int) -> None:
    matrices, targets = systems()
    expected = [
        scipy.sparse.linalg.cg(matrix, target, maxiter=steps, rtol=0.0, atol=1e-15)[0]
        for matrix, target in zip(matrices.numpy(), targets.numpy(), strict=True)
    ]
    torch.testing.assert_close(
        solved(matrices, targets, steps), torch.from_numpy(np.stack(expected)), rtol=1e-9, atol=1e-12
    )


def test_in_float32_a_system_that_is_solved_stays_solved() -> None:
    matrices, targets = systems()
    found = solved(matrices.float(), targets.float(), 60)
    torch.testing.assert_close(found.double(), torch.linalg.solve(matrices, targets), rtol=1e-3, atol=1e-4)


def test_rounding_does_not_grow_where_one_eigenvalue_is_far_above_the_others() -> None:
    values = torch.tensor([1.0, 1.1, 1.2, 1.3, 1.4, 1e4], dtype=torch.float64)
    turned = torch.linalg.qr(systems()[0][0])[0]
    matrix, target = turned @ torch.diag(values) @ turned.T, turned @ torch.ones(6, dtype=torch.float64)
    single, double = (
        solved(matrix.to(dtype)[None], target.to(dtype)[None], 4)[0] for dtype in (torch.float32, torch.float64)
    )
    # What the Krylov space of four dimensions holds, by an orthonormal basis of it.
    basis = torch.linalg.qr(torch.stack([values**power for power in range(4)], dim=1))[0]
    expected = (
        turned @ basis @ torch.linalg.solve(basis.T @ torch.diag(values) @ basis, basis.T @ torch.ones_like(values))
    )
    torch.testing.assert_close(double, expected, rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(single.double(), expected, rtol=1e-2, atol=1e-3)


def test_no_step_is_made_where_the_system_is_not_positive_definite_and_what_is_no_number_stays_that() -> None:
    matrix = torch.diag(torch.tensor([1.0, 2.0, 4.0, 1.0, -1.0, -3.0]))
    along, against, neither = torch.eye(6)[1], torch.eye(6)[4], torch.full((6,), torch.nan)
    found = solved(matrix.expand(3, 6, 6), torch.stack([along, against, neither]), 3)
    assert found[0].tolist() == [0, 0.5, 0, 0, 0, 0]
    assert found[1].tolist() == against.tolist()  # as first order has it
    assert found[2].isnan().all()


@pytest.mark.parametrize("proximal", [0.5, 4.0])
def test_many_inner_steps_reach_ridge_regression_towards_the_initialisation(proximal: float) -> None:
    rng = np.random.default_rng(1)
    x, y, theta = rng.normal(size=(7, 3)), rng.normal(size=(7, 1)), rng.normal(size=(3, 1))

    def loss_fn(params: Params, samples: Samples) -> Tensor:
        return (samples.x @ params["w"] - samples.y).square().mean()

    inner = proximal_descent(loss_fn, inner_lr=0.05, proximal=proximal)
    support = Samples(torch.from_numpy(x), torch.from_numpy(y))
    found = adapted(inner, {"w": torch.from_numpy(theta)}, support, inner_steps=1000, gradient=constant)[""]["w"]
    expected = np.linalg.solve(2 / 7 * x.T @ x + proximal * np.eye(3), 2 / 7 * x.T @ y + proximal * theta)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-10)


def test_memory_of_the_meta_gradient_does_not_grow_with_inner_steps() -> None:
    few, many = (
        make_experiment(parse_config("name: a", overrides=["algorithm.name=imaml", f"algorithm.inner_steps={steps}"]))
        for steps in (1, 100)
    )
    footprints = [one.method.footprint(10, 10) for one in (few, many) if one.method.footprint]
    assert len(footprints) == 2
    assert footprints[0] == footprints[1]


def report_of(maml: Maml, *options: str, code: int = 0) -> dict[str, Any]:
    outcome = maml("check-grads", "-c", "tiny.yaml", "--set", IMAML, "--json", *options)
    assert outcome.code == code, outcome.err
    report: dict[str, Any] = json.loads(outcome.out)
    return report


@pytest.mark.parametrize("model", ["{hidden_sizes: [8]}", "{hidden_sizes: [6, 5], activation: tanh}"])
def test_what_can_hold_of_an_implicit_gradient_holds_and_why_no_difference_can_is_said(maml: Maml, model: str) -> None:
    report = report_of(maml, "--set", f"model={model}")
    assert {check["name"]: check["verdict"] for check in report["checks"]} == dict.fromkeys(CHECKS, "holds")
    assert max(check["tolerance"] for check in report["checks"]) < 2e-9
    why, measured = report["notes"]
    assert "no difference of losses can check" in why
    assert "3 inner step(s) leave" in measured
    assert report["run"] is None


def not_near(loss_fn: LossFn[Samples], *, inner_lr: float, proximal: float) -> InnerLoop:
    return proximal_descent(loss_fn, inner_lr=inner_lr, proximal=0.0 * proximal)


def near_to_the_last(loss_fn: LossFn[Samples], *, inner_lr: float, proximal: float) -> InnerLoop:
    right = proximal_descent(loss_fn, inner_lr=inner_lr, proximal=proximal)

    def step(theta: Params, phi: Params, support: Samples, number: int, gradient: Gradient[Samples]) -> Params:
        between = {name: (theta[name] + phi[name]) / 2 for name in theta}
        stepped: Params = right.step(between, phi, support, number, gradient)
        return stepped

    return right._replace(step=step)


def without_directions(product: Callable[[Params], Params], target: Params, steps: int) -> Params:
    return conjugate_gradients(product, target, min(steps, 1))


def unsolved(_: Callable[[Params], Params], target: Params, __: int) -> Params:
    return target


def added_twice(product: Callable[[Params], Params], target: Params, steps: int) -> Params:
    return conjugate_gradients(lambda vector: {n: v + vector[n] for n, v in product(vector).items()}, target, steps)


@pytest.mark.parametrize(
    ("place", "mistake"),
    [
        ("proximal_descent", not_near),
        ("proximal_descent", near_to_the_last),
        ("conjugate_gradients", without_directions),
        ("conjugate_gradients", unsolved),
        ("conjugate_gradients", added_twice),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_planted_mistake_is_caught(
    maml: Maml, monkeypatch: pytest.MonkeyPatch, place: str, mistake: Callable[..., Any]
) -> None:
    monkeypatch.setattr(code, place, mistake)
    assert report_of(maml, code=1)["passed"] is False


def test_where_the_inner_problem_is_not_solved_the_long_unrolled_gradient_says_nothing(
    maml: Maml, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mamlcli.proofs.implicit._LONG", 1)
    verdicts = {check["name"]: check["verdict"] for check in report_of(maml)["checks"]}
    assert verdicts["implicit gradient, inner problem solved"] == "says nothing here"


def test_a_figure_shows_how_far_the_gradient_is_from_the_unrolled_one(maml: Maml, folder: Path) -> None:
    report = report_of(maml, "--out", "proof", "--set", "model={hidden_sizes: [5], activation: tanh}")
    assert {path.name for path in (folder / "proof").iterdir()} >= {"gradients.json", "config.yaml"}
    with (folder / "proof" / "implicit-gradient.csv").open() as file:
        at_64 = {row["line"]: float(row["error"]) for row in csv.DictReader(file) if row["x"] == "64"}
    assert at_64["the system solved"] < at_64["first order: no cg_steps"] / 5
    assert json.loads((folder / "proof" / "gradients.json").read_text())["checks"] == report["checks"]


@pytest.mark.parametrize(
    "wrong", ["{name: imaml, inner_lr: 0.5, proximal_strength: 4}", "{name: imaml, proximal_strength: 0}"]
)
def test_a_proximal_term_that_no_step_can_follow_is_refused(wrong: str) -> None:
    with pytest.raises(ConfigError, match="proximal_strength"):
        parse_config(f"name: a\nalgorithm: {wrong}")
