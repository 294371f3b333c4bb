"""The meta-update as two calls of the library: what `training.make_update` does, for MAML of MLPs and with Adam."""

import ctypes
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from mamlcli.compute.fused.library import Problem, load_library
from mamlcli.methods.method import Log
from mamlcli.tasks.samples import Task
from mamlcli.training import TrainState
from mamlcli.types import Order


class FusedUpdate:
    """The meta-update of a state of ReLU MLPs on the CPU, whose optimiser is `torch.optim.Adam`; a `training.Update`.

    The state is changed as by `training.make_update`, and its optimiser's state as by Adam: either update can go
    on where the other one stopped.

    Args:
        state: Its parameters are those of `mlp.init_params`.
        sizes: Units of every layer, input and output included.
        inner_lr: alpha, >= 0.
        inner_steps: Gradient steps of adaptation, >= 0.
        order: As for `mamlcli.adapt`.
        max_grad_norm: See `training.clip_per_seed`.

    Raises:
        RuntimeError, OSError: As `load_library`.
    """

    def __init__(
        self,
        state: TrainState,
        sizes: Sequence[int],
        *,
        inner_lr: float,
        inner_steps: int,
        order: Order,
        max_grad_norm: float | None,
    ) -> None:
        self._library = load_library(state.flat.dtype)
        self._state = state
        self._loop = (inner_steps, int(order == "second"), len(sizes), (ctypes.c_int64 * len(sizes))(*sizes), inner_lr)
        self._max_norm = math.inf if max_grad_norm is None else max_grad_norm
        self.workspace = torch.empty(0, dtype=torch.uint8)
        """Kept between steps: a new one at each would be paged in anew."""

    def __call__(self, tasks: Task) -> tuple[Log, Tensor]:
        """Make one meta-update on a meta-batch."""
        state, (support, query) = self._state, tasks
        problem = Problem(*support.x.shape[:3], query.x.shape[2], *self._loop)
        threads = torch.get_num_threads()
        needed = threads * self._library.workspace_bytes(problem)
        if len(self.workspace) < needed:
            self.workspace = torch.empty(needed, dtype=torch.uint8)
        losses, norms = torch.empty(2, len(state.flat), dtype=state.flat.dtype)
        assert state.flat.grad is not None
        data = [part.to(state.flat.dtype).contiguous() for part in (*support, *query)]
        pointers = _pointers(self.workspace, state.flat, *data, state.flat.grad, losses)
        self._library.meta_gradient(problem, threads, *pointers)
        moments, group = _moments(state), state.optimizer.param_groups[0]
        moments["step"] += 1
        held = (state.flat, state.flat.grad, moments["exp_avg"], moments["exp_avg_sq"])
        numbers = (moments["step"].item(), state.lr.item(), *group["betas"], group["eps"], self._max_norm)
        self._library.adam(*state.flat.shape, *numbers, *_pointers(losses, *held, norms, state.alive, state.updates))
        return {"post_adapt_loss": losses}, norms


def _pointers(*tensors: Tensor) -> list[int]:
    assert all(tensor.is_contiguous() for tensor in tensors)
    return [tensor.data_ptr() for tensor in tensors]


def _moments(state: TrainState) -> dict[str, Tensor]:
    """What Adam holds of the parameters, made at the first step as Adam makes it."""
    moments: dict[str, Tensor] = state.optimizer.state[state.flat]
    if not moments:
        moments["step"] = torch.zeros(())
        moments |= {name: torch.zeros_like(state.flat) for name in ("exp_avg", "exp_avg_sq")}
    for name in ("exp_avg", "exp_avg_sq"):
        moments[name] = moments[name].contiguous()  # a checkpoint may bring them in another order of memory
    return moments
