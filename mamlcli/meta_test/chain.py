"""What a meta-test measures of a chain: both models, before and after their adaptation."""

from functools import partial
from typing import Literal

import torch
from torch import Tensor

from mamlcli.algorithms.chain import STUDENT, TEACHER, Adapted, adapt_chain, part_of
from mamlcli.config.experiment import Config
from mamlcli.drawing import point_rows
from mamlcli.setup import make_chain_model
from mamlcli.tasks import Samples, Task
from mamlcli.types import Params, Row


def chain_test_losses(config: Config, params: Params, tasks: Task, model: Literal["student", "teacher"]) -> Tensor:
    """Measure the query loss of one model of every task after 0 to N steps.

    After m steps means: the teacher has made m, and then the student m on what that teacher says.

    Args:
        config: Of a chain.
        params: Meta-parameters of S seeds, name -> (S, ...).
        tasks: T tasks, the same for every seed: support (T, K + U, 1), query (T, Q, 1).
        model: Whose loss is measured.

    Returns:
        Losses of shape (S, T, N + 1).
    """
    loss = make_chain_model(config.model).loss

    def one(params: Params, task: Task) -> Tensor:
        each = (_adapted(config, params, task.support, steps) for steps in range(config.evaluation.inner_steps + 1))
        return torch.stack([loss(getattr(adapted, model), task.query) for adapted in each])

    with torch.no_grad():
        losses: Tensor = torch.vmap(torch.vmap(one, in_dims=(None, 0)), in_dims=(0, None))(params, tasks)
    return losses


def _adapted(config: Config, params: Params, support: Samples, inner_steps: int) -> Adapted:
    """Adapt both models of one seed to one task, where nothing is differentiated."""
    return adapt_chain(
        make_chain_model(config.model),
        params,
        support,
        shots=config.tasks.support_shots,
        inner_lr=config.algorithm.inner_lr,
        inner_steps=inner_steps,
        order="first",
    )


def chain_fit_rows(
    config: Config, params: Params, tasks: Task, x: Tensor, inputs: Tensor, truths: Tensor
) -> tuple[list[Row], list[Row]]:
    """What both models of one seed say of the first tasks: the curves and the points of `chain_fits_figure`.

    Args:
        config: Of a chain.
        params: Meta-parameters of one seed.
        tasks: The meta-test tasks.
        x: The grid to draw on, of shape (G,).
        inputs: What the models see of it for n tasks, of shape (n, G, features).
        truths: The n functions on it, of shape (n, G, 1).
    """
    predict = make_chain_model(config.model).predict
    shots, corrupted, lines, points = config.tasks.support_shots, config.tasks.corrupted_slots, [], []
    for task in range(len(inputs)):
        support = Samples(tasks.support.x[task], tasks.support.y[task])
        adapted = _adapted(config, params, support, config.algorithm.inner_steps)
        taught = predict(adapted.teacher, support.x[shots:])
        for name, before in (("teacher", part_of(TEACHER, params)), ("student", part_of(STUDENT, params))):
            rows = partial(point_rows, model=name, task=task)
            lines += rows(x, truths[task], curve="truth")
            lines += rows(x, predict(before, inputs[task]), curve="before adaptation")
            lines += rows(x, predict(getattr(adapted, name), inputs[task]), curve="after adaptation")
        slots = partial(point_rows, model="teacher", task=task)
        points += slots(support.x[corrupted:shots, 0], support.y[corrupted:shots], curve="clean slot")
        points += slots(support.x[:corrupted, 0], support.y[:corrupted], curve="corrupted slot")
        points += point_rows(support.x[shots:, 0], taught, model="student", task=task, curve="what the teacher says")
    return lines, points
