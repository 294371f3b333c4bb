"""The meta-gradient against closed forms, explicit loops and finite differences."""

import pytest
import torch
from jaxtyping import TypeCheckError
from torch import Tensor
from torch.nn.functional import linear

from mamlcli.methods.inner_loops import adapt, constant_rate, gradient_descent
from mamlcli.methods.meta_gradients import unrolled
from mamlcli.methods.method import MetaGradient
from mamlcli.models.layers import forward, init_params
from mamlcli.tasks.family import Request
from mamlcli.tasks.samples import Samples, Task, squared_error
from mamlcli.tasks.sinusoid import SinusoidTasks, sinusoid
from mamlcli.tasks.stream import TaskStream
from mamlcli.types import LossFn, Order, Params

SEEDS, TASKS = (3, 4), 5


def loss_fn(params: Params, samples: Samples) -> Tensor:
    return squared_error(forward(params, samples.x, activation=torch.tanh), samples.y)


def stacked_params() -> Params:
    """Float64 parameters of two seeds."""
    seeds = [init_params([1, 7, 6, 1], init="torch_default", seed=seed) for seed in SEEDS]
    return {name: torch.stack([seed[name] for seed in seeds]).double() for name in seeds[0]}


def tasks() -> Task:
    """Float64 tasks: support (2, 5, 6, 1), query (2, 5, 8, 1)."""
    return TaskStream(sinusoid(SinusoidTasks()), SEEDS, TASKS, Request(6, 8)).batch(0).map(Tensor.double)


def maml(loss_fn: LossFn[Samples], *, inner_lr: float, inner_steps: int, order: Order) -> MetaGradient:
    """The meta-gradient under test."""
    inner = gradient_descent(loss_fn, constant_rate(inner_lr))
    return unrolled(inner, loss_fn, inner_steps=inner_steps, order=order)


def explicit_loop(params: Params, tasks: Task, *, inner_lr: float, inner_steps: int, order: Order) -> Params:
    """The meta-gradient as a textbook writes it: Python loops, torch.autograd and create_graph."""

    def loss(weights: list[Tensor], x: Tensor, y: Tensor) -> Tensor:
        hidden = x
        for index in range(0, len(weights) - 2, 2):
            hidden = torch.tanh(linear(hidden, weights[index], weights[index + 1]))
        return ((linear(hidden, weights[-2], weights[-1]) - y) ** 2).mean()

    grads: list[list[Tensor]] = []
    for seed in range(len(SEEDS)):
        theta = [value[seed].clone().requires_grad_() for value in params.values()]
        total = torch.zeros((), dtype=torch.float64)
        for task in range(TASKS):
            adapted = theta
            for _ in range(inner_steps):
                support = loss(adapted, tasks.support.x[seed, task], tasks.support.y[seed, task])
                inner = torch.autograd.grad(support, adapted, create_graph=order == "second")
                adapted = [weight - inner_lr * grad for weight, grad in zip(adapted, inner, strict=True)]
            total = total + loss(adapted, tasks.query.x[seed, task], tasks.query.y[seed, task])
        grads.append(list(torch.autograd.grad(total / TASKS, theta)))
    return {name: torch.stack([grads[s][i] for s in range(len(SEEDS))]) for i, name in enumerate(params)}


@pytest.mark.parametrize("order", ["first", "second"])
@pytest.mark.parametrize("inner_steps", [0, 1, 3])
def test_meta_gradient_equals_an_explicit_loop(order: Order, inner_steps: int) -> None:
    params, batch = stacked_params(), tasks()
    grads, _ = maml(loss_fn, inner_lr=0.05, inner_steps=inner_steps, order=order)(params, batch)
    expected = explicit_loop(params, batch, inner_lr=0.05, inner_steps=inner_steps, order=order)
    for name in params:
        torch.testing.assert_close(grads[name], expected[name], rtol=1e-12, atol=1e-14)


def test_second_order_meta_gradient_equals_a_finite_difference() -> None:
    params, batch = stacked_params(), tasks()
    meta_gradient = maml(loss_fn, inner_lr=0.05, inner_steps=2, order="second")
    grads, _ = meta_gradient(params, batch)
    generator = torch.Generator().manual_seed(0)
    direction = {name: torch.randn(value.shape, generator=generator).double() for name, value in params.items()}
    slope = sum((grads[name] * direction[name]).flatten(1).sum(1) for name in params)

    def loss_at(distance: float) -> Tensor:
        moved = {name: value + distance * direction[name] for name, value in params.items()}
        return meta_gradient(moved, batch)[1]["post_adapt_loss"]

    difference = (loss_at(1e-5) - loss_at(-1e-5)) / 2e-5
    torch.testing.assert_close(difference, slope, rtol=1e-7, atol=0)


@pytest.mark.parametrize("inner_steps", [1, 2, 5])
def test_second_order_is_first_order_times_the_closed_form_on_a_quadratic(inner_steps: int) -> None:
    # L(theta) = a theta^2 / 2 on support and query: each step multiplies theta by (1 - alpha a).
    a, alpha = 3.0, 0.1

    def quadratic(params: Params, data: Samples) -> Tensor:
        return (params["theta"] ** 2).sum() * data.x.mean() / 2

    sample = Samples(torch.full((1, 1, 1, 1), a), torch.zeros(1, 1, 1, 1))
    theta = {"theta": torch.tensor([[2.0]])}

    def gradient(order: Order) -> float:
        meta_gradient = maml(quadratic, inner_lr=alpha, inner_steps=inner_steps, order=order)
        return meta_gradient(theta, Task(sample, sample))[0]["theta"].item()

    first, second = gradient("first"), gradient("second")
    assert first == pytest.approx(a * 2.0 * (1 - alpha * a) ** inner_steps, rel=1e-6)
    assert second == pytest.approx(first * (1 - alpha * a) ** inner_steps, rel=1e-6)


@pytest.mark.parametrize(("inner_steps", "inner_lr"), [(0, 0.05), (3, 0.0)])
def test_both_orders_are_the_same_computation_without_inner_steps_or_rate(inner_steps: int, inner_lr: float) -> None:
    params, batch = stacked_params(), tasks()
    first, _ = maml(loss_fn, inner_lr=inner_lr, inner_steps=inner_steps, order="first")(params, batch)
    second, _ = maml(loss_fn, inner_lr=inner_lr, inner_steps=inner_steps, order="second")(params, batch)
    assert all(torch.equal(first[name], second[name]) for name in params)


def test_adapt_leaves_its_input_alone_and_keeps_names_and_shapes() -> None:
    params = {name: value[0] for name, value in stacked_params().items()}
    before = {name: value.clone() for name, value in params.items()}
    support = Samples(*(value[0, 0] for value in tasks().support))
    adapted = adapt(loss_fn, params, support, inner_lr=0.1, inner_steps=2, order="second")
    assert list(adapted) == list(params)
    assert all(torch.equal(params[name], before[name]) for name in params)
    assert all(adapted[name].shape == params[name].shape for name in params)


def test_adapt_differentiates_in_what_the_loss_closes_over() -> None:
    # One step on weight * (theta - 1)^2 / 2 from theta = 3 gives 3 - 2 alpha weight: d/dweight is -2 alpha.
    weight = torch.tensor(0.5, requires_grad=True)
    theta = {"theta": torch.tensor(3.0)}

    def weighted(params: Params, target: Tensor) -> Tensor:
        return weight * (params["theta"] - target) ** 2 / 2

    adapted = adapt(weighted, theta, torch.tensor(1.0), inner_lr=0.1, inner_steps=1, order="second")
    assert torch.autograd.grad(adapted["theta"], weight)[0].item() == pytest.approx(-0.2)
    constant = adapt(weighted, theta, torch.tensor(1.0), inner_lr=0.1, inner_steps=1, order="first")
    assert not constant["theta"].requires_grad


@pytest.mark.parametrize(("inner_lr", "inner_steps"), [(-0.1, 1), (0.1, -1)])
def test_negative_settings_are_refused(inner_lr: float, inner_steps: int) -> None:
    with pytest.raises(ValueError, match="must be >= 0"):
        adapt(loss_fn, {}, tasks().support, inner_lr=inner_lr, inner_steps=inner_steps, order="first")


def test_predictions_of_another_shape_than_targets_fail_instead_of_broadcasting() -> None:
    with pytest.raises(TypeCheckError):
        squared_error(torch.zeros(4, 1), torch.zeros(4))
