"""A bound on what a single task says: its meta-gradient is clamped before the mean over tasks is taken."""

from mamlcli.methods.method import Log, MetaGradient
from mamlcli.tasks.samples import Task, each_alone
from mamlcli.types import Params


def clamped_per_task(meta_gradient: MetaGradient, bound: float) -> MetaGradient:
    """Clamp each number of each task's meta-gradient to +-bound, and take the mean over B tasks.

    Seeds do not know of each other, so that a task becomes a seed of its own, with a meta-batch of one.

    Args:
        meta_gradient: Of any method; its meta-gradient must be the mean of its tasks' own.
        bound: > 0.
    """

    def clamped(params: Params, tasks: Task) -> tuple[Params, Log]:
        num_seeds, num_tasks = tasks.support.x.shape[:2]
        grads, log = meta_gradient(*each_alone(params, tasks))
        bounded = {name: grad.clamp(-bound, bound) for name, grad in grads.items()}
        means = [
            {name: value.view(num_seeds, num_tasks, *value.shape[1:]).mean(dim=1) for name, value in values.items()}
            for values in (bounded, log)
        ]
        return means[0], means[1]

    return clamped
