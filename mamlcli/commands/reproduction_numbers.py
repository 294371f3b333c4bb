"""What a row measures: a mean with its interval beside a published number, corrected for how hard its tasks are."""

import numpy as np
import torch
from numpy.typing import NDArray

from mamlcli.config.experiment import Config
from mamlcli.config.published import PublishedNumber, PublishedRow, verdict
from mamlcli.experiment import Experiment, make_experiment
from mamlcli.meta_test.measure import meta_test_tasks, query_protocol
from mamlcli.statistics import control_variate, crossed_half_width, half_width
from mamlcli.types import Row, finite_or_none

_CORRECTED = "corrected by the zero predictor as control variate"
_IS_CONTROL = "not corrected: it is the control variate itself"
_UNKNOWN = "not corrected: what zero scores over all tasks is not known of this family"
_DIVERGED = "not corrected: adaptations diverged, and the mean is theirs"


def measured_numbers(row: PublishedRow, number: PublishedNumber, config: Config, losses: torch.Tensor) -> Row:
    """What was found of a published number, and the verdict.

    Args:
        row: Whose number it is.
        number: The published one.
        config: The experiment.
        losses: After the number's inner steps on its K support samples, of all seeds and tasks; (S, T).

    Returns:
        mean and ci95 (corrected, over seeds and tasks), what each side adds to it (ci95_seeds for these tasks,
        ci95_tasks for these seeds), plain_mean and plain_ci95 (as measured), control_mean (the zero predictor's loss
        on these tasks), control_expected (over all tasks), control_coefficient (null where it corrects nothing),
        correction in words, median, num_diverged, query and verdict. What is not finite is null.
    """
    plain = losses.double().cpu().numpy()
    diverged = int((~(plain <= config.evaluation.diverged_above)).sum())
    experiment = make_experiment(config)
    control = _zero_losses(experiment, number.shots)
    expected = experiment.family.bounds(config.evaluation.grid).get("zero predictor", np.nan)
    how = _IS_CONTROL if row.start == "zero" else _DIVERGED if diverged else _CORRECTED
    how = _UNKNOWN if np.isnan(expected) else how
    found, fitted = (control_variate(plain, control, expected=expected), 1) if how == _CORRECTED else (None, 0)
    values = plain if found is None else found.values
    numbers = {
        "mean": values.mean(),
        "ci95": crossed_half_width(values, fitted=fitted),
        "ci95_seeds": half_width(values.mean(axis=1)),
        "ci95_tasks": half_width(values.mean(axis=0), fitted=fitted),
        "plain_mean": plain.mean(),
        "plain_ci95": crossed_half_width(plain),
        "control_mean": control.mean(),
        "control_expected": expected,
        "control_coefficient": np.nan if found is None else found.coefficient,
        "median": np.median(np.where(np.isnan(plain), np.inf, plain)),
    }
    finite = {name: finite_or_none(float(value)) for name, value in numbers.items()}
    theirs = finite_or_none(float(half_width(plain.mean(axis=0))))
    protocol = query_protocol(experiment)
    return finite | {
        "correction": how,
        "num_diverged": diverged,
        "query": f"{protocol['points']} points, {protocol['sampling']}",
        "verdict": verdict(number, finite["mean"], ci95=finite["ci95"], ci95_theirs=theirs, num_diverged=diverged),
    }


def _zero_losses(experiment: Experiment, shots: int) -> NDArray[np.float64]:
    """The loss of the zero predictor on each meta-test task."""
    targets = meta_test_tasks(experiment, shots).query.y
    losses: NDArray[np.float64] = targets.double().square().mean(dim=(1, 2)).numpy()
    return losses
