"""Tasks from a file of a user's own: rows of numbers, each with the name of the task that it belongs to.

A finite world: every task stands in one of three splits, by its name and never by its rows. Loads no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, WrapValidator, model_validator

from mamlcli.section import FilePath, Section, TasksSection, list_to_tuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mamlcli.tasks.family import TaskFamily
    from mamlcli.tasks.worlds import Worlds


class Fractions(Section):
    """How many of the tasks each split gets, as parts of one; which ones is chosen by a hash of their names."""

    meta_train: Annotated[float, Field(gt=0, lt=1)] = 0.6
    """Tasks to learn from."""
    meta_validation: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Tasks by which the best parameters are chosen."""
    meta_test: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Tasks that results are measured on."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        total = self.meta_train + self.meta_validation + self.meta_test
        if abs(total - 1) > 1e-6:
            raise ValueError(f"the three parts must add up to 1, got {total:g}")
        return self


class Folds(Section):
    """Every task is left out once: the seed s tests on fold s mod `folds`, and is validated on the one after it."""

    folds: Annotated[int, Field(ge=3, le=1000)]
    """Parts of about equal size that the tasks are cut into, by a hash of their names."""


def _split_of(value: Any, _: Callable[[Any], Any]) -> Fractions | Folds | str:
    """Choose the kind of split by what stands there."""
    if isinstance(value, Fractions | Folds):
        return value
    if isinstance(value, dict):
        return Folds.model_validate(value) if "folds" in value else Fractions.model_validate(value)
    if isinstance(value, str) and value:
        return value
    raise ValueError(
        "must be parts like {meta_train: 0.6, meta_validation: 0.2, meta_test: 0.2}, or {folds: 5}, or "
        "the name of a column"
    )


def _different(names: tuple[str, ...]) -> tuple[str, ...]:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"must name each column once, got {', '.join(twice)} again")
    return names


def _one_or_more(value: Any) -> Any:
    return (value,) if isinstance(value, str) else list_to_tuple(value)


ColumnName = Annotated[str, Field(min_length=1, max_length=200)]
ColumnNames = Annotated[
    tuple[ColumnName, ...],
    AfterValidator(_different),
    Field(min_length=1, max_length=1000),
    BeforeValidator(_one_or_more, json_schema_input_type=ColumnName | tuple[ColumnName, ...]),
]


class TableTasks(TasksSection):
    """Tasks from a file: each row is a sample of the task that it names."""

    place_keys: ClassVar[tuple[str, ...]] = ("path",)

    family: Literal["table"] = "table"
    """The task family."""
    path: FilePath
    """The file: CSV (also .csv.gz), or Parquet with its extra; relative to the config."""
    task: ColumnName
    """The column that names the task of a row."""
    inputs: ColumnNames
    """The columns of numbers that a model sees, one or more."""
    target: ColumnNames
    """The column that it predicts, or several."""
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] = ","
    """What stands between two fields of a CSV file."""
    split: Annotated[Fractions | Folds | str, WrapValidator(_split_of)] = Fractions()
    """Which tasks are learned from, validated on and tested on: parts of one like `{meta_train: 0.6, meta_validation:
    0.2, meta_test: 0.2}`; `{folds: 5}`, where seed s leaves out fold s mod 5; or a column that says `meta-train`,
    `meta-validation` or `meta-test`, the same in all rows of a task."""
    scale: Literal["standard", "none"] = "standard"
    """`standard` takes the mean from every column and divides by its standard deviation, both of the meta-train tasks
    alone; results are in the file's units all the same."""
    support: Literal["random", "first"] = "random"
    """Which rows of a task are its support set: random ones, or the first along the first input, for extrapolation."""
    min_rows: Literal["refuse", "drop"] = "refuse"
    """What happens to tasks of too few rows, which need one more than `support_shots`: `drop` leaves them out, and says
    how many."""
    duplicates: Literal["refuse", "keep"] = "refuse"
    """What happens if a row stands there twice, with its task and all of its numbers."""

    @model_validator(mode="after")
    def _columns_differ(self) -> Self:
        _different((self.task, *self.inputs, *self.target))
        return self

    def defaults(self) -> dict[str, Any]:
        """Tested as it is trained, and by the best parameters; with folds, each is left out by a seed."""
        chosen: dict[str, Any] = {
            "evaluation.shots": (self.support_shots,),
            "evaluation.every_steps": 100,
            "run.keep": "best",
        }
        if self.scale == "none":  # any error may be a small one
            chosen["evaluation.diverged_above"] = 1e38
        if isinstance(self.split, Folds):
            chosen["seeds"] = tuple(range(self.split.folds))
        return chosen

    def misfit(self, seeds: tuple[int, ...]) -> str | None:
        """Every fold needs a seed that leaves it out."""
        if not isinstance(self.split, Folds):
            return None
        folds = self.split.folds
        counts = [sum(seed % folds == fold for seed in seeds) for fold in range(folds)]
        if min(counts) == max(counts):
            return None
        return (
            f"seed s leaves out fold s mod {folds}, and each of the {folds} folds needs as many seeds: set seeds: "
            f"{list(range(folds))}, or 0 to {2 * folds - 1} for two repetitions"
        )


def read_worlds(config: TableTasks) -> Worlds:
    """Read the file, and make what the family is built from.

    Raises:
        ConfigError: If anything in the file is wrong; all problems at once.
    """
    from pathlib import Path

    from mamlcli.errors import ConfigError
    from mamlcli.escaping import visible
    from mamlcli.tabular import read_table
    from mamlcli.tasks.table_family import worlds_of

    label = config.split if isinstance(config.split, str) else None
    numbers, path = (*config.inputs, *config.target), Path(config.path)
    if not path.exists():
        raise ConfigError([f"{visible(str(path))}: there is no such file; tasks.path says where it is"])
    return worlds_of(config, read_table(path, numbers, task=config.task, label=label, delimiter=config.delimiter))


def table(config: TableTasks, worlds: Worlds) -> TaskFamily:
    """Build the family."""
    from mamlcli.tasks.table_family import table_family

    return table_family(config, worlds)


def recall_table(config: TableTasks, record: Mapping[str, Any]) -> TaskFamily:
    """Build the family without its tasks, from what a checkpoint kept of them."""
    from mamlcli.tasks.table_family import recalled

    return recalled(config, record)
