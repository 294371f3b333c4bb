"""The optimisers of torch.optim, made and saved without torch's compiler."""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

# torch keeps its compiler out of these methods, and imports it to say so, which takes about as long as torch itself.
_WRAPPED = ("add_param_group", "state_dict", "load_state_dict")


def _light(kind: type[Optimizer]) -> Callable[..., Optimizer]:
    """An optimiser of torch.optim whose methods do not import the compiler; all that they do is the same."""
    unwrapped = {name: inspect.unwrap(getattr(kind, name)) for name in _WRAPPED}
    made: type[Optimizer] = type(kind.__name__, (kind,), unwrapped)
    return made


_OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    name: _light(kind)
    for name, kind in {
        "adam": torch.optim.Adam,
        "adamw": torch.optim.AdamW,
        "nadam": torch.optim.NAdam,
        "radam": torch.optim.RAdam,
        "adamax": torch.optim.Adamax,
        "adagrad": torch.optim.Adagrad,
        "rmsprop": torch.optim.RMSprop,
        "sgd": torch.optim.SGD,
    }.items()
}
_OPTIMIZERS["momentum"] = partial(_OPTIMIZERS["sgd"], momentum=0.9)
_CAPTURABLE = ("adam", "adamw", "nadam", "radam", "adamax", "rmsprop")


def make_optimizer(name: str, params: Tensor, lr: Tensor) -> Optimizer:
    """Make an optimiser with PyTorch's defaults for all but the learning rate; `momentum` is SGD with one of 0.9.

    Args:
        name: A key of the optimisers, like "adam".
        params: What it optimises.
        lr: Its learning rate, a scalar that is read at each step.
    """
    # On an accelerator, what the optimiser counts stays there: a graph of kernels cannot ask the CPU.
    options: dict[str, Any] = {"capturable": True} if params.device.type == "cuda" and name in _CAPTURABLE else {}
    return _OPTIMIZERS[name]([params], lr=lr, foreach=False, **options)


def bare_step(optimizer: Optimizer) -> Callable[[Optimizer], object]:
    """Its step without what torch puts around it: hooks and records, which do not go into a graph, and `no_grad`."""
    found: Callable[[Optimizer], object] = inspect.unwrap(type(optimizer).step)
    return found
