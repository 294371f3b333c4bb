"""Whether what a checkpoint holds fits a state: names, shapes, dtypes, and nothing that is not finite."""

import copy
from typing import Any

import torch
from torch import Tensor

from mamlcli.optimizers import bare_step
from mamlcli.training import TrainState
from mamlcli.types import Params

# From here on the optimiser's count of steps, a float32, does not grow.
_LAST_COUNTED = 2**24


def params_problem(expected: Params, found: Any) -> str | None:
    """Say what keeps parameters from being those of a model, or None if nothing does."""
    if not isinstance(found, dict):
        return "of another model: its parameters are no tensors by name"
    ours, theirs = _described(expected), _described(found)
    differences = [
        f"{name}: {theirs.get(name, 'missing')} in the file, {ours.get(name, 'not there')} in the config"
        for name in sorted(ours.keys() | theirs.keys(), key=str)
        if ours.get(name) != theirs.get(name)
    ]
    if differences:
        return "of another model: " + "; ".join(differences)
    broken = [name for name, value in found.items() if not value.isfinite().all()]
    return f"not finite: {', '.join(broken)}" if broken else None


def optimizer_problem(state: TrainState, found: Any, step: int) -> str | None:
    """Say what keeps an optimiser's state, after this many steps, from being one of a train state's optimiser."""
    if not isinstance(found, dict) or not isinstance(found.get("state"), dict):
        return "it is none"
    expected = _optimizer_state(state, started=step > 0)
    if found["state"].keys() != expected.keys():
        return "it is of other tensors"
    for index, ours in expected.items():
        theirs = found["state"][index]
        if not isinstance(theirs, dict):
            return "it is none"
        if problem := params_problem(ours, theirs):
            return problem
        if "step" in ours and theirs["step"].item() != min(step, _LAST_COUNTED):
            return f"it has counted {theirs['step'].item():g} steps of {step}"
    return None


def _optimizer_state(state: TrainState, *, started: bool) -> dict[Any, dict[str, Tensor]]:
    """What the optimiser of a state holds, by key, before its first step or after one."""
    optimizer = copy.deepcopy(state.optimizer)
    if started:
        with torch.no_grad():
            bare_step(optimizer)(optimizer)
    return {
        index: {name: value for name, value in values.items() if isinstance(value, Tensor)}
        for index, values in optimizer.state_dict()["state"].items()
    }


def _described(params: dict[Any, Any]) -> dict[Any, str]:
    return {
        name: f"{tuple(theta.shape)} {theta.dtype}" if type(theta) is Tensor else "no tensor"
        for name, theta in params.items()
    }
