"""Seeds that learn from and are tested on the same tasks, and the rows that they learn from."""

from typing import NamedTuple

import torch
from torch import Tensor

from mamlcli.experiment import Experiment
from mamlcli.tasks.family import Request, TaskFamily, of_seed
from mamlcli.tasks.samples import Samples, all_samples
from mamlcli.tasks.stream import TaskList
from mamlcli.types import Params


class Group(NamedTuple):
    """Seeds that have the same tasks."""

    places: list[int]
    """Where they stand among the seeds of the run."""
    experiment: Experiment
    """The run's, of these seeds and of the family as they have it; it is tested on each of its tasks once."""

    def of(self, params: Params) -> Params:
        """Their part of what all seeds have, name -> (S, ...)."""
        return {name: theta[self.places] for name, theta in params.items()}


def groups(experiment: Experiment) -> list[Group]:
    """Put the seeds of a finite world together that have the same tasks: all of them, but for those of folds."""
    config = experiment.config
    places: dict[int, tuple[TaskFamily, list[int]]] = {}
    for place, seed in enumerate(config.seeds):
        family = of_seed(experiment.family, seed)
        # By identity: two equal views could hold different data.
        places.setdefault(id(family), (family, []))[1].append(place)
    found = []
    for family, own in places.values():
        count = min(config.evaluation.tasks, len(family.names["meta-test"]))
        evaluation = config.evaluation.model_copy(update={"tasks": count})
        seeds = tuple(config.seeds[place] for place in own)
        part = config.model_copy(update={"seeds": seeds, "evaluation": evaluation})
        found.append(Group(own, experiment._replace(config=part, family=family)))
    return found


def training_rows(group: Group) -> Samples:
    """All rows of the meta-train tasks, in float64: x of shape (N, R, features), y of shape (N, R, outputs).

    Of a task at most K + Q rows, with the K of meta-training and the larger Q of meta-training and meta-test. Those
    that it does not have are filled up with targets that are NaN, at its end.
    """
    config, family = group.experiment.config, group.experiment.family
    request = Request(config.tasks.support_shots, max(config.tasks.query_shots, config.evaluation.query_shots))
    listed = TaskList(family, config.seeds[0], "meta-train")
    # The first round through the list: each of its tasks once.
    return packed(all_samples(listed.tasks(0, len(family.names["meta-train"]), request)))


def packed(samples: Samples) -> Samples:
    """Bring the rows that have a target to the front, and leave out what is beyond the longest task; in float64."""
    there = has_target(samples.y)
    longest = max(1, int(there.sum(dim=1).max()))
    order = (~there).to(torch.uint8).argsort(dim=1, stable=True)[:, :longest, None]
    x, y = (part.gather(1, order.expand(-1, -1, part.shape[-1])).double() for part in samples)
    return Samples(x, y)


def has_target(y: Tensor) -> Tensor:
    """Which rows, of (..., rows, outputs), have a target."""
    return ~y.isnan().all(dim=-1)
