"""What a checkpoint says of the best parameters: tensors and plain numbers, checked as they are read."""

import math
from typing import Any

import torch

from mamlcli.best import Best
from mamlcli.config.experiment import Config
from mamlcli.training import flat_per_seed, unflatten


def best_content(best: Best) -> dict[str, Any]:
    """The best parameters as tensors of one memory, as `params` are, and plain numbers."""
    shapes = {name: theta.shape[1:] for name, theta in best.params.items()}
    return {
        "params": unflatten(flat_per_seed(best.params), shapes),
        "loss": best.loss.tolist(),
        "step": best.step.tolist(),
        "newest": best.newest.tolist(),
        "at": best.at,
    }


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
