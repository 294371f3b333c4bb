"""A finite world of tasks: rows of a table in an order of their own, cut into splits by task, scaled, and drawn from.

Nothing here depends on the order of the rows in the file: tasks are ordered by name, and the rows of a task by their
numbers. Which rows are support and query at a place of a list is a function of the place, the seed and the task's name.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64, UInt64
from numpy.typing import NDArray

from mamlcli.tabular import Table
from mamlcli.tasks.family import Request, Units
from mamlcli.tasks.names import Names, named
from mamlcli.tasks.numbers import SPLITS, Numbers, Split, hashed, split_key, visits
from mamlcli.tasks.samples import Samples, Task

# Random numbers that are drawn at a time, so that an order of many rows needs no memory to speak of.
_AT_A_TIME = 2**22
_LAST = np.iinfo(np.uint64).max


class Rows(NamedTuple):
    """The rows of all tasks, those of a task one after the other."""

    names: Names
    """Of the tasks, in order."""
    keys: UInt64[np.ndarray, " tasks"]
    """A hash of each name."""
    starts: Int64[np.ndarray, " bounds"]
    """Where the rows of each task begin, and where the last ones end."""
    numbers: Float[np.ndarray, "rows columns"]
    """Inputs, then targets, as they stand in the file."""

    @property
    def counts(self) -> Int64[np.ndarray, " tasks"]:
        """Rows of each task."""
        return np.diff(self.starts)


class World(NamedTuple):
    """The rows as a model sees them, and which tasks are whose."""

    rows: Rows
    lists: Mapping[Split, Int64[np.ndarray, " tasks"]]
    """The tasks of each split, in an order that a hash of their names gives."""
    units: Units
    x: Float32[np.ndarray, "rows inputs"]
    y: Float32[np.ndarray, "rows outputs"]


class Worlds(NamedTuple):
    """All that a file is made into: plain values and arrays, which several processes may hold in common."""

    each: tuple[World, ...]
    """One, or one for each fold."""
    record: Mapping[str, Any]
    """What is known of the file."""


def sorted_rows(table: Table) -> tuple[Rows, Int64[np.ndarray, " rows"]]:
    """Order the rows of a table by task and then by their numbers, so that their order in the file is forgotten.

    Returns:
        The rows, and where each stands in the table; rows that are the same stay in the order that they have there.
    """
    order = np.lexsort((*table.numbers.T[::-1], table.task))
    counts = np.bincount(table.task, minlength=len(table.tasks))
    starts = np.concatenate([[0], np.cumsum(counts)])
    keys = np.array([_key(name) for name in table.tasks], dtype=np.uint64)
    return Rows(named(table.tasks), keys, starts, table.numbers[order]), order


def _key(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def repeated_rows(table: Table, rows: Rows, order: Int64[np.ndarray, " rows"]) -> list[str]:
    """Say of each row that stands there before, task and numbers alike, where; in the order of the file."""
    task, numbers = table.task[order], rows.numbers
    same = (task[1:] == task[:-1]) & (numbers[1:] == numbers[:-1]).all(axis=1)
    found = sorted((int(order[index + 1]), int(order[index])) for index in np.flatnonzero(same))
    return [f"{table.place(row)}: the same row as in line {table.lines[before]}" for row, before in found]


def without_short_tasks(rows: Rows, at_least: int) -> tuple[Rows, tuple[str, ...]]:
    """Leave tasks of fewer rows out; returns the rest, and the names of those left out."""
    kept = rows.counts >= at_least
    if kept.all():
        return rows, ()
    of_row = np.repeat(kept, rows.counts)
    starts = np.concatenate([[0], np.cumsum(rows.counts[kept])])
    names, dropped = (rows.names.some(np.flatnonzero(which)) for which in (kept, ~kept))
    return Rows(names, rows.keys[kept], starts, rows.numbers[of_row]), tuple(dropped)


def by_fractions(rows: Rows, fractions: Sequence[float]) -> dict[Split, Int64[np.ndarray, " tasks"]]:
    """Cut the tasks, in an order that a hash of their names gives, into parts of about these sizes."""
    count = len(rows.names)
    _, validation, test = (max(1, round(fraction * count)) for fraction in fractions)
    order = _shuffled(rows)
    return dict(zip(SPLITS, (order[validation + test :], order[test : validation + test], order[:test]), strict=True))


def by_folds(rows: Rows, folds: int, fold: int) -> dict[Split, Int64[np.ndarray, " tasks"]]:
    """Leave a fold out to test on, and the one after it to validate on."""
    of_task = np.empty(len(rows.names), dtype=np.int64)
    of_task[_shuffled(rows)] = np.arange(len(rows.names)) % folds
    test, validation = of_task == fold, of_task == (fold + 1) % folds
    parts = (~test & ~validation, validation, test)
    return dict(zip(SPLITS, map(np.flatnonzero, parts), strict=True))


def _shuffled(rows: Rows) -> NDArray[np.int64]:
    return np.argsort(hashed(rows.keys), kind="stable")


def by_labels(labels: Sequence[str]) -> dict[Split, Int64[np.ndarray, " tasks"]]:
    """Take the split of each task from the word that stands in its rows."""
    words = np.array(labels)
    return {split: np.flatnonzero(words == split) for split in SPLITS}


def scale_of(rows: Rows, train: Int64[np.ndarray, " tasks"], num_inputs: int) -> Units:
    """Mean and standard deviation of each column over the rows of these tasks."""
    chosen = np.zeros(len(rows.names), dtype=np.bool_)
    chosen[train] = True
    numbers = rows.numbers[np.repeat(chosen, rows.counts)]
    mean, scale = numbers.mean(axis=0), numbers.std(axis=0)
    # A column that is the same throughout leaves a rest of rounding.
    scale = np.where(np.ptp(numbers, axis=0) == 0, 0.0, scale)
    parts = [tuple(map(float, values)) for both in (mean, scale) for values in (both[:num_inputs], both[num_inputs:])]
    return Units(x_mean=parts[0], x_scale=parts[2], y_mean=parts[1], y_scale=parts[3])


def make_world(rows: Rows, lists: Mapping[Split, Int64[np.ndarray, " tasks"]], units: Units) -> World:
    """Put the rows into the units of a model."""
    means, scales = (*units.x_mean, *units.y_mean), (*units.x_scale, *units.y_scale)
    columns = [
        ((rows.numbers[:, index] - mean) / scale).astype(np.float32)
        for index, (mean, scale) in enumerate(zip(means, scales, strict=True))
    ]
    inputs = len(units.x_mean)
    # Of a list that is not measured to its end, no more than chance should say which tasks are.
    lists = {split: listed[np.argsort(hashed(rows.keys[listed]))] for split, listed in lists.items()}
    rows = rows._replace(numbers=rows.numbers[:0].copy())  # they are in x and y now
    return World(rows, lists, units, np.stack(columns[:inputs], axis=1), np.stack(columns[inputs:], axis=1))


def draw(world: World, numbers: Numbers, request: Request, *, support_first: bool) -> Task:
    """Draw the tasks at these places of a list: each with support rows, and with what query rows are left of it.

    Meta-training goes through its tasks in a new order each time; the other lists are as long as they are. Query rows
    are taken from the other end of a random order of a task's rows than support rows: those of a smaller K are among
    those of a larger one.
    """
    listed = world.lists[numbers.split]
    if numbers.split == "meta-train":
        index = listed[visits(numbers, world.rows.keys[listed])]
        place = np.arange(numbers.first, numbers.first + numbers.num_tasks, dtype=np.uint64)
    else:
        index = listed[numbers.first : numbers.first + numbers.num_tasks]
        assert len(index) == numbers.num_tasks, "the list ends before"
        place = np.zeros(len(index), dtype=np.uint64)
    width = max(1, _AT_A_TIME // int(world.rows.counts[listed].max()))
    parts = [
        _drawn(world, numbers, index[first : first + width], place[first : first + width], request, support_first)
        for first in range(0, len(index), width)
    ]
    if len(parts) == 1:
        return parts[0]
    support, query = zip(*parts, strict=True)
    return Task(
        Samples(*map(torch.cat, zip(*support, strict=True))), Samples(*map(torch.cat, zip(*query, strict=True)))
    )


def query_width(counts: Int64[np.ndarray, " tasks"], request: Request) -> int:
    """Query samples of the task that has the most."""
    return int(min(request.query_shots, max(1, counts.max() - request.support_shots)))


def _drawn(
    world: World,
    numbers: Numbers,
    index: NDArray[np.int64],
    place: NDArray[np.uint64],
    request: Request,
    support_first: bool,
) -> Task:
    shots, counts = request.support_shots, world.rows.counts[index]
    x, y = torch.from_numpy(world.x), torch.from_numpy(world.y)
    order = _row_orders(world, numbers, index, place, shots if support_first else 0)
    first = world.rows.starts[index][:, None]
    # From the end, and no further than the support set; as wide for all splits and folds.
    width = query_width(world.rows.counts, request)
    steps = np.arange(width)
    there = steps < (counts - shots)[:, None]
    query = np.where(there, counts[:, None] - 1 - steps, 0)
    chosen = first + np.take_along_axis(order, query, axis=1)
    support = first + order[:, :shots]
    targets = y[torch.from_numpy(chosen)]
    targets[~torch.from_numpy(there)] = torch.nan
    samples = Samples(x[torch.from_numpy(support)], y[torch.from_numpy(support)])
    if request.unlabelled_inputs:
        rest = shots + np.arange(request.unlabelled_inputs) % np.maximum(1, counts - shots)[:, None]
        others = x[torch.from_numpy(first + np.take_along_axis(order, rest, axis=1))]
        unknown = torch.full((*others.shape[:2], y.shape[1]), torch.nan)
        samples = Samples(torch.cat([samples.x, others], dim=1), torch.cat([samples.y, unknown], dim=1))
    return Task(samples, Samples(x[torch.from_numpy(chosen)], targets))


def _row_orders(
    world: World, numbers: Numbers, index: NDArray[np.int64], place: NDArray[np.uint64], in_place: int
) -> NDArray[np.int64]:
    """A random order of each task's rows, of shorter tasks filled up; the first `in_place` stay where they are."""
    counts = world.rows.counts[index]
    row = np.arange(int(counts.max()), dtype=np.uint64)
    keys = world.rows.keys[index][:, None]
    ranks = hashed(numbers.seed, split_key(numbers.split), keys, place[:, None], row)
    ranks[row >= counts[:, None]] = _LAST
    ranks[:, :in_place] = row[:in_place]
    return np.argsort(ranks, axis=1, kind="stable")
