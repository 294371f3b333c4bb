"""Rows of the figure of predictions: support samples, and what is predicted between them."""

import numpy as np

from mamlcli.drawing import after_steps
from mamlcli.tasks.family import Columns
from mamlcli.trained.arrays import Numbers
from mamlcli.trained.model import Predictor, predict_seeds_at, predictor_for
from mamlcli.trained.tables import OwnTask
from mamlcli.types import Row, finite_or_none

NUM_PANELS = 9
"""Of a figure."""
_GRID_POINTS = 200


def curve_rows(predictor: Predictor, task: OwnTask, asked: Numbers) -> list[Row]:
    """What is predicted from the smallest to the largest input of a task that has one.

    Args:
        predictor: Adapted to the task.
        task: The task.
        asked: Its query inputs (Q, 1), which are what predicts where that depends on what is asked.
    """
    inputs = np.concatenate([task.x, asked])
    x = np.linspace(inputs.min(), inputs.max(), _GRID_POINTS)
    said = predict_seeds_at(predictor, predictor_for(predictor, asked), x[:, None])
    curve = after_steps(predictor.steps)
    return [
        {
            "target": target,
            "task": task.name,
            "curve": curve,
            "x": float(place),
            "mean": finite_or_none(values.mean()),
            "low": finite_or_none(values.min()),
            "high": finite_or_none(values.max()),
        }
        for index, target in enumerate(predictor.model.columns.targets)
        for place, values in zip(x, said[:, :, index].T, strict=True)
    ]


def point_rows(columns: Columns, task: OwnTask) -> list[Row]:
    """The support samples of a task that has one input."""
    return [
        {"target": target, "task": task.name, "x": x, "y": y}
        for index, target in enumerate(columns.targets)
        for x, y in zip(task.x[:, 0].tolist(), task.y[:, index].tolist(), strict=True)
    ]
