"""Errors of groups of seeds, each with tasks of its own, put together: all tasks by name."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from mamlcli.baselines.predictors import POOLED_MEAN
from mamlcli.experiment import Experiment
from mamlcli.groups import Group
from mamlcli.meta_test.units import Errors, Who, World
from mamlcli.tasks.family import column_names


class Found(NamedTuple):
    """What is measured of a group of seeds at one K, in the unit of a model."""

    there: Bool[np.ndarray, "tasks outputs"]
    """Which targets the query rows of a task have."""
    of: Mapping[Who, Float[np.ndarray, "seeds tasks outputs"] | None]
    """Errors by who, with one row where they are of no seed; None where there are none."""


class OfGroup(NamedTuple):
    """What is measured of a group of seeds."""

    group: Group
    at: Mapping[int, Found]
    """For each K."""

    @property
    def names(self) -> Sequence[str]:
        """The tasks that it is tested on."""
        experiment = self.group.experiment
        return experiment.family.names["meta-test"][: experiment.num_test_tasks()]


def joined_world(experiment: Experiment, parts: Sequence[OfGroup]) -> World:
    """What the errors of all groups are of: their tasks, in the order of the family's list, which has them all."""
    config, family = experiment.config, experiment.family
    tested = {name for part in parts for name in part.names}
    targets = column_names(family).targets
    scales = np.ones((len(config.seeds), len(targets)))
    for part in parts:
        if units := part.group.experiment.family.units:
            scales[part.group.places] = units.y_scale
    return World(
        names=tuple(name for name in family.names["meta-test"] if name in tested),
        targets=targets,
        scales=scales,
        diverged_above=config.evaluation.diverged_above,
        method=experiment.method.title,
        reference=POOLED_MEAN,
    )


def joined_errors(world: World, parts: Sequence[OfGroup], notes: Mapping[str, str]) -> Iterator[Errors]:
    """The errors of all groups at each K.

    Args:
        world: Of `joined_world`.
        parts: Of groups that have all seeds between them.
        notes: What is to be said of a name.
    """
    num_seeds = len(world.scales)
    if len(parts) == 1:
        for shots, (there, of) in parts[0].at.items():
            yield Errors(shots, np.broadcast_to(there, (num_seeds, *there.shape)), of, notes)
        return
    place = {name: index for index, name in enumerate(world.names)}
    spots = [np.ix_(part.group.places, [place[name] for name in part.names]) for part in parts]
    shape = (num_seeds, len(world.names), len(world.targets))
    for shots, first in parts[0].at.items():
        there = np.zeros(shape, dtype=np.bool_)
        of = {who: None if values is None else np.full(shape, np.nan) for who, values in first.of.items()}
        for spot, part in zip(spots, parts, strict=True):
            there[spot] = part.at[shots].there
            for who, values in of.items():
                if values is not None:
                    values[spot] = part.at[shots].of[who]
        yield Errors(shots, there, of, notes)
