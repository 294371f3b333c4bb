"""Rows as they are measured: the losses of each, its lines of the table, its curve, and what it is set beside."""

from collections.abc import Mapping
from typing import NamedTuple, cast

import torch

from mamlcli.commands.reproduction_numbers import measured_numbers, paired_rows
from mamlcli.commands.reproduction_rows import Planned, is_trained, unlike
from mamlcli.commands.reproduction_time import Bar
from mamlcli.config.published import PublishedNumber, PublishedRow
from mamlcli.devices import resolve_device
from mamlcli.errors import CheckpointError
from mamlcli.experiment import make_experiment
from mamlcli.meta_test.measure import of_the_first, over_seeds, summarise_all
from mamlcli.meta_test.together import meta_test_together
from mamlcli.plain import NOT_COMPARABLE
from mamlcli.ranks import Ranks
from mamlcli.reporting import Reporter
from mamlcli.rows import CurvePoint, ReproducedNumber, RowPair
from mamlcli.runs.checkpoints import newest_checkpoint
from mamlcli.runs.folder import RunFolder
from mamlcli.types import Params, Row

# What a row that could not be run has none of.
_NUMBERS = (
    *("margin", "difference", "difference_ci95", "difference_ci90"),
    *("mean", "ci95", "ci95_seeds", "ci95_tasks", "plain_mean", "plain_ci95", "control_mean", "control_expected"),
    *("control_coefficient", "correction", "median", "num_diverged", "query"),
)


class Measured(NamedTuple):
    """What was found of a row."""

    losses: dict[int, torch.Tensor]
    """(S, T, N + 1) for each K; empty where it could not be run."""
    problem: str | None
    """Why not."""


def measured_rows(
    plans: Mapping[str, Planned], folder: RunFolder, failed: Mapping[str, str], ranks: Ranks, bar: Bar
) -> dict[str, Measured]:
    """Measure every row on its meta-test tasks."""
    found: dict[str, Measured] = {}
    for name, plan in plans.items():
        try:
            if plan.run in failed and is_trained(plan.row):
                raise CheckpointError(failed[plan.run])
            found[name] = Measured(_losses(plan, folder, ranks, bar.testing(name)), None)
        except CheckpointError as error:
            found[name] = Measured({}, str(error))
        bar.tested(name)
    return found


def _losses(plan: Planned, folder: RunFolder, ranks: Ranks, reporter: Reporter) -> dict[int, torch.Tensor]:
    """The meta-test losses of a row, (S, T, N + 1) for each K."""
    device = resolve_device(plan.tested.device)
    experiment = make_experiment(plan.tested)
    params: Params = experiment.initial_state(device).params
    if plan.row.start == "zero":
        params = {key: torch.zeros_like(value) for key, value in params.items()}
    elif is_trained(plan.row):
        checkpoint = newest_checkpoint(folder.path / "runs" / plan.run, device, reporter.note)
        params = checkpoint.chosen(plan.tested.run.keep).params
    return of_the_first(meta_test_together(experiment, params, device, ranks, reporter).losses)


def lines_of(name: str, plan: Planned, measured: Measured, *, fast: bool) -> list[ReproducedNumber]:
    """The lines of the table of a row."""
    row = plan.row
    if measured.problem is not None:
        return [_line(name, row, number, f"not run: {measured.problem}") for number in row.published]
    lines = []
    for number in row.published:
        of_number = measured.losses[number.shots][:, :, number.inner_steps]
        found = measured_numbers(row, number, plan.tested, of_number)
        lines.append(_line(name, row, number, NOT_COMPARABLE if fast else found["verdict"], found))
    return lines


def _line(
    name: str, row: PublishedRow, number: PublishedNumber, outcome: str, found: Row | None = None
) -> ReproducedNumber:
    """A line of the table that says what was published, what was found, and how it went."""
    line = {
        "row": name,
        "title": row.title,
        "shots": number.shots,
        "inner_steps": number.inner_steps,
        "published": number.mean,
        "published_ci95": number.ci95,
        "relation": number.relation,
        **dict.fromkeys(_NUMBERS),
        **(found or {}),
        "verdict": outcome,
    }
    return cast(ReproducedNumber, line)


def pairs_of(
    plans: Mapping[str, Planned], measured: Mapping[str, Measured], reporter: Reporter, *, fast: bool
) -> list[RowPair]:
    """The rows that are set beside another one that was run too."""
    found: list[RowPair] = []
    for name, plan in plans.items():
        beside = plan.row.beside
        if beside is None or beside not in plans or not (measured[name].losses and measured[beside].losses):
            continue
        if unlike(plan, plans[beside]):
            reporter.note(f"warning: {name} is not set beside {beside}: they are measured on other tasks")
            continue
        found += paired_rows(name, plan.row, measured[name].losses, measured[beside].losses, fast=fast)
    return found


def curve_of(plan: Planned, losses: dict[int, torch.Tensor]) -> list[CurvePoint]:
    """The line of a row in the figure, with what was published; a level where adaptation is not meant."""
    row = plan.row
    if not row.curve or not losses:
        return []
    points = over_seeds(summarise_all(make_experiment(plan.tested), losses, {}))
    level = {point["shots"]: point for point in points if point["inner_steps"] == 0}
    shown = [level[point["shots"]] if row.flat else point for point in points]
    published = {(number.shots, number.inner_steps): number for number in row.published}
    found: list[CurvePoint] = []
    for point, at in zip(points, shown, strict=True):
        theirs = published.get((point["shots"], point["inner_steps"]))
        found.append(
            {
                "curve": row.curve,
                "shots": point["shots"],
                "inner_steps": point["inner_steps"],
                "mean": at["mean"],
                "ci95": at["ci95"],
                "published": theirs.mean if theirs else None,
                "published_ci95": theirs.ci95 if theirs else None,
            }
        )
    return found
