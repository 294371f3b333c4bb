"""What a sweep is of: its members, which of them are rows of one program, and the axes that it was asked for."""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from mamlcli.commands.stacks import stacks_of
from mamlcli.config.axes import Axes, Member, Points, members_of, shown
from mamlcli.config.axes import axes_of as values_of
from mamlcli.config.experiment import Config
from mamlcli.errors import CheckpointError, UsageError
from mamlcli.experiment import Experiment, make_experiment
from mamlcli.rows import SweepAxis
from mamlcli.runs.folder import RunFolder
from mamlcli.stacking import in_a_stack, row_keys


class Grid(NamedTuple):
    """What a sweep is of."""

    members: list[Member]
    experiments: dict[str, Experiment]
    """By the name of their member."""
    stacks: list[list[Member]]
    axes: list[SweepAxis]
    asked: Any
    """The axes or points as they were passed, as plain values."""


def grid_of(config: Config, axes: Axes | Points) -> Grid:
    """Check the members of a sweep, and put those together that are rows of one program.

    Raises:
        UsageError: If an axis cannot be one.
        ConfigError: If a value is wrong.
    """
    members = members_of(config, axes)
    stacks = stacks_of(members)
    by_row = set.intersection(*(set(row_keys(member.config)) for member in members))
    found: list[SweepAxis] = [
        {"key": key, "values": [as_read_back(value) for value in values], "stacked": key in by_row}
        for key, values in (axes if isinstance(axes, Mapping) else values_of(axes)).items()
    ]
    placed = [in_a_stack([make_experiment(member.config) for member in stack]) for stack in stacks]
    experiments = {
        member.name: experiment
        for stack, whole in zip(stacks, placed, strict=True)
        for member, experiment in zip(stack, whole, strict=True)
    }
    return Grid(
        members,
        experiments,
        stacks,
        found,
        as_read_back(_as_dicts(axes)),
    )


def _as_dicts(axes: Axes | Points) -> Any:
    return dict(axes) if isinstance(axes, Mapping) else [dict(point) for point in axes]


def as_read_back(value: Any) -> Any:
    """A value as JSON reads it back."""
    return json.loads(json.dumps(value))


def said_of(grid: Grid, config: Config) -> dict[str, Any]:
    """What run.json says of a sweep, beside how it stands."""
    titles = dict.fromkeys(one.method.title for one in grid.experiments.values())
    return {
        "axes": grid.asked,
        "members": len(grid.members),
        "method": ", ".join(titles),
        "steps": config.outer.steps,
    }


def check_same_axes(folder: RunFolder, grid: Grid) -> None:
    """Raise UsageError if the sweep in a folder is of other axes."""
    before = axes_of(folder)
    if before != grid.asked:
        was, now = (_in_words(one) for one in (before, grid.asked))
        raise UsageError(f"{folder.path} cannot be resumed as another sweep: it is of {was}, and not of {now}")


def _in_words(asked: Any) -> str:
    if isinstance(asked, list):
        return f"{len(asked)} points"
    return ", ".join(f"{key}={shown(tuple(values))}" for key, values in asked.items())


def axes_of(folder: RunFolder) -> Any:
    """The axes of a sweep that was begun, or its points.

    Raises:
        CheckpointError: If its run.json does not say them.
    """
    found = folder.read_info().get("axes")
    are_axes = isinstance(found, dict) and all(isinstance(values, list) for values in found.values())
    if not are_axes and not (isinstance(found, list) and all(isinstance(point, dict) for point in found)):
        raise CheckpointError(f"{folder.path}: not a sweep that can be gone on with: run.json does not say its axes")
    return found
