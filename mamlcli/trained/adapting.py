"""What all seeds of a run predict of a task: pure functions of tensors, and the way from a user's units and back."""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mamlcli.experiment import Experiment
from mamlcli.methods.inner_loops import constant
from mamlcli.methods.meta_gradients import adapted
from mamlcli.tasks.family import Units, of_seed
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
        support: x and y of shape (S, K + U, ...), in the unit of each seed.
        steps: Inner steps, >= 0.
    """

    def one(params: Params, support: Samples) -> Params:
        found = adapted(experiment.method.inner, params, support, inner_steps=steps, gradient=constant)
        return next(iter(found.values()))

    with torch.no_grad():
        predictor: Params = torch.vmap(one)(params, support)
    return predictor


def with_unlabelled(support: Samples, x: Float[Tensor, "seeds rows features"], count: int) -> Samples:
    """Put U inputs without a target after the support samples: rows of x, evenly taken of more and repeated if fewer.

    Evenly, since the first ones of sorted inputs would lie at one end.
    """
    rows = x.shape[1]
    chosen = np.linspace(0, rows - 1, count).round() if rows >= count else np.arange(count) % rows
    inputs = x[:, torch.as_tensor(chosen, dtype=torch.int64, device=x.device)]
    unknown = support.y.new_full((len(x), count, support.y.shape[2]), torch.nan)
    return Samples(torch.cat([support.x, inputs], dim=1), torch.cat([support.y, unknown], dim=1))


def predict_seeds(
    experiment: Experiment, predictor: Params, x: Float[Tensor, "seeds rows features"]
) -> Float[Tensor, "seeds rows outputs"]:
    """What each seed says of inputs, some rows at a time."""
    over_seeds, size = torch.vmap(experiment.model.predict), rows_at_a_time(experiment)
    with torch.no_grad():
        return torch.cat([over_seeds(predictor, part) for part in torch.split(x, size, dim=1)], dim=1)


def rows_at_a_time(experiment: Experiment) -> int:
    """How many inputs are predicted at a time."""
    return max(1, _NUMBERS_AT_A_TIME // (len(experiment.config.seeds) * experiment.model.num_units))


class SeedUnits(NamedTuple):
    """The units of every seed, each of shape (S, 1, columns): those of seeds that leave out different tasks differ."""

    x_mean: Numbers
    x_scale: Numbers
    y_mean: Numbers
    y_scale: Numbers


def units_of(experiment: Experiment) -> SeedUnits:
    """The units of every seed; zeros and ones where a model sees numbers as they are."""
    family = experiment.family
    inputs, outputs = family.num_inputs, family.num_outputs
    none = Units((0.0,) * inputs, (1.0,) * inputs, (0.0,) * outputs, (1.0,) * outputs)
    found = [of_seed(family, seed).units or none for seed in experiment.config.seeds]
    return SeedUnits(*(np.array(values)[:, None] for values in zip(*found, strict=True)))


def to_model(values: Numbers, mean: Numbers, scale: Numbers) -> Numbers:
    """Numbers in a user's unit, (rows, columns), as the model of each seed sees them, (S, rows, columns)."""
    scaled: Numbers = (values - mean) / scale
    return scaled


def from_model(values: Numbers, mean: Numbers, scale: Numbers) -> Numbers:
    """And back: (S, rows, columns), each in the user's unit."""
    unscaled: Numbers = values * scale + mean
    return unscaled
