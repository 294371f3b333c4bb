"""Joint training: one model for all tasks at once, the baseline that MAML is compared with.

Finn et al. 2017 (arXiv:1703.03400, section 5.1) call it pre-training on all tasks: no adaptation in training, plain
supervised learning on the samples of every task of the meta-batch; at test time it is adapted like MAML.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from mamlcli.algorithms.maml import gradient_per_seed
from mamlcli.tasks import Samples, Task
from mamlcli.types import LossFn, Params


def joint_gradient(loss_fn: LossFn[Samples], params: Params, tasks: Task) -> tuple[Params, Float[Tensor, " seeds"]]:
    """Differentiate the mean loss on all samples of the meta-batch, support and query.

    Args:
        loss_fn: Maps (params, samples) to a scalar loss.
        params: name -> tensor of shape (S, ...); not modified.
        tasks: Support of shape (S, B, K, 1) and query of shape (S, B, Q, 1).

    Returns:
        Gradients, same names and shapes as params, and the loss of each seed.
    """

    def losses_of(params: Params, tasks: Task) -> Tensor:
        over_tasks = torch.vmap(loss_fn, in_dims=(None, 0))
        return torch.vmap(over_tasks)(params, all_samples(tasks)).mean(dim=1)

    return gradient_per_seed(losses_of, params, tasks)


def all_samples(tasks: Task) -> Samples:
    """Support and query samples of each task as one set."""
    x, y = (torch.cat(parts, dim=-2) for parts in zip(*tasks, strict=True))
    return Samples(x, y)
