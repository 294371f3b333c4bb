"""The meta-validation loss: one number of each seed along a training, on fixed tasks that no seed trains on."""

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from mamlcli.experiment import Experiment
from mamlcli.groups import groups, joined
from mamlcli.interrupts import StopRequest
from mamlcli.meta_test.measure import tasks_in_parts
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

    The tasks are the same whenever it is measured, and for all seeds that have the same.

    Args:
        experiment: What is trained.
        params: Meta-parameters of S seeds on the device, name -> (S, ...); not modified.
        device: Where to compute.
        stop: Looked at between tasks.

    Returns:
        A loss of each seed, on the CPU. None if a signal asked to stop.
    """
    found = torch.empty(len(experiment.config.seeds), dtype=torch.float64)
    for group in groups(experiment):
        losses = _of_group(group.experiment, group.of(params), device, stop)
        if losses is None:
            return None
        found[group.places] = losses.mean(dim=1)
    return found


def validation_losses(
    experiment: Experiment, params: Params, device: torch.device, stop: StopRequest
) -> Float64[Tensor, "seeds tasks"]:
    """The same of each task, for statistics; with repetitions for seeds where these leave out different tasks.

    Raises:
        InterruptedRunError: If a signal asked to stop.
        UsageError: As `mamlcli.groups.joined`.
    """
    parts: list[Tensor] = []
    for group in groups(experiment):
        losses = _of_group(group.experiment, group.of(params), device, stop)
        if losses is None:
            stop.raise_if_asked("interrupted during the meta-validation; the trainings are saved")
        else:
            parts.append(losses)
    return joined(experiment, parts, _SPLIT)


def _of_group(
    experiment: Experiment, params: Params, device: torch.device, stop: StopRequest
) -> Float64[Tensor, "seeds tasks"] | None:
    parts: list[Tensor] = []
    for drawn in tasks_in_parts(experiment, experiment.config.tasks.support_shots, _SPLIT):
        if stop.signal_number is not None:
            return None
        parts.append(_losses(experiment, params, drawn.map(lambda part: part.to(device))).cpu().double())
    return torch.cat(parts, dim=1)


def _losses(experiment: Experiment, params: Params, tasks: Task) -> Float[Tensor, "seeds tasks"]:
    """The query loss of the first predictor of every seed and task; needs no graph."""
    inner, steps = experiment.method.inner, experiment.method.inner_steps

    def one(params: Params, task: Task) -> Tensor:
        found = adapted(inner, params, task.support, inner_steps=steps, gradient=constant)
        return experiment.loss_fn(next(iter(found.values())), task.query)

    with torch.no_grad():
        losses: Tensor = torch.vmap(torch.vmap(one, in_dims=(None, 0)), in_dims=(0, None))(params, tasks)
    return losses
