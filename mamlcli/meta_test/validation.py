"""The meta-validation loss: one number of each seed along a training, on fixed tasks that no seed trains on."""

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from mamlcli.experiment import Experiment
from mamlcli.interrupts import StopRequest
from mamlcli.memory.estimate import tasks_at_a_time
from mamlcli.meta_test.measure import meta_test_tasks
from mamlcli.methods.inner_loops import constant
from mamlcli.methods.meta_gradients import adapted
from mamlcli.tasks.numbers import Split
from mamlcli.tasks.samples import Task
from mamlcli.types import Params

_SPLIT: Split = "meta-validation"


def validation_loss(
    experiment: Experiment, params: Params, device: torch.device, stop: StopRequest
) -> Float64[Tensor, " seeds"] | None:
    """Measure the mean query loss after the inner steps of meta-training, on the meta-validation tasks.

    The tasks are the same whenever it is measured, whatever the seeds; where a family says which of them a seed may
    use, its mean is over those.

    Args:
        experiment: What is trained.
        params: Meta-parameters of S seeds on the device, name -> (S, ...); not modified.
        device: Where to compute.
        stop: Looked at between tasks.

    Returns:
        A loss of each seed, on the CPU; NaN for a seed without a task of its own. None if a signal asked to stop.
    """
    num_tasks, at_a_time = experiment.num_test_tasks(_SPLIT), tasks_at_a_time(experiment, _SPLIT)
    parts: list[Tensor] = []
    for first in range(0, num_tasks, at_a_time):
        if stop.signal_number is not None:
            return None
        count, shots = min(at_a_time, num_tasks - first), experiment.config.tasks.support_shots
        tasks = meta_test_tasks(experiment, shots, first, count, _SPLIT).map(lambda part: part.to(device))
        parts.append(_losses(experiment, params, tasks).cpu().double())
    own = _own_tasks(experiment, num_tasks)
    # Not a product with zero: what another seed's task has made infinite is nothing to this one.
    return torch.cat(parts, dim=1).where(own, 0).sum(dim=1) / own.sum(dim=1)


def _losses(experiment: Experiment, params: Params, tasks: Task) -> Float[Tensor, "seeds tasks"]:
    """The query loss of the first predictor of every seed and task; needs no graph."""
    inner, steps = experiment.method.inner, experiment.method.inner_steps

    def one(params: Params, task: Task) -> Tensor:
        found = adapted(inner, params, task.support, inner_steps=steps, gradient=constant)
        return experiment.loss_fn(next(iter(found.values())), task.query)

    with torch.no_grad():
        losses: Tensor = torch.vmap(torch.vmap(one, in_dims=(None, 0)), in_dims=(0, None))(params, tasks)
    return losses


def _own_tasks(experiment: Experiment, num_tasks: int) -> Bool[Tensor, "seeds tasks"]:
    """Which tasks each seed may use."""
    seeds, members = experiment.config.seeds, experiment.family.members
    if members is None:
        return torch.ones(len(seeds), num_tasks, dtype=torch.bool)
    return torch.from_numpy(np.stack([members(_SPLIT, seed)[:num_tasks] for seed in seeds]))
