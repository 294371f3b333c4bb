"""Meta-updates that several processes share: each differentiates some of the tasks, or trains some of the seeds.

Every process holds the state of all seeds, and has the same one after each block of steps.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Literal, Protocol

import torch
from torch import Tensor

from mamlcli.experiment import Experiment
from mamlcli.methods.method import Log, MetaGradient
from mamlcli.ranks import Ranks
from mamlcli.tasks.samples import Task
from mamlcli.tasks.stream import TaskStream
from mamlcli.training import Stack, TrainState, Update, block_of_one, flat_per_seed, init_state, unflatten
from mamlcli.types import Params


def over_tasks(meta_gradient: MetaGradient, ranks: Ranks) -> MetaGradient:
    """The meta-gradient of the whole meta-batch, of which each process differentiates its share.

    The mean over the meta-batch is the sum of the shares' means, each times its tasks, divided by all tasks. It is
    added up in one message, of the gradients of all seeds and the log.

    Args:
        meta_gradient: Must be the mean of its tasks' own, as in chunks.
        ranks: The processes; a share may be empty.
    """

    def gradient(params: Params, tasks: Task) -> tuple[Params, Log]:
        count = tasks.support.x.shape[1]
        share = ranks.share_of(count)
        # An empty share is one of a task that does not count: so it has the names and shapes of the others.
        own = slice(share.start, share.stop) if share else slice(1)
        grads, log = meta_gradient(params, tasks.map(lambda part: part[:, own]))
        found = torch.cat([flat_per_seed(grads), *(values.unsqueeze(1) for values in log.values())], dim=1)
        found = found * len(share) if share else torch.zeros_like(found)
        summed = found.flatten()
        ranks.add_up(summed)
        means = summed.view_as(found) / count
        num_params = means.shape[1] - len(log)
        columns = zip(log, means[:, num_params:].unbind(dim=1), strict=True)
        return unflatten(means[:, :num_params], {name: value.shape[1:] for name, value in grads.items()}), dict(columns)

    return gradient


def with_neighbour(seeds: range, count: int) -> range:
    """These of so many seeds, and beside a single one a neighbour: torch adds up in another order for one."""
    return range(max(0, seeds.start - 1), max(2, seeds.stop)) if len(seeds) == 1 < count else seeds


def stream_of_own(
    experiment: Experiment, shard: Literal["tasks", "seeds"] | None, ranks: Ranks, *, compiled: bool
) -> TaskStream:
    """The tasks that a process computes with; those of others are not drawn.

    Args:
        experiment: What is trained.
        shard: What is shared, once the update is built: what cannot be compiled may be shared otherwise.
        ranks: The processes.
        compiled: Whether it is, so that a single seed has no neighbour.
    """
    stream = experiment.stream()
    if shard == "seeds":
        count = len(stream.seeds)
        share = ranks.share_of(count) or range(1)
        return stream._replace(rows=share if compiled else with_neighbour(share, count))
    if shard == "tasks":
        return stream._replace(places=ranks.share_of(stream.meta_batch_size) or range(1))
    return stream


def loss_before(
    experiment: Experiment, shard: Literal["tasks", "seeds"] | None, state: TrainState | Stack
) -> Callable[[Params, Task], Tensor]:
    """What measures a meta-batch before its step, of which a process that shares the work has not drawn all."""
    if shard is None:
        return experiment.pre_adapt_loss
    stream = experiment.stream()
    return lambda params, _: experiment.pre_adapt_loss(params, stream.batch(state.step, state.flat.device))


class OfOwnSeeds(Protocol):
    """An update of some seeds of a state, of which it changes no others."""

    def block(self, tasks: Task, lrs: Sequence[Sequence[float]]) -> tuple[Log, Tensor]:
        """As `training.InBlocks` has it, of all seeds; what is reported of others is no number of theirs."""

    def moments(self) -> list[Tensor]:
        """What the optimiser holds of each seed, with a row for each of all."""


class SharedSeeds:
    """Meta-updates of a state whose seeds processes share; a `training.InBlocks`.

    They talk at the end of each block alone: how many steps of it count, and what became of each one's seeds.
    """

    def __init__(
        self,
        state: TrainState | Stack,
        ranks: Ranks,
        make: Callable[[range, Callable[[int], int]], OfOwnSeeds],
    ) -> None:
        """Begin.

        Args:
            state: Of all seeds.
            ranks: The processes.
            make: Maps the seeds that are this process's, and whom to ask how many steps count, to their updates.
        """
        self._state, self._ranks, self._began = state, ranks, 0.0
        # A process without a seed trains the first one for nothing, so that it has the shapes of the others.
        self._own = make(ranks.share_of(len(state.flat)) or range(1), self._agree)

    def __call__(self, tasks: Task) -> tuple[Log, Tensor]:
        """Make one meta-update on a meta-batch."""
        return block_of_one(self, self._state, tasks)

    def block(self, tasks: Task, lrs: Sequence[Sequence[float]]) -> tuple[Log, Tensor]:
        """Make several meta-updates; see `training.InBlocks`."""
        self._began = time.perf_counter()
        log, norms = self._own.block(tasks, lrs)
        reported = [values.T.contiguous() for values in (norms, *log.values())]
        state = self._state
        self._ranks.exchange_rows([state.flat, state.alive, state.updates, *self._own.moments(), *reported])
        norms, *logged = (values.T for values in reported)
        return dict(zip(log, logged, strict=True)), norms

    def _agree(self, made: int) -> int:
        return self._ranks.meet(made, worked_s=time.perf_counter() - self._began)[0]


class OwnState:
    """Updates of some seeds as a state of their own, a step at a time; see `OfOwnSeeds`."""

    def __init__(
        self,
        state: TrainState,
        seeds: range,
        agree: Callable[[int], int],
        *,
        optimizer: str,
        make: Callable[[TrainState], Update],
    ) -> None:
        """Begin; the state's optimiser may be given what it holds before the first block.

        Args:
            state: Of all seeds.
            seeds: Those that are updated.
            agree: Asked after a block how many of its steps count; it says as many, or fewer.
            optimizer: As for `init_state`.
            make: Builds the update of the state of these seeds.
        """
        self._all, self._agree = state, agree
        self._rows = slice(seeds.start, seeds.stop)
        params = [{name: theta[seed] for name, theta in state.params.items()} for seed in seeds]
        self._own = init_state(params, optimizer=optimizer, lr=state.lr.item(), device=state.flat.device)
        self._update = make(self._own)
        self._has_begun = False

    def moments(self) -> list[Tensor]:
        """What the optimiser holds of each seed."""
        return [value for value in _held_by(self._all).values() if self._is_by_seed(value)]

    def block(self, tasks: Task, lrs: Sequence[Sequence[float]]) -> tuple[Log, Tensor]:
        """Make several steps, and put what they come to into the state of all seeds."""
        if not self._has_begun:
            self._begin()
        own = tasks.map(lambda part: part[:, self._rows])
        before = [value.clone() for value in self._held()]
        steps = self._made(own, lrs)
        if (made := self._agree(len(steps))) < len(steps):
            for value, earlier in zip(self._held(), before, strict=True):
                value.copy_(earlier)
            steps = self._made(own, lrs[:made])
        self._put_back()
        logs, norms = zip(*steps, strict=True)
        names = logs[0]
        return {name: self._among_all([log[name] for log in logs]) for name in names}, self._among_all(norms)

    def _made(self, tasks: Task, lrs: Sequence[Sequence[float]]) -> list[tuple[Log, Tensor]]:
        """Make steps until all are made, or some seed does not survive one."""
        own, made = self._own, []
        alive = own.alive.clone()
        for index, (lr,) in enumerate(lrs):
            own.step = self._all.step + index
            own.lr.fill_(lr)
            log, norms = self._update(tasks.map(itemgetter(index)))
            made.append(({name: values.clone() for name, values in log.items()}, norms.clone()))
            if own.flat.device.type == "cpu" and not torch.equal(alive, own.alive):
                break
        return made

    def _begin(self) -> None:
        """Go on from where the state of all seeds is."""
        self._has_begun = True
        self._own.flat.copy_(self._all.flat[self._rows])
        self._own.alive.copy_(self._all.alive[self._rows])
        self._own.updates.copy_(self._all.updates[self._rows])
        for name, value in _held_by(self._all).items():
            self._own.optimizer.state[self._own.flat][name] = (
                value[self._rows] if self._is_by_seed(value) else value
            ).clone()

    def _put_back(self) -> None:
        for name, value in _held_by(self._own).items():
            everything = self._all.optimizer.state[self._all.flat]
            if value.shape != self._own.flat.shape:
                everything[name] = value.clone()
                continue
            if name not in everything:
                everything[name] = torch.zeros_like(self._all.flat)
            everything[name][self._rows] = value
        for name in ("flat", "alive", "updates"):
            getattr(self._all, name)[self._rows] = getattr(self._own, name)

    def _held(self) -> list[Tensor]:
        own = self._own
        return [own.flat, own.alive, own.updates, *_held_by(own).values()]

    def _is_by_seed(self, value: Tensor) -> bool:
        return value.shape == self._all.flat.shape

    def _among_all(self, steps: Sequence[Tensor]) -> Tensor:
        """What was reported of steps, (steps, S)."""
        found = steps[0].new_zeros(len(steps), len(self._all.flat))
        found[:, self._rows] = torch.stack(list(steps))
        return found


def _held_by(state: TrainState) -> Mapping[str, Tensor]:
    """What an optimiser holds; to ask it for what it does not hold would be remembered."""
    held: Mapping[str, Tensor] = state.optimizer.state.get(state.flat, {})
    return held
