"""The meta-update as two calls of the library: what `training.make_update` does, for MAML of MLPs and with Adam."""

import ctypes
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from mamlcli.compute.fused.library import Problem, load_library
from mamlcli.methods.method import Log
from mamlcli.tasks.samples import Task
from mamlcli.training import Stack, TrainState
from mamlcli.types import Order


class FusedUpdate:
    """The meta-update of a state of ReLU MLPs on the CPU, whose optimiser is `torch.optim.Adam`; a `training.Update`.

    The state is changed as by `training.make_update`, and its optimiser's state as by Adam: either update can go
    on where the other one stopped. The parts of a stack are updated at once, each with its learning rate; all of them
    have made as many updates.

    Args:
        state: Its parameters are those of `mlp.init_params`.
        sizes: Units of every layer, input and output included.
        inner_lr: alpha, >= 0, of all seeds or of each.
        inner_steps: Gradient steps of adaptation, >= 0.
        order: As for `mamlcli.adapt`.
        max_grad_norm: See `training.clip_per_seed`.

    Raises:
        RuntimeError, OSError: As `load_library`.
    """

    def __init__(
        self,
        state: TrainState | Stack,
        sizes: Sequence[int],
        *,
        inner_lr: float | Tensor,
        inner_steps: int,
        order: Order,
        max_grad_norm: float | Tensor | None,
    ) -> None:
        self._library = load_library(state.flat.dtype)
        self._state = state
        count = len(state.flat)
        self._rows = [len(part.flat) for part in state.parts]
        loop = (inner_steps, int(order == "second"), len(sizes), (ctypes.c_int64 * len(sizes))(*sizes))
        self._loop = (*loop, _numbers(inner_lr, count))
        self._max_norms = _numbers(math.inf if max_grad_norm is None else max_grad_norm, count)
        self._lrs: list[float] = []
        self._lr_array = _array([])
        self._moments: dict[str, Tensor] = {}
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
        moments, group = self._of_adam(), state.parts[0].optimizer.param_groups[0]
        held = (state.flat, state.flat.grad, moments["exp_avg"], moments["exp_avg_sq"])
        numbers = (moments["step"].item(), *group["betas"], group["eps"], self._lr_of_each(), self._max_norms)
        self._library.adam(*state.flat.shape, *numbers, *_pointers(losses, *held, norms, state.alive, state.updates))
        return {"post_adapt_loss": losses}, norms

    def _lr_of_each(self) -> ctypes.Array[ctypes.c_double]:
        """The learning rate of every seed, laid out anew where one has changed."""
        lrs = [part.lr.item() for part in self._state.parts]
        if lrs != self._lrs:
            self._lrs = lrs
            self._lr_array = _array([lr for lr, rows in zip(lrs, self._rows, strict=True) for _ in range(rows)])
        return self._lr_array

    def _of_adam(self) -> dict[str, Tensor]:
        """What Adam holds of all parameters, one update later; parts of a stack hold views of it."""
        parts = self._state.parts
        if len(parts) == 1:
            moments = _moments(parts[0])
        else:
            moments = self._moments
            if not moments or _moments(parts[0])["exp_avg"].data_ptr() != moments["exp_avg"].data_ptr():
                moments = self._moments = _gathered([_moments(part) for part in parts], self._rows)
        moments["step"] += 1
        return moments


def _gathered(each: Sequence[dict[str, Tensor]], rows: Sequence[int]) -> dict[str, Tensor]:
    """Put what Adam holds of each part into one memory, of which the parts then hold views."""
    # A part that had ended before this process began has counted fewer updates, and takes part in none.
    found = {"step": max((one["step"] for one in each), key=Tensor.item)}
    for name in ("exp_avg", "exp_avg_sq"):
        found[name] = torch.cat([one[name] for one in each])
        first = 0
        for one, count in zip(each, rows, strict=True):
            one[name], one["step"] = found[name][first : first + count], found["step"]
            first += count
    return found


def _numbers(value: float | Tensor, count: int) -> ctypes.Array[ctypes.c_double]:
    """One number for each seed."""
    return _array(value.tolist() if isinstance(value, Tensor) else [value] * count)


def _array(values: Sequence[float]) -> ctypes.Array[ctypes.c_double]:
    return (ctypes.c_double * len(values))(*values)


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
