"""What a row measures: a mean with its interval beside a published number, corrected for how hard its tasks are."""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from mamlcli.config.experiment import Config
from mamlcli.config.published import PublishedNumber, PublishedRow
from mamlcli.experiment import Experiment, make_experiment
from mamlcli.meta_test.losses import median_or_none
from mamlcli.meta_test.measure import meta_test_tasks, query_protocol
from mamlcli.meta_test.paired import mean_losses, paired_differences
from mamlcli.plain import NOT_COMPARABLE
from mamlcli.rows import RowPair
from mamlcli.statistics import control_variate, half_width
from mamlcli.types import Row, finite_or_none
from mamlcli.verdicts import (
    Difference,
    Spread,
    against,
    bound_statement,
    published_spread,
    spread_of,
    spread_of_trainings,
    spread_over_tasks,
    statement,
)

_CORRECTED = "corrected by the zero predictor as control variate"
_IS_CONTROL = "not corrected: it is the control variate itself"
_UNKNOWN = "not corrected: what zero scores over all tasks is not known of this family"
_DIVERGED = "not corrected: adaptations diverged, and the mean is theirs"


def measured_numbers(row: PublishedRow, number: PublishedNumber, config: Config, losses: torch.Tensor) -> Row:
    """What was found of a published number, and the verdict.

    Args:
        row: Whose number it is.
        number: The published one.
        config: The experiment, as it is tested.
        losses: After the number's inner steps on its K support samples, of all seeds and tasks; (S, T).

    Returns:
        mean and ci95 (corrected, over seeds and tasks), what each side adds to it (ci95_seeds for these tasks,
        ci95_tasks for these seeds), plain_mean and plain_ci95 (as measured), control_mean (the zero predictor's loss
        on these tasks), control_expected (over all tasks), control_coefficient (null where it corrects nothing),
        correction in words, median, num_diverged, query, and how it stands to the published number: margin, difference
        with its half-widths, and verdict. What is not finite is null.
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
    ours = spread_of(values, fitted=fitted)
    numbers = {
        "mean": values.mean(),
        "ci95": ours.half95,
        "ci95_seeds": half_width(values.mean(axis=1)),
        "ci95_tasks": half_width(values.mean(axis=0), fitted=fitted),
        "plain_mean": plain.mean(),
        "plain_ci95": spread_of(plain).half95,
        "control_mean": control.mean(),
        "control_expected": expected,
        "control_coefficient": np.nan if found is None else found.coefficient,
    }
    protocol = query_protocol(experiment)
    return {name: finite_or_none(float(value)) for name, value in numbers.items()} | {
        "median": median_or_none(plain),
        "correction": how,
        "num_diverged": diverged,
        "query": f"{protocol['points']} points, {protocol['sampling']}",
        **beside_published(row, number, float(values.mean()), ours, plain),
    }


def beside_published(
    row: PublishedRow, number: PublishedNumber, mean: float, ours: Spread, plain: NDArray[np.float64]
) -> Row:
    """How a mean stands to a published number: margin, difference, its half-widths, and the verdict.

    Args:
        row: Whose number it is.
        number: The published one.
        mean: Ours.
        ours: Its spread.
        plain: What was measured of each seed and task, (S, T), before any correction: theirs were other tasks, which
            nobody corrected, and as a rule another training.
    """
    if number.mean is None:
        unknown = dict.fromkeys(("margin", "difference", "difference_ci95", "difference_ci90"))
        return unknown | {"verdict": "no number published"}
    margin = row.margin * abs(number.mean)
    difference = against(mean, number.mean, ours, *_spreads_of_theirs(row, number, plain))
    said: str = (
        statement(difference, margin=margin)
        if number.relation == "equals"
        else bound_statement(difference, margin=margin, relation=number.relation)
    )
    names = ("difference", "difference_ci95", "difference_ci90")
    found = {name: finite_or_none(value) for name, value in zip(names, difference, strict=True)}
    return {"margin": margin, **found, "verdict": said}


def _spreads_of_theirs(row: PublishedRow, number: PublishedNumber, plain: NDArray[np.float64]) -> list[Spread]:
    """What a published number is uncertain by; a bound and what was calculated by nothing, but for its own interval."""
    of_tasks = None if number.ci95 is None else published_spread(number.ci95, number.degrees)
    if number.analytic or number.relation != "equals":
        return [of_tasks] if of_tasks else []
    with np.errstate(invalid="ignore"):
        trainings = [] if row.trainings is None else [spread_of_trainings(plain, row.trainings)]
        return [of_tasks or spread_over_tasks(plain), *trainings]


def paired_rows(
    name: str, row: PublishedRow, losses: Mapping[int, torch.Tensor], beside: Mapping[int, torch.Tensor], *, fast: bool
) -> list[RowPair]:
    """What a row scores less what the one beside it does, at each of its numbers that both were measured at.

    Args:
        name: The row's.
        row: It names the other one, and the margin.
        losses: Of the row for each K, (S, T, N + 1), on the same tasks as those of the other.
        beside: The same of the other.
        fast: Whether the numbers mean nothing.
    """
    assert row.beside is not None
    found: list[RowPair] = []
    for number in row.published:
        shots, steps = number.shots, number.inner_steps
        if shots not in beside or steps >= beside[shots].shape[2]:
            continue
        ours, theirs = (one[shots][:, :, steps : steps + 1] for one in (losses, beside))
        [difference], [level] = paired_differences(ours, theirs), mean_losses(theirs)
        margin = np.nan if level is None else row.margin * level
        found.append(_pair(name, row.beside, number, difference, margin, fast=fast))
    return found


def _pair(
    name: str, beside: str, number: PublishedNumber, difference: Difference, margin: float, *, fast: bool
) -> RowPair:
    return {
        "row": name,
        "beside": beside,
        "shots": number.shots,
        "inner_steps": number.inner_steps,
        "difference": finite_or_none(difference.mean),
        "ci95": finite_or_none(difference.half95),
        "ci90": finite_or_none(difference.half90),
        "margin": finite_or_none(margin),
        "verdict": NOT_COMPARABLE if fast else statement(difference, margin=margin),
    }


def _zero_losses(experiment: Experiment, shots: int) -> NDArray[np.float64]:
    """The loss of the zero predictor on each meta-test task."""
    targets = meta_test_tasks(experiment, shots).query.y
    losses: NDArray[np.float64] = targets.double().square().mean(dim=(1, 2)).numpy()
    return losses
