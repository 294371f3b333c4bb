"""The figures of a meta-test: adaptation curves, and what adaptation does to single tasks."""

from pathlib import Path

import torch

from mamlcli.config.experiment import Config
from mamlcli.drawing import point_rows, save_or_warn
from mamlcli.figures.chain import chain_fits_figure
from mamlcli.figures.plots import adaptation_figure, fits_figure
from mamlcli.meta_test.chain import chain_fit_rows
from mamlcli.models.layers import ACTIVATIONS, forward
from mamlcli.runs.folder import RunFolder
from mamlcli.setup import Reporter, make_adapt_step, make_family, make_loss_fn
from mamlcli.tasks import Sinusoid, Task
from mamlcli.types import Params, Row

NUM_FITS = 3
"""How many tasks are drawn."""
_FIT_STEPS = (0, 1, 10)
_GRID_POINTS = 200


def draw_adaptation(run: RunFolder, config: Config, rows: list[Row], reporter: Reporter) -> Path | None:
    """Draw the rows that speak for the whole run, or of its only seed."""
    tasks = f"{config.evaluation.tasks} meta-test tasks"
    title = f"{config.name}: adaptation on {tasks}\n95% interval {rows[0]['interval']}"
    return save_or_warn(run, "adaptation", lambda: adaptation_figure(rows, title=title), rows, reporter)


def draw_fits(
    run: RunFolder, config: Config, params: Params, tasks: Task, functions: Sinusoid, reporter: Reporter
) -> Path | None:
    """Draw the first tasks as one seed fits them.

    Args:
        run: The folder to write to.
        config: The experiment.
        params: Meta-parameters of the first seed.
        tasks: The meta-test tasks, on the device of the parameters.
        functions: Those behind the tasks to draw, which are the first.
        reporter: Hears if the figure cannot be written.
    """
    x = torch.linspace(*config.tasks.x, _GRID_POINTS, dtype=torch.float64).view(1, -1, 1)
    inputs = make_family(config.tasks).inputs(functions, x).float().to(tasks.query.x.device)
    if config.algorithm.name == "chain":
        lines, points = chain_fit_rows(config, params, tasks, x.flatten(), inputs, functions(x))
        steps = config.algorithm.inner_steps
        title = f"{config.name}: seed {config.seeds[0]}, {steps} step{'s' * (steps > 1)} of each model"
        rows = lines + points
        return save_or_warn(run, "fits", lambda: chain_fits_figure(lines, points, title=title), rows, reporter)
    adapt_step = make_adapt_step(make_loss_fn(config.model), config.algorithm)
    curves, points = [], []
    for task, truth in enumerate(functions(x)):
        fits = {"truth": truth}
        samples = type(tasks.support)(tasks.support.x[task], tasks.support.y[task])
        adapted = params
        for steps in range(max(_FIT_STEPS) + 1):
            if steps in _FIT_STEPS:
                prediction = forward(adapted, inputs[task], activation=ACTIVATIONS[config.model.activation])
                fits["before adaptation" if steps == 0 else f"after {steps} step{'s' * (steps > 1)}"] = prediction
            adapted = adapt_step(adapted, samples, steps)
        curves += [row for name, y in fits.items() for row in point_rows(x, y, task=task, curve=name)]
        points += point_rows(samples.x[:, :1], samples.y, task=task, curve="support")
    shots = tasks.support.x.shape[1]
    title = f"{config.name}: seed {config.seeds[0]} adapts to {shots} support samples"
    return save_or_warn(run, "fits", lambda: fits_figure(curves, points, title=title), curves + points, reporter)
