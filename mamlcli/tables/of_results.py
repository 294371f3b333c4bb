"""The rows of each result that a reader looks at, with the names that they have in its files."""

from collections.abc import Iterable, Sequence

from mamlcli.plain import AnyRow, Row
from mamlcli.rows import (
    CheckRow,
    ComparisonRow,
    EvalRow,
    MetricsRow,
    PairedRow,
    PredictionRow,
    ReproducedNumber,
    SweptRow,
    UnitRow,
)
from mamlcli.tables.table import Table

FIRST_STEPS = (0, 1, 2, 5, 10)
"""Inner steps that are looked at first."""


def chosen_columns(rows: Iterable[AnyRow], *columns: str) -> Table:
    """A table of those of the columns that there are."""
    return Table({column: row[column] for column in columns if column in row} for row in rows)


def metrics_table(rows: Sequence[MetricsRow]) -> Table:
    """Seeds at logged steps: their losses, and where one has diverged, when."""
    losses = ("pre_adapt_loss", "post_adapt_loss", "meta_loss", "meta_validation_loss")
    diverged = any(row["diverged_at_step"] is not None for row in rows)
    return chosen_columns(rows, "seed", "step", *losses, *(["diverged_at_step"] if diverged else []))


def evaluation_table(rows: Sequence[EvalRow], *, seeds: bool) -> Table:
    """The losses at each K after each number of inner steps: over seeds, or of each."""
    several = len({row["seed"] for row in rows} - {"all"}) > 1
    shown = [row for row in rows if (row["seed"] == "all") == (several and not seeds)]
    seed = ("seed",) if seeds or not several else ()
    where = ("kind", "num_tasks", "model", "shots", "inner_steps", *seed)
    return chosen_columns(shown, *where, "mean", "ci95", "median", "num_diverged")


def few_steps(table: Table) -> Table:
    """Of a table with a row for each number of inner steps, those that are looked at first, and the last."""
    last = max((row["inner_steps"] for row in table), default=0)
    return Table(row for row in table if row["inner_steps"] in (*FIRST_STEPS, last))


def baselines_table(rows: Sequence[UnitRow]) -> Table:
    """The method after its last inner step and each baseline, in the unit of each target."""
    method = rows[0]["who"] if rows else ""
    last = max((row["inner_steps"] or 0 for row in rows if row["who"] == method), default=0)
    # Before its steps, a network that is not meta-learned is a baseline; the method is not.
    shown = [row for row in rows if row["inner_steps"] == last or (row["who"] != method and not row["inner_steps"])]
    return chosen_columns(shown, "target", "shots", "who", "rmse", "rmse_low", "rmse_high", "fraction", "verdict")


def orders_table(rows: Sequence[ComparisonRow]) -> Table:
    """Both orders at each K after each number of inner steps, and the interval of their difference."""
    return chosen_columns(rows, "shots", "inner_steps", "first", "second", "difference", "low", "high")


def compared_table(rows: Sequence[PairedRow]) -> Table:
    """Runs at each K after each number of inner steps, and the interval of each one's difference to the baseline."""
    found = ("mean", "median", "num_diverged", "difference", "low", "high", "statement")
    return chosen_columns(rows, "shots", "inner_steps", "run", *found)


def checks_table(rows: Sequence[CheckRow]) -> Table:
    """What was checked, and how it went."""
    return chosen_columns(rows, "name", "compared_with", "relative_error", "tolerance", "verdict")


def reproduction_table(rows: Sequence[ReproducedNumber]) -> Table:
    """Published numbers beside what was found."""
    found = ("mean", "ci95", "plain_mean", "median", "num_diverged", "verdict")
    return chosen_columns(rows, "row", "shots", "inner_steps", "relation", "published", "margin", *found)


def sweep_table(rows: Sequence[SweptRow]) -> Table:
    """Members of a sweep, the best first, with what they have of each axis."""
    found = ("mean", "ci95", "difference", "difference_ci95", "statement", "status")
    return Table(
        {"rank": row["rank"], **{key: _cell(value) for key, value in row["values"].items()}}
        | {column: row[column] for column in found}  # type: ignore[literal-required]
        for row in rows
    )


def _cell(value: object) -> object:
    """A value of an axis in a cell: a list is a text there."""
    return value if value is None or isinstance(value, str | int | float) else str(value)


def predictions_table(rows: Sequence[PredictionRow], task_column: str, seeds: Sequence[int]) -> Table:
    """Predictions as they stand in a file: task, inputs, and of each target the mean and what each seed says."""
    return Table(_prediction(row, task_column, seeds) for row in rows)


def _prediction(row: PredictionRow, task_column: str, seeds: Sequence[int]) -> Row:
    cells: Row = {task_column: row["task"]} if row["task"] else {}
    cells |= row["inputs"]
    for target, said in row["targets"].items():
        by_seed = zip(seeds, said["per_seed"], strict=True)
        cells |= {target: said["mean"], f"{target}_sd": said["sd"]}
        cells |= {f"{target}_seed{seed}": value for seed, value in by_seed}
    return cells
