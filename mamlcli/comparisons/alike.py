"""What has to be alike for runs to be compared: the meta-test, its tasks, and the seeds."""

import json
from collections.abc import Mapping, Sequence
from typing import NoReturn

import torch
from torch import Tensor

from mamlcli.config.changes import changes
from mamlcli.config.experiment import Config
from mamlcli.config.file import dump_config, parse_config
from mamlcli.errors import Remedy, UsageError
from mamlcli.experiment import Experiment
from mamlcli.groups import groups
from mamlcli.meta_test.measure import meta_test_tasks
from mamlcli.tasks.samples import Task

# Tasks that are looked at: families draw each by its number alone, so that a few tell.
_LOOKED_AT = 3
# Of meta-training.
_TRAINED = ("tasks.support_shots", "tasks.query_shots")


def tested_as(own: Config, like: Config, names: tuple[str, str]) -> Config:
    """How a run is tested where another says it: on its tasks, K, steps and query samples.

    What was trained stays the run's own, and so does how its method adapts.

    Args:
        own: The run's own config.
        like: The other's.
        names: What both are called, for messages.

    Raises:
        UsageError: If they are of different families of tasks.
        ConfigError: If the run cannot be tested so.
    """
    if own.tasks.family != like.tasks.family:
        _refuse(own, like, names)
    shared = {key: getattr(like.tasks, key) for key in own.tasks.test_keys}
    # Along the way a run measured as it measured.
    evaluation = like.evaluation.model_copy(update={"every_steps": own.evaluation.every_steps})
    tasks = own.tasks.model_copy(update=shared)
    tested = own.model_copy(update={"tasks": tasks, "evaluation": evaluation, "device": like.device})
    return parse_config(dump_config(tested), source=f"{names[0]}, tested as {names[1]} is")


def tested_otherwise(own: Config, tested: Config) -> list[str]:
    """The settings of a run's own meta-test that were not kept, as `key=value`."""
    random_points = not (own.evaluation.grid and tested.evaluation.grid)
    return [
        f"{key}={json.dumps(old)}"
        for key, (old, _) in changes(own, tested).items()
        if key.startswith(("tasks.", "evaluation.")) and (random_points or key != "evaluation.query_shots")
    ]


def check_same_tasks(one: Experiment, like: Experiment, names: tuple[str, str]) -> None:
    """Raise UsageError unless both are measured on the same targets at the same inputs.

    One may see inputs more than the other, as an oracle does.
    """
    if one.family.names.get("meta-test") != like.family.names.get("meta-test"):
        _refuse(one.config, like.config, names)
    shots = max(like.config.evaluation.shots)
    for ours, theirs in zip(groups(one), groups(like), strict=True):
        count = min(_LOOKED_AT, ours.experiment.num_test_tasks())
        found, expected = (meta_test_tasks(group.experiment, shots, 0, count) for group in (ours, theirs))
        if not _are_same(found, expected, shots):
            _refuse(one.config, like.config, names)


def _are_same(one: Task, other: Task, shots: int) -> bool:
    columns = min(one.query.x.shape[-1], other.query.x.shape[-1])
    pairs = [
        (one.support.x[:, :shots, :columns], other.support.x[:, :shots, :columns]),
        (one.support.y[:, :shots], other.support.y[:, :shots]),
        (one.query.x[..., :columns], other.query.x[..., :columns]),
        (one.query.y, other.query.y),
    ]
    return all(_are_equal(*pair) for pair in pairs)


def _are_equal(one: Tensor, other: Tensor) -> bool:
    """Whether numbers are the same; a target that is missing is so in both."""
    return one.shape == other.shape and torch.allclose(one, other, rtol=0, atol=0, equal_nan=True)


def _refuse(own: Config, like: Config, names: tuple[str, str]) -> NoReturn:
    name, other = names
    found = {key: values for key, values in changes(like, own).items() if key.startswith("tasks.")}
    if "tasks.family" in found:
        found = {"tasks.family": found["tasks.family"]}
    lines = [f"  {key}: {was} in {other}, {now} in {name}" for key, (was, now) in found.items() if key not in _TRAINED]
    said = f"{name} and {other} are of different tasks, and what differs cannot be changed after training"
    raise UsageError("\n".join([f"{said}:", *lines]) if lines else said)


def common_seeds(configs: Mapping[str, Config], baseline: str) -> tuple[int, ...]:
    """The seeds that all runs have, in the order of the baseline's.

    Raises:
        UsageError: If there are none.
    """
    common = tuple(seed for seed in configs[baseline].seeds if all(seed in one.seeds for one in configs.values()))
    if not common:
        lines = [f"  {name}: {_listed(one.seeds)}" for name, one in configs.items()]
        wanted = ",".join(map(str, configs[baseline].seeds))
        raise UsageError(
            "\n".join(["no seed is common to all runs, so that nothing can be paired:", *lines]),
            Remedy(
                f"train one of them with the seeds of {baseline}: {list(configs[baseline].seeds)}",
                f"train one of them with the seeds of {baseline}: --seeds {wanted}",
            ),
        )
    return common


def _listed(seeds: Sequence[int]) -> str:
    return ", ".join(map(str, seeds[:20])) + ", ..." * (len(seeds) > 20)
