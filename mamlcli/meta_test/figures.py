"""The figures of a meta-test: adaptation curves, and what adaptation does to single tasks."""

from collections.abc import Sequence
from pathlib import Path

import torch

from mamlcli.drawing import point_rows, save_or_warn
from mamlcli.experiment import Experiment
from mamlcli.figures.adaptation import adaptation_figure
from mamlcli.figures.fits import fits_figure
from mamlcli.meta_test.measure import meta_test_list, meta_test_tasks, over_seeds
from mamlcli.methods.inner_loops import constant
from mamlcli.reporting import Reporter
from mamlcli.rows import EvalRow
from mamlcli.runs.folder import RunFolder
from mamlcli.tasks.family import Curves
from mamlcli.tasks.samples import Samples
from mamlcli.types import Params, Row

_NUM_TASKS = 3
_FIT_STEPS = (0, 1, 10)
_GRID_POINTS = 200


def draw_adaptation(
    run: RunFolder, experiment: Experiment, results: Sequence[EvalRow], reporter: Reporter
) -> Path | None:
    """Draw the rows that speak for the whole run, or of its only seed, and what is known of the tasks analytically."""
    config = experiment.config
    rows = over_seeds(config, results)
    title = (
        f"{config.name}: adaptation on {experiment.num_test_tasks()} meta-test tasks",
        f"95% interval {rows[0]['interval']}",
    )
    bounds = experiment.family.bounds(config.evaluation.grid)
    return save_or_warn(run, "adaptation", lambda: adaptation_figure(rows, title=title, bounds=bounds), rows, reporter)


def draw_fits(run: RunFolder, experiment: Experiment, params: Params, reporter: Reporter) -> Path | None:
    """Draw the first meta-test tasks as the first seed fits them, with the K in the middle.

    Args:
        run: The folder to write to.
        experiment: What is tested.
        params: Meta-parameters of every seed, on the device where they are.
        reporter: Hears if the figure cannot be drawn or written.
    """
    config, family = experiment.config, experiment.family
    if family.curves is None:
        reporter.note("no figure of fits: these tasks are no functions of one input")
        return None
    shots = sorted(config.evaluation.shots)[len(config.evaluation.shots) // 2]
    count = min(_NUM_TASKS, experiment.num_test_tasks())
    curves = family.curves(meta_test_list(experiment).numbers(0, count), _GRID_POINTS)
    first = {name: theta[0] for name, theta in params.items()}
    device = next(iter(first.values())).device
    support = meta_test_tasks(experiment, shots, 0, count).map(lambda part: part.to(device)).support
    lines: list[Row] = []
    points: list[Row] = []
    for task in range(count):
        samples = Samples(support.x[task], support.y[task])
        lines += _lines(experiment, first, samples, curves, task)
        points += _points(experiment, first, samples, shots, task)
    title = f"{config.name}: seed {config.seeds[0]} adapts to {shots} support samples"
    return save_or_warn(run, "fits", lambda: fits_figure(lines, points, title=title), lines + points, reporter)


def _lines(experiment: Experiment, params: Params, support: Samples, curves: Curves, task: int) -> list[Row]:
    """What every predictor says of one task before and after adaptation, beside the truth."""
    inner, inputs, rows = experiment.method.inner, curves.inputs[task].to(support.x.device), []
    state = inner.start(params)
    with torch.no_grad():
        for steps in range(max(_FIT_STEPS) + 1):
            if steps in _FIT_STEPS:
                label = "before adaptation" if steps == 0 else f"after {steps} step{'s' * (steps > 1)}"
                for name, predictor in inner.predictors(params, state, support, steps, constant).items():
                    if steps == 0:
                        rows += point_rows(curves.x, curves.y[task], model=name, task=task, curve="truth")
                    said = experiment.model.predict(predictor, inputs)
                    rows += point_rows(curves.x, said, model=name, task=task, curve=label)
            state = inner.step(params, state, support, steps, constant)
    return rows


def _points(experiment: Experiment, params: Params, support: Samples, shots: int, task: int) -> list[Row]:
    """What each predictor has learned from: the support samples, or what it was taught in their place."""
    inner, corrupted = experiment.method.inner, experiment.family.corrupted_slots
    with torch.no_grad():
        taught = experiment.method.taught(params, support, max(_FIT_STEPS))
        rows: list[Row] = []
        for name in inner.predictors(params, inner.start(params), support, 0, constant):
            if name in taught:
                label, said = taught[name]
                rows += point_rows(said.x[:, 0], said.y, model=name, task=task, curve=label)
                continue
            clean, wrong = slice(min(corrupted, shots), shots), slice(0, min(corrupted, shots))
            for label, part in (("support", clean), ("support, corrupted", wrong)):
                rows += point_rows(support.x[part, 0], support.y[part], model=name, task=task, curve=label)
    return rows
