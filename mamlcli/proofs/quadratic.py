"""A loss whose meta-gradients are known in closed form: L(theta) = sum_i a_i theta_i^2 / 2, the same for every task."""

import torch
from torch import Tensor

from mamlcli.tasks.samples import Samples, Task
from mamlcli.types import Params

CURVATURE = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
"""a."""
THETA = torch.tensor([[1.0, -2.0, 3.0]], dtype=torch.float64)
"""Meta-parameters of one seed, where they are differentiated."""
_NOTHING = Samples(torch.zeros(1, 2, 1, 1, dtype=torch.float64), torch.zeros(1, 2, 1, 1, dtype=torch.float64))
TASKS = Task(_NOTHING, _NOTHING)
"""Two tasks of one seed, of which the loss reads nothing."""


def quadratic(params: Params, samples: Samples) -> Tensor:
    """The loss of `{"theta": ...}`."""
    return (CURVATURE * params["theta"].square()).sum() / 2 + 0 * samples.x.sum()
