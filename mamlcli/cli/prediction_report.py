"""What `maml predict` prints."""

from typing import TYPE_CHECKING

from mamlcli.cli.tables import WIDTH, format_cell, format_table, located, wrapped
from mamlcli.escaping import shorten
from mamlcli.types import Row

if TYPE_CHECKING:
    from mamlcli.results import PredictResult

_SHOWN_ROWS, _LONGEST_NAME = 20, 20


def predict_report(result: "PredictResult") -> str:
    """Say what was adapted and predicted, and where it is; without a file, the first rows in 80 columns."""
    seeds, steps = len(result.seeds), result.inner_steps
    rows, tasks = result.query["rows"], result.tasks
    lines = [
        *wrapped(
            f"{rows} prediction{'s' * (rows > 1)} for {tasks} task{'s' * (tasks > 1)}: "
            f"{seeds} seed{'s' * (seeds > 1)}, {steps} inner step{'s' * (steps != 1)}; {_parameters(result)}"
        )
    ]
    if result.predictions is not None:
        lines += ["", *_table(result)]
    if result.out or result.figure:
        lines.append("")
    if result.out:
        lines.append(located("predictions", result.out))
    if result.figure:
        lines.append(located("figure", result.figure))
    return "\n".join(lines)


def _parameters(result: "PredictResult") -> str:
    """Say with which parameters it was predicted."""
    from mamlcli.meta_test.protocol import steps_in_words

    if result.parameters == "best":
        return f"least meta-validation loss: {steps_in_words(result.parameter_steps)}"
    return f"checkpoint at step {result.outer_steps}"


def _table(result: "PredictResult") -> list[str]:
    """The first rows, in as many columns as fit: seeds are the first to be left out."""
    assert result.predictions is not None
    rows = [_row(result, index) for index in range(min(_SHOWN_ROWS, len(result.predictions)))]
    names = _fitting(rows)
    left_out, more = len(rows[0]) - len(names), len(result.predictions) - len(rows)
    table = format_table([{name: row[name] for name in names} for row in rows], left=names[:1])
    said = [f"{more} more row{'s' * (more > 1)}"] if more else []
    said += [f"{left_out} more column{'s' * (left_out > 1)}"] if left_out else []
    return [table, *([f"and {', '.join(said)}: --out FILE writes all, --json prints them"] if said else [])]


def _row(result: "PredictResult", index: int) -> Row:
    assert result.predictions is not None
    row = result.predictions[index]
    cells: Row = {}
    by_seed: Row = {}
    if row["task"]:
        cells[result.task_column] = shorten(row["task"], _LONGEST_NAME)
    cells |= row["inputs"]
    for target, said in row["targets"].items():
        cells[target] = said["mean"]
        if len(result.seeds) > 1:
            cells[f"{target}_sd"] = said["sd"]
            seeds = zip(result.seeds, said["per_seed"], strict=True)
            by_seed |= {f"{target}_seed{seed}": value for seed, value in seeds}
    return cells | by_seed


def _fitting(rows: list[Row]) -> list[str]:
    """The first columns that fit into 80 letters, one at the least."""
    names, width = list(rows[0]), 0
    for count, name in enumerate(names):
        width += max(len(name), *(len(format_cell(row[name])) for row in rows)) + 2 * (count > 0)
        if width > WIDTH and count:
            return names[:count]
    return names
