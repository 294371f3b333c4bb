"""A small finite world of named tasks, as a family in memory: for tests of what comes after the family."""

from functools import partial
from typing import Literal

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from mamlcli import registry
from mamlcli.section import Count, CountOrZero, TasksSection
from mamlcli.tasks.family import Columns, Request, TaskFamily, Units
from mamlcli.tasks.numbers import Numbers, Split, visits
from mamlcli.tasks.samples import PRESENT_SQUARED_ERROR, Samples, Task

SPLITS: tuple[Split, Split, Split] = ("meta-train", "meta-validation", "meta-test")
UNITS = {1: ((3.0,), (2.0,)), 2: ((3.0, -1.0), (2.0, 0.5))}
Y_UNITS = {1: ((50.0,), (8.0,)), 2: ((50.0, 0.2), (8.0, 0.01))}


class WorldsConfig(TasksSection):
    """Named tasks of 8 to 12 rows."""

    family: Literal["worlds"] = "worlds"
    """The task family."""
    num_inputs: Literal[1, 2] = 1
    """Columns of inputs."""
    num_targets: Literal[1, 2] = 1
    """Columns of targets."""
    num_tasks: Count = 30
    """Of all splits: three fifths of them to learn from."""
    folds: CountOrZero = 0
    """Fold s mod this is tested by seed s; 0 is one split for all."""
    missing: bool = False
    """Whether single targets are not there."""
    shape: Literal["lines", "waves", "levels"] = "lines"
    """What tasks are: lines about a common one, waves of any phase, or levels of no slope."""


class Rows:
    """What stands in the table: rows of each task, in the unit of a model and float64."""

    def __init__(self, config: WorldsConfig) -> None:
        rng = np.random.default_rng(7)
        self.names = [f"task {index:03d}" for index in range(config.num_tasks)]
        self.x, self.y = [], []
        for _ in self.names:
            count = int(rng.integers(8, 13))
            x = rng.normal(size=(count, config.num_inputs))
            level, slope, phase = rng.normal(size=3)
            told = {
                "lines": 0.5 * level + (1.0 + 0.5 * slope) * x.sum(axis=1, keepdims=True),
                "waves": np.sin(2 * x.sum(axis=1, keepdims=True) + 3 * phase),
                "levels": np.full((count, 1), 3 * level),
            }[config.shape]
            y = told * np.arange(1, config.num_targets + 1) + 0.1 * rng.normal(size=(count, config.num_targets))
            if config.missing:
                y[rng.random(y.shape) < 0.2] = np.nan
                y[0] = 0.0
            self.x.append(x)
            self.y.append(y)


def worlds(config: WorldsConfig) -> TaskFamily:
    rows = Rows(config)
    if not config.folds:
        ends = (config.num_tasks * 3 // 5, config.num_tasks * 4 // 5)
        return _view(config, rows, dict(zip(SPLITS, np.split(np.arange(config.num_tasks), ends), strict=True)))
    of_task = np.arange(config.num_tasks) % config.folds
    views = []
    for fold in range(config.folds):
        parts = [of_task == fold, of_task == (fold + 1) % config.folds]
        lists = [np.flatnonzero(~parts[0] & ~parts[1]), np.flatnonzero(parts[1]), np.flatnonzero(parts[0])]
        views.append(_view(config, rows, dict(zip(SPLITS, lists, strict=True)), scale=1.0 + fold))

    def drawn(numbers: Numbers, request: Request) -> Task:
        return views[numbers.seed % config.folds].draw(numbers, request)

    every = dict.fromkeys(SPLITS, tuple(rows.names))
    return views[0]._replace(draw=drawn, names=every, view=lambda seed: views[seed % config.folds])


def _view(config: WorldsConfig, rows: Rows, lists: dict[Split, NDArray[np.int64]], scale: float = 1.0) -> TaskFamily:
    mean, spread = Y_UNITS[config.num_targets]
    return TaskFamily(
        num_inputs=config.num_inputs,
        num_outputs=config.num_targets,
        draw=partial(_draw, rows, lists),
        domain="the rows of each task",
        loss=PRESENT_SQUARED_ERROR,
        columns=Columns("name", ("a", "b")[: config.num_inputs], ("yield", "loss")[: config.num_targets]),
        units=Units(*UNITS[config.num_inputs], mean, tuple(scale * one for one in spread)),
        names={split: tuple(rows.names[index] for index in listed) for split, listed in lists.items()},
        has_gaps=lambda _: True,
    )


def _draw(rows: Rows, lists: dict[Split, NDArray[np.int64]], numbers: Numbers, request: Request) -> Task:
    listed = lists[numbers.split]
    places = np.arange(numbers.first, numbers.first + numbers.num_tasks)
    if numbers.split == "meta-train":
        index = listed[visits(numbers, listed.astype(np.uint64))]
    else:
        index = listed[places]
        assert len(index) == len(places), "the list ends before"
    tasks = [_cut(rows, task, request) for task in index]
    support, query = zip(*tasks, strict=True)
    return Task(*(Samples(*(torch.stack(part) for part in zip(*side, strict=True))) for side in (support, query)))


def _cut(rows: Rows, task: int, request: Request) -> tuple[Samples, Samples]:
    """The first K rows, and all others, filled up to the longest task's."""
    x, y = (torch.from_numpy(part[task]).float() for part in (rows.x, rows.y))
    shots, width = request.support_shots, min(request.query_shots, 12 - request.support_shots)
    query_x, query_y = torch.zeros(width, x.shape[1]), torch.full((width, y.shape[1]), torch.nan)
    there = min(len(x) - shots, width)
    query_x[:there], query_y[:there] = x[shots : shots + there], y[shots : shots + there]
    # What is filled up with says nothing, whatever it is.
    query_x[there:] = 1e3
    more = request.unlabelled_inputs
    support_x = torch.cat([x[:shots], x[-1:].expand(more, -1)])
    support_y = torch.cat([y[:shots], torch.full((more, y.shape[1]), torch.nan)])
    return Samples(support_x, support_y), Samples(query_x, query_y)


def register(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the family known, until the test ends."""
    monkeypatch.setitem(registry._ENTRIES["tasks"], "worlds", registry.Entry(WorldsConfig, worlds))


CONFIG = """
name: worlds
seeds: [0, 1]
device: cpu
tasks: {family: worlds, support_shots: 5, query_shots: 7}
model: {hidden_sizes: [8]}
outer: {steps: 30, meta_batch_size: 4}
evaluation: {tasks: 6, query_shots: 9, shots: [3, 5], inner_steps: 2}
run: {log_every_steps: 10, checkpoint_every_steps: 15}
engine: {compile: off}
"""
