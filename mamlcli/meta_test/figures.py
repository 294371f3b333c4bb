"""The figures of a meta-test: adaptation curves, and what adaptation does to single tasks."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mamlcli.drawing import after_steps, curve_rows, save_or_warn
from mamlcli.experiment import Experiment
from mamlcli.figures.drawing import Drawing
from mamlcli.meta_test.kinds import first_of_each_kind
from mamlcli.meta_test.measure import over_seeds, test_request
from mamlcli.methods.inner_loops import constant
from mamlcli.reporting import Reporter
from mamlcli.rows import EvalRow
from mamlcli.runs.folder import RunFolder
from mamlcli.tasks.family import Curves, TaskFamily, column_names, first_input, first_target, of_seed
from mamlcli.tasks.numbers import Numbers
from mamlcli.tasks.samples import PRESENT_SQUARED_ERROR, SQUARED_ERROR, Samples, Task
from mamlcli.tasks.stream import TaskList
from mamlcli.types import Params, Row, finite_or_none

# Tasks in the figure of fits, or kinds of tasks.
_NUM_TASKS, _NUM_KINDS = 3, 6
_FIT_STEPS = (0, 1, 10)
_GRID_POINTS = 200


def draw_adaptation(
    run: RunFolder, experiment: Experiment, results: Sequence[EvalRow], reporter: Reporter
) -> Path | None:
    """Draw the rows that speak for the whole run, or of its only seed, and what is known of the tasks analytically."""
    config = experiment.config
    rows = over_seeds(results)
    scaled = ", loss of scaled targets" * (experiment.family.units is not None)
    title = f"{config.name}: adaptation on {experiment.num_test_tasks()} meta-test tasks{scaled}"
    bounds = experiment.family.bounds(config.evaluation.grid)
    drawing = Drawing("adaptation", rows, {"title": title, "bounds": dict(bounds)})
    return save_or_warn(run, "adaptation", drawing, reporter)


def draw_fits(run: RunFolder, experiment: Experiment, params: Params, reporter: Reporter) -> Path | None:
    """Draw the first meta-test tasks as the first seed fits them, with the K in the middle.

    Args:
        run: The folder to write to.
        experiment: What is tested.
        params: Meta-parameters of every seed, on the device where they are.
        reporter: Hears if the figure cannot be drawn or written.
    """
    config, family = experiment.config, of_seed(experiment.family, experiment.config.seeds[0])
    if family.curves is None:
        reporter.note("no figure of fits: these tasks are no functions of one input")
        return None
    shots = sorted(config.evaluation.shots)[len(config.evaluation.shots) // 2]
    numbers, names = _drawn_tasks(experiment, family)
    curves = family.curves(numbers, _GRID_POINTS)
    first = {name: theta[0] for name, theta in params.items()}
    device = next(iter(first.values())).device
    tasks = family.draw(numbers, test_request(experiment, shots)).map(lambda part: part.to(device))
    rows: list[Row] = []
    for index, name in enumerate(names):
        task = Task(*(Samples(side.x[index], side.y[index]) for side in tasks))
        rows += _lines(experiment, family, first, task, curves, index, name)
        rows += _points(experiment, family, first, task, shots, name)
    columns = column_names(family)
    which = f", the first of {family.num_outputs} targets" if family.num_outputs > 1 else ""
    title = f"{config.name}: seed {config.seeds[0]} adapts to {shots} support samples{which}"
    labels = {"title": title, "x_label": columns.inputs[0], "y_label": columns.targets[0], **_measured(family)}
    return save_or_warn(run, "fits", Drawing("fits", rows, labels), reporter)


def _drawn_tasks(experiment: Experiment, family: TaskFamily) -> tuple[Numbers, Sequence[int | str]]:
    """Which meta-test tasks are drawn, and what they are called: the first ones, or the first of each kind."""
    listed, total = TaskList(family, experiment.config.evaluation.seed, "meta-test"), experiment.num_test_tasks()
    if family.kinds is not None:
        firsts = first_of_each_kind(experiment, _NUM_KINDS)
        return listed.numbers(0, total).some(np.array([*firsts])), [f"{at} ({kind})" for at, kind in firsts.items()]
    named = family.names.get("meta-test")
    names: Sequence[int | str] = range(_NUM_TASKS) if named is None else named[:_NUM_TASKS]
    count = min(len(names), total)
    return listed.numbers(0, count), names[:count]


def _lines(
    experiment: Experiment,
    family: TaskFamily,
    params: Params,
    task: Task,
    curves: Curves,
    index: int,
    task_name: int | str,
) -> list[Row]:
    """What every predictor says of one task before and after adaptation, beside the truth where it is known.

    And its loss on the query samples, as the meta-test measures it.
    """
    inner, support, rows = experiment.method.inner, task.support, []
    inputs, state = curves.inputs[index].to(support.x.device), inner.start(params)
    with torch.no_grad():
        for steps in range(max(_FIT_STEPS) + 1):
            if steps in _FIT_STEPS:
                label = after_steps(steps)
                for name, predictor in inner.predictors(params, state, support, steps, constant).items():
                    where = {"model": name, "task": task_name}
                    if steps == 0 and curves.y is not None:
                        rows += curve_rows(curves.x, curves.y[index, :, :1], curve="truth", shown="line", **where)
                    said = first_target(family.units, experiment.model.predict(predictor, inputs))
                    rows += curve_rows(curves.x, said, curve=label, shown="line", **where)
                    loss = _loss(family, experiment.model.predict(predictor, task.query.x), task.query.y)
                    rows.append({**where, "shown": "loss", "curve": label, "x": None, "y": finite_or_none(loss)})
            state = inner.step(params, state, support, steps, constant)
    return rows


def _loss(family: TaskFamily, said: Tensor, y: Tensor) -> float:
    """The loss of one task; where it is a squared error, of the target that is drawn, in the square of its unit."""
    if not _is_squared(family):
        return float(family.loss.mean(said, y))
    scale = family.units.y_scale[0] if family.units else 1.0
    return float(family.loss.mean(said[:, :1], y[:, :1])) * scale**2


def _is_squared(family: TaskFamily) -> bool:
    return family.loss in (SQUARED_ERROR, PRESENT_SQUARED_ERROR)


def _measured(family: TaskFamily) -> dict[str, str]:
    """What the losses of fits are called, and what they are of."""
    if not _is_squared(family):
        return {"measure": "loss", "measured_on": "on the query samples of the task"}
    unit = f", in the unit of {column_names(family).targets[0]}, squared" if family.units else ""
    return {"measure": "MSE", "measured_on": f"on the query samples of the task{unit}"}


def _points(
    experiment: Experiment, family: TaskFamily, params: Params, task: Task, shots: int, name: int | str
) -> list[Row]:
    """What each predictor has learned from: the support samples, or what it was taught in their place.

    Where no truth is drawn, the query samples stand for it.
    """
    inner, corrupted, support = experiment.method.inner, min(family.corrupted_slots, shots), task.support
    parts = {"support": slice(corrupted, shots), "support, corrupted": slice(0, corrupted)}
    drawn = {label: Samples(support.x[part], support.y[part]) for label, part in parts.items()}
    if family.names:
        drawn["query"] = task.query
    with torch.no_grad():
        taught = experiment.method.taught(params, support, max(_FIT_STEPS))
        rows: list[Row] = []
        for model in inner.predictors(params, inner.start(params), support, 0, constant):
            for label, said in [taught[model]] if model in taught else drawn.items():
                x, y = first_input(family.units, said.x), first_target(family.units, said.y)
                there = ~y.isnan()
                rows += curve_rows(x[there], y[there], model=model, task=name, shown="points", curve=label)
    return rows
