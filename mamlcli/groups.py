"""Seeds that have the same tasks: all of a run, or, where seeds leave out different tasks, those of a fold.

With folds, one seed of each fold makes a repetition, which leaves out every task once: what is measured of all groups
has a leading axis of repetitions in place of seeds.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mamlcli.config.experiment import Config
from mamlcli.errors import UsageError
from mamlcli.experiment import Experiment
from mamlcli.tasks.family import TaskFamily, of_seed
from mamlcli.tasks.numbers import Split
from mamlcli.types import Params


class Group(NamedTuple):
    """Seeds that have the same tasks."""

    places: list[int]
    """Where they stand among the seeds of the run."""
    experiment: Experiment
    """The run's, of these seeds and of the family as they have it."""

    def of(self, params: Params) -> Params:
        """Their part of what all seeds have, name -> (S, ...)."""
        return {name: theta[self.places] for name, theta in params.items()}


def groups(experiment: Experiment) -> list[Group]:
    """Put the seeds of a run together that have the same tasks."""
    seeds, family = experiment.config.seeds, experiment.family
    if family.view is None:
        return [Group(list(range(len(seeds))), experiment)]
    found: dict[int, tuple[TaskFamily, list[int]]] = {}
    for place, seed in enumerate(seeds):
        own = of_seed(family, seed)
        # By identity: two equal views could hold different data.
        found.setdefault(id(own), (own, []))[1].append(place)
    return [
        Group(places, experiment._replace(family=own, config=_of_seeds(experiment, places)))
        for own, places in found.values()
    ]


def _of_seeds(experiment: Experiment, places: Sequence[int]) -> Config:
    """The config of some of the seeds, which are tested on all tasks that they leave out."""
    config, most = experiment.config, max(len(names) for names in experiment.family.names.values())
    evaluation = config.evaluation.model_copy(update={"tasks": most})
    seeds = tuple(config.seeds[place] for place in places)
    return config.model_copy(update={"seeds": seeds, "evaluation": evaluation})


def tested_seeds(experiment: Experiment) -> tuple[int, ...]:
    """What stands for the seeds in results: themselves, or with folds the number of each repetition."""
    if experiment.family.view is None:
        return experiment.config.seeds
    return tuple(range(len(groups(experiment)[0].places)))


def frozen_of_tested(experiment: Experiment, frozen: Mapping[int, int]) -> dict[int, int]:
    """Which of those have diverged, and at which step, from the seeds that have; of a repetition the first that did."""
    if experiment.family.view is None:
        return dict(frozen)
    found: dict[int, int] = {}
    for group in groups(experiment):
        for repetition, place in enumerate(group.places):
            step = frozen.get(experiment.config.seeds[place])
            if step is not None:
                found[repetition] = min(step, found.get(repetition, step))
    return found


def joined(experiment: Experiment, parts: Sequence[Tensor], split: Split = "meta-test") -> Tensor:
    """Put what was measured of each group together: (own seeds, own tasks, ...) to (seeds or repetitions, tasks, ...).

    Raises:
        UsageError: If groups differ in size, so that a repetition would lack tasks.
    """
    if experiment.family.view is None:
        return parts[0]
    if len({len(part) for part in parts}) > 1:
        raise UsageError("the tasks that seeds leave out need as many seeds each; give every one of them as many")
    place = {name: index for index, name in enumerate(experiment.family.names[split])}
    order = [place[name] for group in groups(experiment) for name in group.experiment.family.names[split]]
    return torch.cat(list(parts), dim=1)[:, torch.tensor(order).argsort()]
