"""Which rows are reproduced, on which trainings, and how each is tested."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from mamlcli.config.experiment import Config
from mamlcli.config.file import load_published
from mamlcli.config.published import PublishedRow
from mamlcli.config.shipped import shipped_groups, shipped_rows, unknown_group, unknown_row
from mamlcli.errors import UsageError
from mamlcli.meta_test.protocol import tested_config

_FAST_STEPS, _FAST_TASKS = 1000, 50


class Planned(NamedTuple):
    """A row that is to be reproduced."""

    row: PublishedRow
    trained: Config
    """The experiment, for the seeds that are wanted."""
    tested: Config
    """The same under the settings that it is tested by."""
    run: str
    """By whose name the training goes: rows that differ only in how they are tested share one."""


def load_rows(names: Sequence[str], groups: Sequence[str] = ()) -> dict[str, PublishedRow]:
    """Read rows by name or by the path of their file, and those of groups; all that there are for neither.

    Raises:
        UsageError: If a name or a group is unknown.
        ConfigError: If a file is wrong.
    """
    files = {Path(name).stem: Path(name) for name in names if name.endswith((".yaml", ".yml"))}
    known = shipped_rows() if groups or len(files) < max(1, len(names)) else {}
    for name in names or ([] if groups else known):
        if name in known:
            files[name] = known[name]
        elif Path(name) not in files.values():
            raise UsageError(f"no row is named {name!r}", unknown_row(name))
    for group in groups:
        if group not in shipped_groups():
            raise UsageError(f"no group is named {group!r}", unknown_group(group))
        files |= {name: known[name] for name in shipped_groups()[group] if name not in files}
    return {name: load_published(path) for name, path in files.items()}


def planned(rows: Mapping[str, PublishedRow], seeds: tuple[int, ...], *, fast: bool) -> dict[str, Planned]:
    """Say of each row what is trained and how it is tested.

    Raises:
        UsageError: If a row is tested by what cannot differ from its training.
    """
    plans: dict[str, Planned] = {}
    for name, row in rows.items():
        config = _config(row.config, seeds, fast=fast)
        same = (other for other, plan in plans.items() if _is_same(plan, row, config))
        tested = tested_config(config, row.tested) if row.tested else config
        plans[name] = Planned(row, config, tested, next(same, name))
    return plans


def trainings(plans: Mapping[str, Planned]) -> dict[str, Config]:
    """What is to be trained, by name."""
    return {name: plan.trained for name, plan in plans.items() if is_trained(plan.row) and plan.run == name}


def is_trained(row: PublishedRow) -> bool:
    """Whether a row is of a training."""
    return row.start == "trained"


def unlike(one: Planned, other: Planned) -> bool:
    """Whether two rows are tested on other tasks, or other samples of them, so that nothing can be paired."""
    return _tested_on(one.tested) != _tested_on(other.tested)


def _tested_on(config: Config) -> tuple[object, ...]:
    evaluation = config.evaluation
    tasks = config.tasks.model_dump(exclude={"support_shots", "query_shots"})
    return tasks, evaluation.tasks, evaluation.query_shots, evaluation.grid, evaluation.seed, config.seeds


def _is_same(plan: Planned, row: PublishedRow, config: Config) -> bool:
    """Whether a training serves another row too."""
    own = plan.trained.model_copy(update={"name": config.name})
    return is_trained(plan.row) and is_trained(row) and own == config


def _config(config: Config, seeds: tuple[int, ...], *, fast: bool) -> Config:
    """A row's experiment for these seeds, on one thread each, since rows train side by side."""
    engine = config.engine.model_copy(update={"threads": 1})
    config = config.model_copy(update={"seeds": seeds, "engine": engine})
    if not fast:
        return config
    outer = config.outer.model_copy(update={"steps": min(_FAST_STEPS, config.outer.steps)})
    evaluation = config.evaluation.model_copy(update={"tasks": min(_FAST_TASKS, config.evaluation.tasks)})
    return config.model_copy(update={"outer": outer, "evaluation": evaluation})
