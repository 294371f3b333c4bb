"""Any `torch.nn.Module` as a model, through `torch.func.functional_call`."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call

from mamlcli.errors import UsageError
from mamlcli.models.model import Model
from mamlcli.types import Params

# So many that a layer which drops units at random drops others at the next call.
_PROBE_ROWS = 64


def module_model(make: Callable[[], nn.Module], num_inputs: int, num_outputs: int) -> Model:
    """Make a model of a module from (n, inputs) to (n, outputs).

    Its parameters are meta-parameters; its buffers are constants of the function. The module must be the same function
    at every call: one that keeps running statistics, or draws random numbers, is refused.

    Args:
        make: Makes the module; whatever it draws from torch's generator becomes a function of the seed.
        num_inputs: Features of an input.
        num_outputs: Width of an output.

    Raises:
        UsageError: If the module is no function of its parameters and inputs, has no parameters, or returns another
            shape.
    """
    module = _seeded(make, 0)
    names = [name for name, _ in module.named_parameters()]
    num_units = _probe(module, names, num_inputs, num_outputs)
    buffers = {name: value.detach().clone() for name, value in module.named_buffers()}

    def predict(params: Params, x: Tensor) -> Tensor:
        own = {name: params[name] for name in names}
        # What counts is whole; what is measured takes the precision and the place of what it meets.
        constants = {name: value.to(x if value.is_floating_point() else x.device) for name, value in buffers.items()}
        outputs: Tensor = functional_call(module, own | constants, (x,))
        return outputs

    return Model(
        init=lambda seed: {
            name: value.detach().clone().float() for name, value in _seeded(make, seed).named_parameters()
        },
        predict=predict,
        num_params=sum(value.numel() for value in module.parameters()),
        num_units=num_units,
        num_tensors=len(names),
        shapes={name: tuple(value.shape) for name, value in module.named_parameters()},
        head=_last_layer(names),
    )


def _last_layer(names: list[str]) -> tuple[str, ...]:
    """The parameters of the module that was made last, which are named after it; none where there is but one module."""
    owners = [name.rpartition(".")[0] for name in names]
    return tuple(name for name, owner in zip(names, owners, strict=True) if owner == owners[-1]) if owners[-1] else ()


def _seeded(make: Callable[[], nn.Module], seed: int) -> nn.Module:
    """A module whose random numbers are those of a seed; torch's generator goes on as if nothing had been drawn."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make()


def _probe(module: nn.Module, names: list[str], num_inputs: int, num_outputs: int) -> int:
    """Call a module twice and check that it is a function; returns the numbers that a sample leaves in it.

    Raises:
        UsageError: With the remedy, if it is not what a model must be.
    """
    kind = type(module).__name__
    if not names:
        raise UsageError(f"the module {kind} has no parameters to learn")
    x = torch.randn(_PROBE_ROWS, num_inputs, generator=torch.Generator().manual_seed(0))
    units: list[int] = []
    hooks = [
        child.register_forward_hook(lambda _, __, out: units.append(out.numel() if isinstance(out, Tensor) else 0))
        for child in module.modules()
        if not list(child.children())
    ]
    before = {name: value.detach().clone() for name, value in module.named_buffers()}
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        first = module(x)
        num_units = sum(units) // _PROBE_ROWS
        for hook in hooks:
            hook.remove()
        changed = [name for name, value in module.named_buffers() if not torch.equal(value, before[name])]
        second = module(x)
    if changed:
        raise UsageError(
            f"the module {kind} changes its buffer {changed[0]!r} at every call, as running statistics do, so a loss "
            "would depend on what was computed before it; use GroupNorm or LayerNorm, or track_running_stats=False"
        )
    if not isinstance(first, Tensor) or first.shape != (_PROBE_ROWS, num_outputs):
        shape = tuple(first.shape) if isinstance(first, Tensor) else type(first).__name__
        raise UsageError(
            f"the module {kind} maps inputs of shape {tuple(x.shape)} to {shape}; the tasks want "
            f"{(_PROBE_ROWS, num_outputs)}"
        )
    if not torch.equal(first, second):
        raise UsageError(
            f"the module {kind} says something else at every call, as dropout does; make it a function: call .eval() "
            "on it, or leave the random layer out"
        )
    return num_units or sum(first.shape[1:])
