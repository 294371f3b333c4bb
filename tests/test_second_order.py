"""The numbers of docs/second-order.md, as plain tests; the chapter itself runs in test_docs.py."""

import warnings

import pytest
import torch
from torch import Tensor
from torch.autograd import backward, grad

from mamlcli import adapt


def pair() -> tuple[Tensor, Tensor]:
    return torch.tensor([3.0, 1.0], requires_grad=True), torch.tensor([1.0, 2.0], requires_grad=True)


def fifth_power(w: float) -> tuple[Tensor, Tensor]:
    x = torch.tensor(1.0, requires_grad=True)
    return x, (w * x) ** 5


def test_first_derivatives_of_a_squared_product() -> None:
    x, y = pair()
    gx, gy = grad((x @ y) ** 2, (x, y))
    assert gx.tolist() == [10, 20]
    assert gy.tolist() == [30, 10]


def test_derivatives_of_a_first_derivative() -> None:
    x, y = pair()
    gx, _ = grad((x @ y) ** 2, (x, y), create_graph=True)
    dx, dy = grad(gx[0], (x, y))
    assert dx.tolist() == [2, 4]
    assert dy.tolist() == [16, 2]


def test_a_gradient_that_is_not_cleared_is_added_to() -> None:
    x, y = pair()
    with warnings.catch_warnings(action="ignore"):  # torch warns of the cycle, once in a process
        backward((x @ y) ** 2, create_graph=True)
    assert x.grad is not None
    backward(x.grad[0])
    assert x.grad.tolist() == [12, 24]
    assert y.grad is not None
    assert y.grad.tolist() == [46, 12]
    x.grad = y.grad = None  # the graph of a gradient that holds its own leaf would keep both alive


@pytest.mark.parametrize("w", [1.0, 2.0, -1.5])
def test_the_fifth_power_has_the_derivatives_of_the_textbook(w: float) -> None:
    x, y = fifth_power(w)
    (slope,) = grad(y, x, create_graph=True)
    (curvature,) = grad(slope, x)
    assert slope.item() == pytest.approx(5 * w**5)
    assert curvature.item() == pytest.approx(20 * w**5)


def test_a_second_backward_over_a_retained_graph_doubles_the_first_derivative() -> None:
    x, y = fifth_power(2.0)
    backward(y, retain_graph=True)
    backward(y)
    assert x.grad is not None
    assert x.grad.item() == 2 * 160


def test_without_create_graph_there_is_no_second_derivative() -> None:
    x, y = fifth_power(2.0)
    (slope,) = grad(y, x)
    with pytest.raises(RuntimeError, match="does not require grad"):
        grad(slope, x)


def weighted(theta: Tensor, a: Tensor) -> Tensor:
    return (a * (theta[0] * torch.arange(4.0) + theta[1] - 1) ** 2).sum()


def test_grad_with_a_vector_is_the_vector_times_the_full_jacobian() -> None:
    theta, a = torch.tensor([0.5, -0.3], requires_grad=True), torch.ones(4, requires_grad=True)
    (gradient,) = grad(weighted(theta, a), theta, create_graph=True)
    v = torch.tensor([1.0, -2.0])
    (product,) = grad(gradient, a, grad_outputs=v)
    # d^2 L / d theta d a_k = 2 r_k (k, 1) with residual r_k = theta_0 k + theta_1 - 1.
    residual = 0.5 * torch.arange(4.0) - 1.3
    jacobian = torch.stack([2 * residual * torch.arange(4.0), 2 * residual])
    torch.testing.assert_close(product, v @ jacobian)


def test_an_update_under_no_grad_cuts_the_vector_out() -> None:
    theta, a = torch.tensor([0.5, -0.3], requires_grad=True), torch.ones(4, requires_grad=True)
    (gradient,) = grad(weighted(theta, a), theta, create_graph=True)
    cut = theta.detach().clone().requires_grad_()
    with torch.no_grad():
        cut.sub_(0.1 * gradient)
    kept = theta - 0.1 * gradient
    assert torch.equal(cut, kept)
    assert grad(cut.sum(), a, allow_unused=True)[0] is None
    assert grad(kept.sum(), a)[0].abs().sum() > 0


@pytest.mark.parametrize(("order", "expected"), [("second", 0.98), ("first", 1.4)])
def test_one_inner_step_on_a_quadratic(order: str, expected: float) -> None:
    theta = torch.tensor(2.0, requires_grad=True)
    adapted = adapt(
        lambda params, a: a * params["theta"] ** 2 / 2,
        {"theta": theta},
        torch.tensor(3.0),
        inner_lr=0.1,
        inner_steps=1,
        order=order,  # type: ignore[arg-type]
    )
    assert grad(adapted["theta"] ** 2 / 2, theta)[0].item() == pytest.approx(expected)
