"""Who is tested on which tasks: every seed on all, or, where seeds leave out different tasks, each on its own.

With folds the seeds are taken together that one repetition needs to leave out every task once: what is measured then
has a leading axis of repetitions in place of seeds.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Int64
from torch import Tensor

from mamlcli.config.experiment import Config
from mamlcli.experiment import Experiment
from mamlcli.tasks.family import TaskFamily, of_seed
from mamlcli.tasks.numbers import Split
from mamlcli.types import Params


class View(NamedTuple):
    """Seeds with the same tasks."""

    seeds: Int64[Tensor, " own"]
    """Their places among the seeds of the run."""
    experiment: Experiment
    """Theirs alone."""

    def of(self, params: Params) -> Params:
        """Their meta-parameters, of those of all seeds."""
        return {name: theta[self.seeds.to(theta.device)] for name, theta in params.items()}


def views(experiment: Experiment) -> list[View]:
    """Group the seeds of a run by the tasks that they have; one group where all have the same."""
    seeds, family = experiment.config.seeds, experiment.family
    if family.view is None:
        return [View(torch.arange(len(seeds)), experiment)]
    groups: dict[int, tuple[TaskFamily, list[int]]] = {}
    for index, seed in enumerate(seeds):
        own = of_seed(family, seed)
        groups.setdefault(id(own), (own, []))[1].append(index)
    return [
        View(torch.tensor(index), experiment._replace(family=own, config=_with_seeds(experiment, index)))
        for own, index in groups.values()
    ]


def _with_seeds(experiment: Experiment, index: Sequence[int]) -> Config:
    config, most = experiment.config, max(len(names) for names in experiment.family.names.values())
    evaluation = config.evaluation.model_copy(update={"tasks": most})
    seeds = tuple(config.seeds[place] for place in index)
    return config.model_copy(update={"seeds": seeds, "evaluation": evaluation})


def tested_seeds(experiment: Experiment) -> tuple[int, ...]:
    """What stands for the seeds in results: themselves, or with folds the number of each repetition."""
    if experiment.family.view is None:
        return experiment.config.seeds
    return tuple(range(len(views(experiment)[0].seeds)))


def frozen_of_tested(experiment: Experiment, frozen: Mapping[int, int]) -> dict[int, int]:
    """The same for the seeds that have diverged, and the step of each: of a repetition the first to do so."""
    if experiment.family.view is None:
        return dict(frozen)
    found: dict[int, int] = {}
    for view in views(experiment):
        for repetition, place in enumerate(view.seeds.tolist()):
            step = frozen.get(experiment.config.seeds[place])
            if step is not None:
                found[repetition] = min(step, found.get(repetition, step))
    return found


def joined(experiment: Experiment, parts: Sequence[Tensor], split: Split = "meta-test") -> Tensor:
    """Put what the views have measured together: (own seeds, own tasks, ...) to (seeds or repetitions, tasks, ...)."""
    if experiment.family.view is None:
        return parts[0]
    place = {name: index for index, name in enumerate(experiment.family.names[split])}
    order = [place[name] for view in views(experiment) for name in view.experiment.family.names[split]]
    return torch.cat(list(parts), dim=1)[:, torch.tensor(order).argsort()]
