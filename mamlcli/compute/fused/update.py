"""Meta-updates as calls of the library: what `training.make_update` does, for MAML of MLPs and a few optimisers."""

import ctypes
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from mamlcli.compute.fused.library import Outer, Problem, load_library, loop_of, numbers, pointers
from mamlcli.methods.method import Descent, Log
from mamlcli.models.model import Layers
from mamlcli.tasks.samples import Samples, Task
from mamlcli.training import Stack, TrainState

OPTIMIZERS = ("adam", "adamw", "sgd")
"""Those that the kernel knows."""


class FusedUpdate:
    """Meta-updates of a state of MLPs on the CPU, with one of `OPTIMIZERS`; a `training.InBlocks`.

    The state is changed as by `training.make_update`, and its optimiser's state too: either update can go on where the
    other one stopped. The parts of a stack are updated at once, each with its learning rate; all of them
    have made as many updates.

    Args:
        state: Its parameters are those of `mlp.init_params`, and learned rates behind them.
        layers: The networks.
        descent: The inner loop.
        max_grad_norm: See `training.clip_per_seed`.
        threads: How many compute; None for as many as torch uses at each call. Each takes some of the seeds, and those
            of a single seed share its tasks. The numbers do not depend on it.

    Raises:
        RuntimeError, OSError: As `load_library`.
    """

    def __init__(
        self,
        state: TrainState | Stack,
        layers: Layers,
        descent: Descent,
        *,
        max_grad_norm: float | Tensor | None,
        threads: int | None = None,
    ) -> None:
        self._library = load_library(state.flat.dtype)
        self._state, self._threads = state, threads
        count = len(state.flat)
        self._rows = torch.tensor([len(part.flat) for part in state.parts])
        self._descent, self._loop = descent, loop_of(descent, layers, count)
        self._max_norms = numbers(math.inf if max_grad_norm is None else max_grad_norm, count)
        self._moments: dict[str, Tensor] = {}
        self.workspace = torch.empty(0, dtype=torch.uint8)
        """Kept between steps: a new one at each would be paged in anew."""

    def __call__(self, tasks: Task) -> tuple[Log, Tensor]:
        """Make one meta-update on a meta-batch."""
        lrs = [[part.lr.item() for part in self._state.parts]]
        log, norms = self.block(tasks.map(lambda part: part.unsqueeze(0)), lrs)
        return {name: values[0] for name, values in log.items()}, norms[0]

    def block(self, tasks: Task, lrs: Sequence[Sequence[float]]) -> tuple[Log, Tensor]:
        """Make several meta-updates; see `training.InBlocks`."""
        state, moments = self._state, self._moments_of_all()
        held = (state.flat, moments["exp_avg"], moments["exp_avg_sq"], state.alive, state.updates)
        before = [value.clone() for value in held]
        losses, norms = self._updates(tasks, lrs, moments)
        died = before[3] & ~state.alive
        if len(lrs) > 1 and bool(died.any()):
            # Of seeds that knew nothing of it some have gone on, where all end with the first step that one did not
            # survive. The same steps give the same bits.
            made = int((state.updates - before[4])[died].min()) + 1
            for value, earlier in zip(held, before, strict=True):
                value.copy_(earlier)
            losses, norms = self._updates(tasks.map(lambda part: part[:made]), lrs[:made], moments)
        moments["step"] += len(norms)
        return {"post_adapt_loss": losses}, norms

    def _updates(
        self, tasks: Task, lrs: Sequence[Sequence[float]], moments: dict[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Make them all; returns losses and norms, each (steps, S)."""
        state, (support, query) = self._state, tasks
        if self._descent.on_all_samples:
            query = Samples(*(torch.cat(sides, dim=3) for sides in zip(support, query, strict=True)))
        steps, *sizes = support.x.shape[:4]
        problem = Problem(*sizes, query.x.shape[3], self._descent.inner_steps, *self._loop)
        threads = self._threads or torch.get_num_threads()
        needed = threads * self._library.workspace_bytes(problem)
        if len(self.workspace) < needed:
            self.workspace = torch.empty(needed, dtype=torch.uint8)
        losses, norms = torch.empty(2, steps, len(state.flat), dtype=state.flat.dtype)
        lr = torch.tensor(lrs, dtype=torch.float64).repeat_interleave(self._rows, dim=1)
        optimizer, made = state.parts[0].optimizer, moments["step"].item()
        rates = ctypes.cast(lr.data_ptr(), ctypes.POINTER(ctypes.c_double))
        outer = Outer(*_settings(optimizer), made, rates, self._max_norms)
        data = [part.to(state.flat.dtype).contiguous() for part in (*support, *query)]
        assert state.flat.grad is not None
        held = (state.flat, state.flat.grad, moments["exp_avg"], moments["exp_avg_sq"])
        places = pointers(self.workspace, *data, *held, losses, norms, state.alive, state.updates)
        self._library.train(problem, outer, steps, threads, *places)
        return losses, norms

    def _moments_of_all(self) -> dict[str, Tensor]:
        """What the optimisers hold of all parameters; parts of a stack hold views of it."""
        parts = self._state.parts
        if isinstance(parts[0].optimizer, torch.optim.SGD):  # which holds nothing; the kernel touches none of it
            self._moments = self._moments or {"step": torch.zeros(()), **_zeros(self._state.flat)}
            return self._moments
        if len(parts) == 1:
            return _moments(parts[0])
        moments = self._moments
        if not moments or _moments(parts[0])["exp_avg"].data_ptr() != moments["exp_avg"].data_ptr():
            moments = self._moments = _gathered([_moments(part) for part in parts], self._rows.tolist())
        return moments


def _settings(optimizer: torch.optim.Optimizer) -> tuple[float, ...]:
    """The fields of `Outer` that an optimiser is made with."""
    group, sgd = optimizer.param_groups[0], isinstance(optimizer, torch.optim.SGD)
    return (int(sgd), *((0.0, 0.0, 0.0) if sgd else (*group["betas"], group["eps"])), group["weight_decay"])


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


def _moments(state: TrainState) -> dict[str, Tensor]:
    """What Adam holds of the parameters, made at the first step as Adam makes it."""
    moments: dict[str, Tensor] = state.optimizer.state[state.flat]
    if not moments:
        moments["step"] = torch.zeros(())
        moments |= _zeros(state.flat)
    for name in ("exp_avg", "exp_avg_sq"):
        moments[name] = moments[name].contiguous()  # a checkpoint may bring them in another order of memory
    return moments


def _zeros(flat: Tensor) -> dict[str, Tensor]:
    return {name: torch.zeros_like(flat) for name in ("exp_avg", "exp_avg_sq")}
