"""Which tasks of a meta-batch made a seed diverge."""

import torch

from mamlcli.config.experiment import Config
from mamlcli.setup import make_stream, make_task_gradient
from mamlcli.tasks import Samples, Task
from mamlcli.training import TrainState, flat_per_seed

_MAX_NAMED = 10


def name_tasks(config: Config, state: TrainState, seed: int) -> str:
    """Say which tasks of a seed's failing meta-batch are not finite.

    The parameters that failed are still there, since no update was made with them, and the tasks follow from the
    step; each task is differentiated alone.

    Args:
        config: The experiment.
        state: A state in which this seed has diverged.
        seed: The seed.

    Returns:
        Text like "tasks 3, 17 of its meta-batch", numbers from 0; where each task alone is finite, the one with the
        largest loss.
    """
    index = config.seeds.index(seed)
    params = {name: theta[index : index + 1].detach() for name, theta in state.params.items()}
    batch = make_stream(config).batch(int(state.updates[index]), state.flat.device)
    gradient, losses, norms = make_task_gradient(config), [], []
    for task in range(config.outer.meta_batch_size):
        part = (slice(index, index + 1), slice(task, task + 1))
        grads, loss = gradient(params, Task(*(Samples(side.x[part], side.y[part]) for side in batch)))
        losses.append(loss)
        norms.append(torch.linalg.vector_norm(flat_per_seed(grads), dim=1))
    loss_of, norm_of = torch.cat(losses), torch.cat(norms)
    broken = (~(loss_of.isfinite() & norm_of.isfinite())).nonzero().flatten().tolist()
    if not broken:
        return f"largest in task {int(loss_of.argmax())} of its meta-batch"
    named = ", ".join(map(str, broken[:_MAX_NAMED])) + (", ..." if len(broken) > _MAX_NAMED else "")
    return f"task{'s' * (len(broken) > 1)} {named} of its meta-batch"
