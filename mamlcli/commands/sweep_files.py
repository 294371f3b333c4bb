"""What a sweep writes beside the runs of its members: the table, the figure, and the config that is picked."""

import math
from collections.abc import Sequence
from pathlib import Path

from mamlcli.config.axes import Member, shown
from mamlcli.config.experiment import Config
from mamlcli.config.file import dump_config
from mamlcli.drawing import save_or_warn
from mamlcli.figures.drawing import Drawing
from mamlcli.reporting import Reporter
from mamlcli.results import Sweep
from mamlcli.runs.files import csv_text, json_text
from mamlcli.runs.folder import RunFolder
from mamlcli.types import Row


def write_picked(pick: str | None, result: Sweep, members: Sequence[Member], folder: RunFolder) -> Path | None:
    """Write the config of a member; None where none is asked for, or there is no best."""
    name = result.winner if pick == "best" else pick
    if pick is None or name is None:
        return None
    config = next(member.config for member in members if member.name == name)
    return folder.write_text(f"{pick}.yaml", dump_config(config))


def write_tables(folder: RunFolder, result: Sweep) -> None:
    """Write what was found, whole as JSON and a row for each member as CSV."""
    folder.write_text("sweep.json", json_text(result.as_json(without=("figures",))))
    folder.write_text("sweep.csv", csv_text(_table(result)))


def _table(result: Sweep) -> list[Row]:
    """The rows as a file of columns has them: values of axes in columns of their own."""
    return [
        {"rank": row["rank"], "member": row["member"]}
        | {key: shown(value) for key, value in row["values"].items()}
        | {key: value for key, value in row.items() if key not in ("rank", "member", "values")}
        for row in result.results
    ]


def draw_sweep(folder: RunFolder, config: Config, result: Sweep, reporter: Reporter) -> list[Path]:
    """Draw the loss over the axes."""
    keys = [axis["key"] for axis in result.axes]
    rows: list[Row] = [
        {key: shown(row["values"][key]) for key in keys}
        | {"mean": row["mean"], "ci95": row["ci95"], "rank": row["rank"], "status": row["status"]}
        for row in result.results
    ]
    seeds = f"{len(config.seeds)} seed{'s' * (len(config.seeds) > 1)}"
    labels = {
        "title": f"{config.name}: {len(rows)} members, {seeds}, {result.tasks} meta-validation tasks",
        "axes": {axis["key"]: [shown(value) for value in axis["values"]] for axis in result.axes},
        "interval": result.interval,
        "is_grid": math.prod(len(axis["values"]) for axis in result.axes) == len(rows),
    }
    if not any(row["mean"] is not None for row in rows):
        return []
    path = save_or_warn(folder, "sweep", Drawing("sweep", rows, labels), reporter)
    return [path] if path else []
