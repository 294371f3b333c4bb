"""The meta-test as one call of the library: what `meta_test.adaptation_losses` does, for gradient descent of MLPs."""

import torch
from jaxtyping import Float
from torch import Tensor

from mamlcli.compute.fused.library import Data, Problem, load_library, loop_of, pointers
from mamlcli.methods.method import Descent
from mamlcli.models.model import Layers
from mamlcli.tasks.samples import Task
from mamlcli.training import flat_per_seed
from mamlcli.types import Params


def fused_losses(
    params: Params,
    tasks: Task,
    *,
    layers: Layers,
    descent: Descent,
    has_gaps: bool = False,
    inner_steps: int,
    threads: int,
) -> Float[Tensor, "seeds tasks steps"]:
    """Measure the query loss of every task after 0 to inner_steps steps of adaptation, walking once through them.

    Args:
        params: Parameters of S seeds, name -> (S, ...), those of `mlp.init_params` and learned rates, on the CPU.
        tasks: T tasks, the same for every seed: support (T, K, ...), query (T, Q, ...).
        layers: The networks.
        descent: The inner loop.
        has_gaps: Whether a target that is NaN is none, as `PRESENT_SQUARED_ERROR` has it.
        inner_steps: N, >= 0; beside those of the loop, which it was trained with.
        threads: How many compute; the numbers do not depend on it.

    Returns:
        Mean squared errors of shape (S, T, N + 1).

    Raises:
        RuntimeError, OSError: As `load_library`.
    """
    flat = flat_per_seed(params).contiguous()
    library, (support, query) = load_library(flat.dtype), tasks
    shots = support.x.shape[1], query.x.shape[1]
    problem = Problem(len(flat), len(query.x), *shots, inner_steps, has_gaps, 0, *loop_of(descent, layers, len(flat)))
    workspace = torch.empty(threads * library.test_bytes(problem), dtype=torch.uint8)
    losses = torch.empty(len(flat), len(query.x), inner_steps + 1, dtype=flat.dtype)
    drawn = [part.to(flat.dtype).contiguous() for part in (*support, *query)]
    library.test(problem, threads, workspace.data_ptr(), Data(*pointers(flat, *drawn)), losses.data_ptr())
    return losses
