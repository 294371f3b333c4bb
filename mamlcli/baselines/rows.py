"""The rows that a group of seeds learns from."""

import torch
from torch import Tensor

from mamlcli.groups import Group
from mamlcli.tasks.family import Request
from mamlcli.tasks.samples import Samples, all_samples
from mamlcli.tasks.stream import TaskList


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
