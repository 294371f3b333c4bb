"""The functional MLP against torch.nn."""

import math

import pytest
import torch
from torch import nn

from mamlcli.models.layers import ACTIVATIONS, forward, init_params


def modules(activation: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Linear(1, 40), activation, nn.Linear(40, 30), activation, nn.Linear(30, 1))


def test_torch_default_draws_what_linear_layers_draw() -> None:
    torch.manual_seed(7)
    expected = list(modules(nn.ReLU()).parameters())
    params = init_params([1, 40, 30, 1], init="torch_default", seed=7)
    for ours, theirs in zip(params.values(), expected, strict=True):
        torch.testing.assert_close(ours, theirs.detach(), rtol=1e-6, atol=0)


def test_truncated_normal_has_zero_biases_and_weights_within_two_standard_deviations() -> None:
    params = init_params([1, 200, 200, 1], init="truncated_normal", seed=0)
    weights = params["layer1.weight"]
    assert weights.abs().max() <= 0.02
    # A normal cut at two standard deviations keeps 0.8796 of its own.
    assert weights.std().item() == pytest.approx(0.01 * math.sqrt(1 - 2 * 2 * 0.05399 / 0.9545), rel=0.02)
    assert all((params[f"layer{i}.bias"] == 0).all() for i in range(3))


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("relu", nn.ReLU()),
        ("tanh", nn.Tanh()),
        ("sigmoid", nn.Sigmoid()),
        ("gelu", nn.GELU()),
        ("silu", nn.SiLU()),
        ("elu", nn.ELU()),
        ("softplus", nn.Softplus()),
    ],
)
def test_forward_equals_a_stack_of_modules(name: str, module: nn.Module) -> None:
    network = modules(module)
    params = dict(zip(init_params([1, 40, 30, 1], init="torch_default", seed=0), network.parameters(), strict=True))
    x = torch.linspace(-5, 5, 11).unsqueeze(-1)
    torch.testing.assert_close(forward(params, x, activation=ACTIVATIONS[name]), network(x))  # type: ignore[arg-type]


def test_no_hidden_layer_is_a_linear_model() -> None:
    params = {"layer0.weight": torch.tensor([[2.0]]), "layer0.bias": torch.tensor([1.0])}
    assert forward(params, torch.tensor([[3.0]]), activation=torch.relu).item() == 7.0
