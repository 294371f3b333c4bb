"""Which device a run uses: the one that was asked for, or an error; never another one in silence."""

from typing import Literal, TypeAlias

import torch

from mamlcli.errors import DeviceError, Remedy

DeviceName: TypeAlias = Literal["auto", "cpu", "cuda", "mps"]


def resolve_device(name: DeviceName) -> torch.device:
    """Turn a device's name from the config into a device that works.

    Args:
        name: `auto` is CUDA where it is there, and the CPU otherwise.

    Raises:
        DeviceError: If the device is not there, or cannot differentiate twice.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    available = available_devices()
    if not available[name]:
        here = ", ".join(device for device, is_here in available.items() if is_here)
        remedy = Remedy("set device: auto", "use --device auto")
        raise DeviceError(f"device {name} is not available here; available: {here}", remedy)
    device = torch.device(name)
    if name == "mps" and not _differentiates_twice(device):
        remedy = Remedy("set device: cpu", "use --device cpu")
        raise DeviceError("device mps gives wrong second derivatives with this torch", remedy)
    return device


def available_devices() -> dict[Literal["cpu", "cuda", "mps"], bool]:
    """Which kinds of devices are here."""
    return {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}


def double_backward_error(device: torch.device) -> float:
    """Compute a meta-gradient on a device by differentiating twice; its relative error in float32.

    With L(theta) = theta^T A theta / 2 and one inner step theta' = theta - alpha A theta, the gradient of L(theta') is
    (I - alpha A) A (I - alpha A) theta; in first order it would be A (I - alpha A) theta.

    Raises:
        RuntimeError: If the device cannot do it.
    """
    alpha, curvature = 0.1, torch.tensor([[2.0, 0.5], [0.5, 1.0]], device=device)
    theta = torch.tensor([1.0, -3.0], device=device, requires_grad=True)

    def loss(at: torch.Tensor) -> torch.Tensor:
        return at @ curvature @ at / 2

    inner = torch.autograd.grad(loss(theta), theta, create_graph=True)[0]
    found = torch.autograd.grad(loss(theta - alpha * inner), theta)[0].double().cpu()
    a, step = curvature.double().cpu(), torch.eye(2, dtype=torch.float64) - alpha * curvature.double().cpu()
    expected = step @ a @ step @ theta.detach().double().cpu()
    return float((found - expected).norm() / expected.norm())


def _differentiates_twice(device: torch.device) -> bool:
    """Probe a third power: its second derivative at 2 is 12."""
    try:
        x = torch.tensor(2.0, device=device)
        return float(torch.func.grad(torch.func.grad(lambda x: x * x * x))(x)) == 12.0
    except (RuntimeError, NotImplementedError):
        return False
