"""The stream: which tasks belong to (seed, split, step).

An endless list of tasks for each seed and split, of which step t of a run uses tasks t*B to (t+1)*B - 1. Block size,
device and order of access cannot change the data.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mamlcli.tasks.family import Request, TaskFamily
from mamlcli.tasks.numbers import Numbers, Split
from mamlcli.tasks.samples import Samples, Task

# Samples drawn ahead at a time: of a seed enough to make drawing cheap, few enough to stay in the cache; and of all.
_BLOCK_SAMPLES_OF_SEED = 2**18
_BLOCK_SAMPLES = 2**21


class TaskList(NamedTuple):
    """The endless list of tasks of (family, seed, split)."""

    family: TaskFamily
    seed: int
    split: Split

    def tasks(self, first: int, count: int, request: Request) -> Task:
        """Draw tasks first to first + count - 1; see `TaskFamily.draw`."""
        return self.family.draw(self.numbers(first, count), request)

    def numbers(self, first: int, count: int) -> Numbers:
        """The random numbers behind tasks first to first + count - 1."""
        return Numbers(self.seed, self.split, first, count)


class TaskStream(NamedTuple):
    """The meta-batches of a run: S seeds, each with its own list of tasks, B tasks a step."""

    family: TaskFamily
    seeds: tuple[int, ...]
    meta_batch_size: int
    request: Request
    split: Split = "meta-train"
    families: tuple[TaskFamily, ...] = ()
    """Where rows differ in their family too, that of each; `seeds` then has a seed for each row."""
    rows: range | None = None
    """The seeds whose tasks are drawn; those of others are no numbers. None for all."""
    places: range | None = None
    """The tasks of each step that are drawn; others are no numbers. None for all."""

    @property
    def steps_at_a_time(self) -> int:
        """Steps whose tasks are drawn at a time."""
        wanted = self.request
        per_step = self.meta_batch_size * (wanted.support_shots + wanted.query_shots + wanted.unlabelled_inputs)
        return max(1, min(_BLOCK_SAMPLES_OF_SEED, _BLOCK_SAMPLES // len(self.seeds)) // per_step)

    def batch(self, step: int, device: torch.device | str = "cpu") -> Task:
        """Return the meta-batch of one step: support of shape (S, B, K + U, ...), query of shape (S, B, Q, ...)."""
        return next(self.batches(step, step + 1, device))

    def batches(self, first: int, last: int, device: torch.device | str = "cpu") -> Iterator[Task]:
        """Yield the meta-batches of steps first to last - 1."""
        for support, query in self.blocks(first, last, device):
            for parts in zip(*(part.unbind() for part in (*support, *query)), strict=True):
                yield Task(Samples(*parts[:2]), Samples(*parts[2:]))

    def blocks(self, first: int, last: int, device: torch.device | str = "cpu") -> Iterator[Task]:
        """Yield the same, several steps at a time: with a leading axis of steps.

        Tasks are drawn and copied to the device in blocks of steps, so that both cost next to nothing.
        """
        for start in range(first, last, self.steps_at_a_time):
            yield self._draw(start, min(self.steps_at_a_time, last - start), device)

    def _draw(self, first_step: int, steps: int, device: torch.device | str) -> Task:
        """Draw the meta-batches of several steps, with a leading axis of steps."""
        size, rows = self.meta_batch_size, self.rows or range(len(self.seeds))
        places = self.places or range(size)
        families = self.families or (self.family,) * len(self.seeds)
        keys = [(id(families[row]), self.seeds[row]) for row in rows]
        # Rows with the same family and seed have the same tasks, which are drawn once.
        lists = {key: TaskList(families[row], self.seeds[row], self.split) for key, row in zip(keys, rows, strict=True)}
        drawn = {key: self._of_list(one, first_step, steps, places) for key, one in lists.items()}

        def steps_first(side: int, part: int) -> Tensor:
            parts = [drawn[key][side][part] for key in keys]  # each (steps * places, K, ...)
            shape, dtype = parts[0].shape[1:], parts[0].dtype
            found = torch.empty(steps, len(rows), len(places), *shape, dtype=dtype)
            for index, values in enumerate(parts):
                found[:, index] = values.reshape(steps, len(places), *shape)
            if (len(rows), len(places)) == (len(self.seeds), size):
                return found.to(device)
            # What nobody looks at takes no memory either: it is not touched.
            whole = torch.empty(steps, len(self.seeds), size, *shape, dtype=dtype, device=device)
            whole[:, rows.start : rows.stop, places.start : places.stop] = found
            return whole

        return Task(*(Samples(steps_first(side, 0), steps_first(side, 1)) for side in (0, 1)))

    def _of_list(self, one: TaskList, first_step: int, steps: int, places: range) -> Task:
        """The tasks at these places of each step, one step's after the other's."""
        size = self.meta_batch_size
        if steps == 1:
            return one.tasks(first_step * size + places.start, len(places), self.request)
        numbers = one.numbers(first_step * size, steps * size)
        if len(places) < size:
            chosen = np.arange(steps)[:, None] * size + np.arange(places.start, places.stop)
            numbers = numbers.some(chosen.ravel())
        return one.family.draw(numbers, self.request)
