"""Meta-updates as calls of the library: what `training.make_update` does, for MAML of MLPs and a few optimisers."""

import ctypes
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from mamlcli.compute.fused import library
from mamlcli.compute.fused.library import Data, Outer, Problem, Seeds, load_library, loop_of, numbers, pointers
from mamlcli.methods.method import Descent, Log
from mamlcli.models.model import Layers
from mamlcli.tasks.samples import Samples, Task
from mamlcli.training import Stack, TrainState, block_of_one, unflatten
from mamlcli.types import Params

OPTIMIZERS = ("adam", "adamw", "sgd", "momentum")
"""Those that the kernel knows."""
_NO_RULE = (2, 0.0, 0.0, 0.0, 0.0)  # the fields of `Outer` where nothing is updated: see outer.h


class FusedUpdate:
    """Meta-updates of a state of MLPs on the CPU, with one of `OPTIMIZERS`; a `training.InBlocks`.

    The state is changed as by `training.make_update`, and its optimiser's state too: either update can go on where the
    other one stopped. The parts of a stack are updated at once, each with its learning rate; all of them
    have made as many updates.

    Args:
        state: Its parameters are those of `mlp.init_params`, and learned rates behind them.
        layers: The networks.
        descent: The inner loop.
        has_gaps: Whether a target that is NaN is none, as `PRESENT_SQUARED_ERROR` has it.
        max_grad_norm: See `training.clip_per_seed`.
        threads: Says at each call how many compute. Each takes some of the seeds, and those of a single seed share its
            tasks. The numbers do not depend on it.
        seeds: Those that are updated; None for all. What is reported of others is no number of theirs.
        seeds_before: Seeds that another process updates, where all would stand in one state, these behind those. To the
            last bit the numbers are those of that state.
        agree: Asked after a block how many of the steps that were made in it count; it says as many, or fewer.

    Raises:
        RuntimeError, OSError: As `load_library`.
    """

    def __init__(
        self,
        state: TrainState | Stack,
        layers: Layers,
        descent: Descent,
        *,
        has_gaps: bool = False,
        max_grad_norm: float | Tensor | None,
        threads: Callable[[], int] = lambda: 1,
        seeds: range | None = None,
        seeds_before: int = 0,
        agree: Callable[[int], int] = lambda made: made,
    ) -> None:
        self._library = load_library(state.flat.dtype)
        self._state, self._threads, self._has_gaps, self._seeds_before = state, threads, has_gaps, seeds_before
        count = len(state.flat)
        self._rows = torch.tensor([len(part.flat) for part in state.parts])
        self._descent, self._loop = descent, loop_of(descent, layers, count)
        self._seeds, self._agree = Seeds(*((0, count) if seeds is None else (seeds.start, seeds.stop))), agree
        self._max_norms = numbers(math.inf if max_grad_norm is None else max_grad_norm, count)
        self._moments: dict[str, Tensor] = {}
        self._unused: Tensor | None = None
        self._before: list[Tensor] = []
        self.workspace = torch.empty(0, dtype=torch.uint8)
        """Kept between steps: a new one at each would be paged in anew."""

    @property
    def kept_bytes(self) -> int:
        """What it keeps between steps: its workspace, and room for the state before a block."""
        return self.workspace.nbytes + sum(value.nbytes for value in self._before)

    def __call__(self, tasks: Task) -> tuple[Log, Tensor]:
        """Make one meta-update on a meta-batch."""
        return block_of_one(self, self._state, tasks)

    def block(self, tasks: Task, lrs: Sequence[Sequence[float]]) -> tuple[Log, Tensor]:
        """Make several meta-updates; see `training.InBlocks`."""
        state, (moments, count) = self._state, self._moments_of_all()
        held = (state.flat, *moments, state.alive, state.updates)
        before = self._before = self._before or [torch.empty_like(value) for value in held]
        for value, now in zip(before, held, strict=True):
            value.copy_(now)
        settings = _settings(state.parts[0].optimizer)
        log, norms = self._updates(tasks, lrs, settings, moments, count)
        *_, was_alive, made_before = before
        died = was_alive & ~state.alive
        made = int((state.updates - made_before)[died].min()) + 1 if bool(died.any()) else len(lrs)
        if (made := self._agree(made)) < len(lrs):
            # Of seeds that knew nothing of it some have gone on, where all end with the first step that one did not
            # survive. The same steps give the same bits.
            for value, earlier in zip(held, before, strict=True):
                value.copy_(earlier)
            log, norms = self._updates(tasks.map(lambda part: part[:made]), lrs[:made], settings, moments, count)
        count += len(norms)
        return log, norms

    def moments(self) -> list[Tensor]:
        """What the optimisers hold of each seed, with a row for each of all."""
        return self._moments_of_all()[0]

    def gradient(self, _: Params, tasks: Task) -> tuple[Params, Log]:
        """The meta-gradient alone, at the parameters of the state; see `MetaGradient`."""
        state = self._state
        lrs, unused = [[0.0] * len(state.parts)], [state.flat, state.flat]
        log, _norms = self._updates(tasks.map(lambda part: part.unsqueeze(0)), lrs, _NO_RULE, unused, torch.zeros(()))
        assert state.flat.grad is not None
        grads = unflatten(state.flat.grad, {name: theta.shape[1:] for name, theta in state.params.items()})
        return grads, {name: values[0] for name, values in log.items()}

    def _updates(
        self,
        tasks: Task,
        lrs: Sequence[Sequence[float]],
        settings: tuple[float, ...],
        moments: Sequence[Tensor],
        count: Tensor,
    ) -> tuple[Log, Tensor]:
        """Make them all; returns a log and norms, each (steps, S)."""
        state, (support, query) = self._state, tasks
        if self._descent.on_all_samples:
            query = Samples(*(torch.cat(sides, dim=3) for sides in zip(support, query, strict=True)))
        steps, *sizes = support.x.shape[:4]
        shots, inner_steps = query.x.shape[3], self._descent.inner_steps
        problem = Problem(*sizes, shots, inner_steps, self._has_gaps, self._seeds_before, *self._loop)
        threads = self._threads()
        needed = self._library.train_bytes(problem, self._seeds, threads)
        if len(self.workspace) < needed:
            self.workspace = torch.empty(needed, dtype=torch.uint8)
        losses, meta_losses, norms = torch.empty(3, steps, len(state.flat), dtype=state.flat.dtype)
        lr = torch.tensor(lrs, dtype=torch.float64).repeat_interleave(self._rows, dim=1)
        rates = ctypes.cast(lr.data_ptr(), ctypes.POINTER(ctypes.c_double))
        outer = Outer(*self._objectives(steps), *settings, count.item(), rates, self._max_norms)
        drawn = [part.to(state.flat.dtype).contiguous() for part in (*support, *query)]
        assert state.flat.grad is not None
        reported = (losses, meta_losses, norms)
        places = library.State(*pointers(state.flat, state.flat.grad, *moments, *reported, state.alive, state.updates))
        data = Data(*pointers(state.flat, *drawn))
        self._library.train(problem, outer, self._seeds, steps, threads, self.workspace.data_ptr(), data, places)
        log = {"post_adapt_loss": losses}
        if self._descent.course.per_step_losses is not None:
            log["meta_loss"] = meta_losses
        return log, norms

    def _objectives(self, steps: int) -> tuple[ctypes.Array[ctypes.c_int64], ctypes.Array[ctypes.c_double] | None]:
        """Of each of the next steps: whether it is of second order, and the weights of its losses."""
        made, course, inner_steps = self._state.step, self._descent.course, self._descent.inner_steps
        orders = [course.order_at(made + further) == "second" for further in range(steps)]
        if not course.weighs_at(made):
            return (ctypes.c_int64 * steps)(*orders), None
        weights = [course.weights_at(made + further, inner_steps) for further in range(steps)]
        return (ctypes.c_int64 * steps)(*orders), numbers(torch.cat(weights), steps * inner_steps)

    def _moments_of_all(self) -> tuple[list[Tensor], Tensor]:
        """What the optimisers hold of all parameters, of which parts of a stack hold views; and their count of updates.

        The kernel wants two moments of any rule, and leaves alone what an optimiser does not hold.
        """
        parts, names = self._state.parts, _names(self._state.parts[0].optimizer)
        moments = _moments(parts[0])
        if names and len(parts) > 1:
            if not self._moments or moments[names[0]].data_ptr() != self._moments[names[0]].data_ptr():
                self._moments = _gathered([_moments(part) for part in parts], names, self._rows.tolist())
            moments = self._moments
        held = [moments[name] for name in names]
        if len(held) < 2 and self._unused is None:
            self._unused = torch.zeros_like(self._state.flat)
        unused = [] if self._unused is None else [self._unused]
        return (held + 2 * unused)[:2], moments.get("step", torch.zeros(()))


def _settings(optimizer: torch.optim.Optimizer) -> tuple[float, ...]:
    """The fields of `Outer` that an optimiser is made with."""
    group, is_sgd = optimizer.param_groups[0], isinstance(optimizer, torch.optim.SGD)
    return (
        int(is_sgd),
        *((group["momentum"], 0.0, 0.0) if is_sgd else (*group["betas"], group["eps"])),
        group["weight_decay"],
    )


def _names(optimizer: torch.optim.Optimizer) -> tuple[str, ...]:
    """What an optimiser holds of each parameter, as torch calls it."""
    if not isinstance(optimizer, torch.optim.SGD):
        return ("exp_avg", "exp_avg_sq")
    return ("momentum_buffer",) if optimizer.param_groups[0]["momentum"] else ()


def _gathered(each: Sequence[dict[str, Tensor]], names: Sequence[str], rows: Sequence[int]) -> dict[str, Tensor]:
    """Put what is held of each part into one memory, of which the parts then hold views."""
    # A part that had ended before this process began has counted fewer updates, and takes part in none.
    counts = [one["step"] for one in each if "step" in one]
    found = {"step": max(counts, key=Tensor.item)} if counts else {}
    for one in each:
        one.update(found)
    for name in names:
        found[name] = torch.cat([one[name] for one in each])
        for one, part in zip(each, torch.split(found[name], list(rows)), strict=True):
            one[name] = part
    return found


def _moments(state: TrainState) -> dict[str, Tensor]:
    """What an optimiser holds of the parameters, made at the first step as torch makes it."""
    moments: dict[str, Tensor] = state.optimizer.state[state.flat]
    names = _names(state.optimizer)
    if names and not moments:
        moments |= {} if isinstance(state.optimizer, torch.optim.SGD) else {"step": torch.zeros(())}
        moments |= {name: torch.zeros_like(state.flat) for name in names}
    for name in names:
        moments[name] = moments[name].contiguous()  # a checkpoint may bring them in another order of memory
    return moments
