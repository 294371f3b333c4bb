"""The family of a table: which of its tasks are refused, how they are split and scaled, and the value that they are."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64

from mamlcli.errors import CheckpointError, ConfigError
from mamlcli.escaping import shorten, visible
from mamlcli.tabular import Table
from mamlcli.tasks.family import Columns, Curves, Request, TaskFamily, Units, first_input
from mamlcli.tasks.numbers import SPLITS, Numbers, Split
from mamlcli.tasks.samples import PRESENT_SQUARED_ERROR, SQUARED_ERROR, Task
from mamlcli.tasks.table import Folds, Fractions, TableTasks
from mamlcli.tasks.worlds import (
    Rows,
    World,
    Worlds,
    by_folds,
    by_fractions,
    by_labels,
    draw,
    make_world,
    repeated_rows,
    scale_of,
    sorted_rows,
    without_short_tasks,
)

# Of what is wrong, so much is listed.
_SHOWN = 20


def worlds_of(config: TableTasks, table: Table) -> Worlds:
    """Check what was read, cut it into splits and scale it.

    Raises:
        ConfigError: If tasks have too few rows, rows stand there twice, a split is empty or a column says nothing.
    """
    every, order = sorted_rows(table)
    if config.duplicates == "refuse":
        _refuse(repeated_rows(table, every, order), "keep them by tasks.duplicates: keep, if they were measured twice")
    rows, dropped = without_short_tasks(every, config.support_shots + 1)
    if dropped and config.min_rows == "refuse":
        _refuse(_too_short(config, table, dropped), _remedy_of_short(config, table))
    labels = None if table.labels is None else dict(zip(table.tasks, table.labels, strict=True))
    each = tuple(
        make_world(rows, lists, _units(config, table, rows, lists["meta-train"]))
        for lists in _splits(config, table, rows, labels)
    )
    record = {
        "sha256": table.sha256,
        "num_bytes": table.num_bytes,
        "num_rows": len(table.task),
        "dropped": len(dropped),
    }
    return Worlds(each, record)


def table_family(config: TableTasks, worlds: Worlds) -> TaskFamily:
    """Build the family from what the file was made into."""
    views = [_of_world(config, world, worlds.record) for world in worlds.each]
    return views[0] if len(views) == 1 else _of_folds(views, worlds)


def _refuse(problems: Sequence[str], remedy: str) -> None:
    if problems:
        more = [f"and {len(problems) - _SHOWN} more"] if len(problems) > _SHOWN else []
        raise ConfigError([*problems[:_SHOWN], *more, remedy])


def _too_short(config: TableTasks, table: Table, short: Sequence[str]) -> list[str]:
    _, firsts, counts = np.unique(table.task, return_index=True, return_counts=True)
    first = dict(zip(table.tasks, firsts.tolist(), strict=True))
    number = dict(zip(table.tasks, counts.tolist(), strict=True))
    return [
        f"{table.place(first[name])}: task {_shown(name)} has {number[name]} row{'s' * (number[name] > 1)}, and needs "
        f"{config.support_shots} for its support set and one to measure on"
        for name in sorted(short, key=first.__getitem__)
    ]


def _remedy_of_short(config: TableTasks, table: Table) -> str:
    if len(table.tasks) == len(table.task):
        return f"every row is a task of its own: is {config.task!r} the column that names the task?"
    return "take fewer by tasks.support_shots, or leave these tasks out by tasks.min_rows: drop"


def _shown(name: str) -> str:
    return visible(shorten(repr(name), 60))


def _splits(
    config: TableTasks, table: Table, rows: Rows, labels: Mapping[str, str] | None
) -> list[dict[Split, Int64[np.ndarray, " tasks"]]]:
    """The splits, one for each fold or a single one.

    Raises:
        ConfigError: If one of them is empty.
    """
    match config.split:
        case Folds(folds=folds):
            found = [by_folds(rows, folds, fold) for fold in range(folds)]
        case Fractions(meta_train=train, meta_validation=validation, meta_test=test):
            found = [by_fractions(rows, (train, validation, test))]
        case _:
            assert labels is not None
            _refuse(_wrong_labels(config.split, table, labels), f"it must say {', '.join(SPLITS)}")
            found = [by_labels([labels[name] for name in rows.names])]
    count = len(rows.names)
    for lists in found:
        if empty := [split for split in SPLITS if not len(lists[split])]:
            raise ConfigError(
                [
                    f"{table.path}: of {count} task{'s' * (count != 1)} none is left for {' and '.join(empty)}",
                    _remedy_of_empty(config, table),
                ]
            )
    return found


def _wrong_labels(column: str, table: Table, labels: Mapping[str, str]) -> list[str]:
    """Each word of a label column that names no split, where it stands first."""
    first: dict[str, int] = {}
    for row, task in enumerate(table.task.tolist()):
        word = labels[table.tasks[task]]
        if word not in SPLITS:
            first.setdefault(word, row)
    return [f"{table.place(row, column)}: {_shown(column)} says {_shown(word)}" for word, row in first.items()]


def _remedy_of_empty(config: TableTasks, table: Table) -> str:
    if len(table.tasks) == 1:
        return f"all rows are one task: is {config.task!r} the column that names the task?"
    if isinstance(config.split, str):
        return f"let tasks of each split stand in the file: column {config.split!r} says which"
    if isinstance(config.split, Folds):
        return "take fewer by tasks.split.folds, or bring more tasks"
    return "bring more tasks; each split needs one at least"


def _units(config: TableTasks, table: Table, rows: Rows, train: Int64[np.ndarray, " tasks"]) -> Units:
    """The scale of the meta-train tasks.

    Raises:
        ConfigError: If a column is the same in all of their rows.
    """
    names, num_inputs = (*config.inputs, *config.target), len(config.inputs)
    units = scale_of(rows, train, num_inputs)
    constant = [name for name, scale in zip(names, (*units.x_scale, *units.y_scale), strict=True) if scale == 0]
    _refuse(
        [f"{table.path}: column {_shown(name)} is the same in every row of the meta-train tasks" for name in constant],
        "an input that never changes says nothing, and a target that never changes needs no model: leave it out",
    )
    if config.scale == "none":
        return Units(
            *((0.0,) * num_inputs, (1.0,) * num_inputs), *((0.0,) * len(config.target), (1.0,) * len(config.target))
        )
    return units


def _of_world(config: TableTasks, world: World, shared: Mapping[str, Any]) -> TaskFamily:
    fewest, most = int(world.rows.counts.min()), int(world.rows.counts.max())

    def has_gaps(request: Request) -> bool:
        return fewest - request.support_shots < min(request.query_shots, most - request.support_shots)

    def drawn(numbers: Numbers, request: Request) -> Task:
        return draw(world, numbers, request, support_first=config.support == "first")

    def curves(numbers: Numbers, count: int) -> Curves:
        low, high = world.x.min(), world.x.max()
        inputs = torch.linspace(float(low), float(high), count).view(1, count, 1).expand(numbers.num_tasks, -1, -1)
        return Curves(first_input(world.units, inputs[0]), inputs, None)

    return _family(config, world.units, shared)._replace(
        draw=drawn,
        curves=curves if len(config.inputs) == 1 else None,
        loss=SQUARED_ERROR if fewest == most else PRESENT_SQUARED_ERROR,
        names={split: world.rows.names.some(listed) for split, listed in world.lists.items()},
        has_gaps=has_gaps,
        largest_support=fewest - 1,
    )


def _of_folds(views: Sequence[TaskFamily], worlds: Worlds) -> TaskFamily:
    """The family whose seeds leave out different tasks: each seed has the view of its fold."""

    def view(seed: int) -> TaskFamily:
        return views[seed % len(views)]

    def drawn(numbers: Numbers, request: Request) -> Task:
        return view(numbers.seed).draw(numbers, request)

    # A task is in each split in the view of some fold, of which there are three at least.
    every = dict.fromkeys(SPLITS, worlds.each[0].rows.names)
    units = [one.record["units"] for one in views]
    return views[0]._replace(draw=drawn, names=every, view=view, record=dict(worlds.record) | {"units": units})


def _family(config: TableTasks, units: Units, shared: Mapping[str, Any]) -> TaskFamily:
    """What is known without the tasks."""
    return TaskFamily(
        num_inputs=len(config.inputs),
        num_outputs=len(config.target),
        draw=partial(_not_at_hand, config.path),
        domain="the rows of each task",
        loss=PRESENT_SQUARED_ERROR,
        columns=Columns(config.task, config.inputs, config.target),
        units=None if config.scale == "none" else units,
        note=_note(config, shared),
        record=dict(shared) | {"units": {name: list(values) for name, values in units._asdict().items()}},
    )


def _note(config: TableTasks, shared: Mapping[str, Any]) -> str | None:
    dropped = shared.get("dropped")
    if not dropped:
        return None
    return f"{dropped} task{'s' * (dropped != 1)} of fewer than {config.support_shots + 1} rows left out"


def _not_at_hand(path: str, *_: object) -> Task:
    raise AssertionError(f"the tasks of {path} were not read")


def recalled(config: TableTasks, record: Mapping[str, Any]) -> TaskFamily:
    """The family without its tasks.

    Raises:
        CheckpointError: If the record, which may come from anywhere, is none of such a family.
    """
    try:
        return _recalled(config, record)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"what the checkpoint kept of its table cannot be used: {error}") from None


def _recalled(config: TableTasks, record: Mapping[str, Any]) -> TaskFamily:
    shared = {name: value for name, value in record.items() if name != "units"}
    kept = record["units"] if isinstance(record["units"], list) else [record["units"]]
    views = [_family(config, _checked_units(config, units), shared) for units in kept]
    if len(views) == 1:
        return views[0]
    return views[0]._replace(view=lambda seed: views[seed % len(views)], record=dict(record))


def _checked_units(config: TableTasks, units: Mapping[str, Any]) -> Units:
    found = Units(**{name: tuple(map(float, values)) for name, values in units.items()})
    widths = [len(values) for values in found]
    if widths != [len(config.inputs)] * 2 + [len(config.target)] * 2:
        raise ValueError(f"{widths} numbers of scale for {len(config.inputs)} inputs and {len(config.target)} targets")
    if not all(np.isfinite(values).all() for values in found) or min(*found.x_scale, *found.y_scale) <= 0:
        raise ValueError("a scale that is no positive number")
    return found
