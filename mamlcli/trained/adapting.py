"""What all seeds of a run predict of a task: pure functions of tensors, and the way from a user's units and back."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mamlcli.experiment import Experiment
from mamlcli.methods.inner_loops import constant
from mamlcli.methods.meta_gradients import adapted
from mamlcli.tasks.samples import Samples
from mamlcli.trained.arrays import Numbers
from mamlcli.types import Params

_NUMBERS_AT_A_TIME = 2**22
"""How many activations there are as rows are predicted; about 100 MiB at the most."""


def adapt_seeds(experiment: Experiment, params: Params, support: Samples, steps: int) -> Params:
    """Adapt every seed to one task; returns the parameters of what a run is measured by, the first predictor.

    Args:
        experiment: What was trained.
        params: Meta-parameters, name -> (S, ...).
        support: x and y of shape (K + U, ...).
        steps: Inner steps, >= 0.
    """

    def one(params: Params, support: Samples) -> Params:
        found = adapted(experiment.method.inner, params, support, inner_steps=steps, gradient=constant)
        return next(iter(found.values()))

    with torch.no_grad():
        predictor: Params = torch.vmap(one, in_dims=(0, None))(params, support)
    return predictor


def with_unlabelled(support: Samples, x: Float[Tensor, "rows features"], count: int) -> Samples:
    """Put U inputs without a target after the support samples: rows of x, evenly taken of more and repeated if fewer.

    Evenly, since the first ones of sorted inputs would lie at one end.
    """
    rows = len(x)
    chosen = np.linspace(0, rows - 1, count).round() if rows >= count else np.arange(count) % rows
    inputs = x[torch.as_tensor(chosen, dtype=torch.int64, device=x.device)]
    unknown = support.y.new_full((count, support.y.shape[1]), torch.nan)
    return Samples(torch.cat([support.x, inputs]), torch.cat([support.y, unknown]))


def predict_seeds(
    experiment: Experiment, predictor: Params, x: Float[Tensor, "rows features"]
) -> Float[Tensor, "seeds rows outputs"]:
    """What each seed says of inputs, some rows at a time."""
    over_seeds = torch.vmap(experiment.model.predict, in_dims=(0, None))
    with torch.no_grad():
        return torch.cat([over_seeds(predictor, part) for part in torch.split(x, rows_at_a_time(experiment))], dim=1)


def rows_at_a_time(experiment: Experiment) -> int:
    """How many inputs are predicted at a time."""
    return max(1, _NUMBERS_AT_A_TIME // (len(experiment.config.seeds) * experiment.model.num_units))


def to_model(values: Numbers, mean: Sequence[float], scale: Sequence[float]) -> Numbers:
    """Numbers in a user's unit as a model sees them, column by column."""
    scaled: Numbers = (values - np.asarray(mean)) / np.asarray(scale)
    return scaled


def from_model(values: Numbers, mean: Sequence[float], scale: Sequence[float]) -> Numbers:
    """And back."""
    unscaled: Numbers = values * np.asarray(scale) + np.asarray(mean)
    return unscaled
