"""Whether what a checkpoint holds fits a state: names, shapes, dtypes, and nothing that is not finite."""

import copy
import math
from typing import Any

import torch
from torch import Tensor

from mamlcli.best import Best
from mamlcli.config.experiment import Config
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


def best_of(found: Any, config: Config, step: int) -> Best | str | None:
    """Read what a checkpoint says of the best parameters, but for these themselves; or say what is wrong with it.

    Args:
        found: What stands there; None where nothing was measured yet.
        config: That of the checkpoint.
        step: Meta-updates made.
    """
    if found is None:
        return None
    if not isinstance(found, dict) or found.keys() != {"params", "loss", "step", "newest", "at"}:
        return "they are none"
    losses, steps, newest, at = (found[name] for name in ("loss", "step", "newest", "at"))
    every, count = config.evaluation.every_steps, len(config.seeds)
    if every is None:
        return "its config says that none were looked for"
    if type(at) is not int or not 1 <= at <= step:
        return "they were looked for at a step that was not made"
    if not all(_is_list_of(kind, values, count) for kind, values in ((float, losses), (int, steps), (float, newest))):
        return "there are no losses and steps per seed"
    for loss, of in zip(losses, steps, strict=True):
        if not (math.isfinite(loss) and 1 <= of <= at and of % every == 0) and (loss, of) != (math.inf, 0):
            return f"a loss of {loss} at step {str(of)[:20]} is none that was measured"
    numbers = (
        torch.tensor(losses, dtype=torch.float64),
        torch.tensor(steps),
        torch.tensor(newest, dtype=torch.float64),
    )
    return Best(found["params"], *numbers, at)


def _is_list_of(kind: type, values: Any, count: int) -> bool:
    return isinstance(values, list) and len(values) == count and all(type(value) is kind for value in values)


def _optimizer_state(state: TrainState, *, started: bool) -> dict[Any, dict[str, Tensor]]:
    """What the optimiser of a state holds, by key, before its first step or after one."""
    optimizer = copy.deepcopy(state.optimizer)
    if started:
        with torch.no_grad():
            optimizer.step()
    return {
        index: {name: value for name, value in values.items() if isinstance(value, Tensor)}
        for index, values in optimizer.state_dict()["state"].items()
    }


def _described(params: dict[Any, Any]) -> dict[Any, str]:
    return {
        name: f"{tuple(theta.shape)} {theta.dtype}" if type(theta) is Tensor else "no tensor"
        for name, theta in params.items()
    }
