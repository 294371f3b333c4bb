"""Which tasks of a meta-batch made a seed diverge."""

import torch

from mamlcli.compute.plan import Plan, uncompiled_gradient
from mamlcli.experiment import Experiment
from mamlcli.training import TrainState, flat_per_seed

_MAX_NAMED = 10


def name_tasks(experiment: Experiment, plan: Plan, state: TrainState, seed: int) -> str:
    """Say which tasks of a seed's failing meta-batch are not finite.

    The parameters that failed are still there, since no update was made with them, and the tasks follow from the
    step; each task is differentiated alone.

    Args:
        experiment: What is trained.
        plan: How it is computed.
        state: A state in which this seed has diverged.
        seed: The seed.

    Returns:
        Text like "tasks 3, 17 of its meta-batch", numbers from 0; where each task alone is finite, the one with the
        largest loss.
    """
    index = experiment.config.seeds.index(seed)
    params = {name: theta[index : index + 1].detach() for name, theta in state.params.items()}
    made = int(state.updates[index])
    batch = experiment.stream().batch(made, state.flat.device)
    gradient, losses, norms = uncompiled_gradient(experiment, plan, made), [], []
    for task in range(experiment.config.outer.meta_batch_size):
        part = (slice(index, index + 1), slice(task, task + 1))
        grads, log = gradient(params, batch.map(lambda values, part=part: values[part]))  # type: ignore[misc]
        losses.append(log["post_adapt_loss"])
        norms.append(torch.linalg.vector_norm(flat_per_seed(grads), dim=1))
    loss_of, norm_of = torch.cat(losses), torch.cat(norms)
    broken = (~(loss_of.isfinite() & norm_of.isfinite())).nonzero().flatten().tolist()
    if not broken:
        return f"largest in task {int(loss_of.argmax())} of its meta-batch"
    named = ", ".join(map(str, broken[:_MAX_NAMED])) + (", ..." if len(broken) > _MAX_NAMED else "")
    return f"task{'s' * (len(broken) > 1)} {named} of its meta-batch"
