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
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not available[name]:
        here = ", ".join(device for device, is_here in available.items() if is_here)
        remedy = Remedy("set device: auto", "use --device auto")
        raise DeviceError(f"device {name} is not available here; available: {here}", remedy)
    device = torch.device(name)
    if name == "mps" and not _differentiates_twice(device):
        remedy = Remedy("set device: cpu", "use --device cpu")
        raise DeviceError("device mps gives wrong second derivatives with this torch", remedy)
    return device


def _differentiates_twice(device: torch.device) -> bool:
    """Probe a third power: its second derivative at 2 is 12."""
    try:
        x = torch.tensor(2.0, device=device)
        return float(torch.func.grad(torch.func.grad(lambda x: x * x * x))(x)) == 12.0
    except (RuntimeError, NotImplementedError):
        return False
