"""What `maml runs ls` prints: a line for each run, in as many columns as the terminal has."""

from collections.abc import Sequence
from pathlib import Path
from shutil import get_terminal_size
from typing import TYPE_CHECKING

from mamlcli.cli.tables import format_table, wrapped
from mamlcli.escaping import visible
from mamlcli.plain import Row

if TYPE_CHECKING:
    from mamlcli.results import RunList
    from mamlcli.rows import RunRow

_NARROWEST = 80
_LEFT = ("run", "method", "status", "seeds", "loss")
# Of one value in all rows, these stand above the table.
_SHARED = ("method", "seeds")
# What is no training, in a word.
_KINDS = {"compare-orders": "comparison", "compare": "comparison", "reproduce": "reproduction", "sweep": "sweep"}
# What gives way where the terminal is narrow, in this order, and how many letters stay.
_GIVES_WAY = (("method", 9), ("run", 20), ("seeds", 5))


def run_list_report(result: "RunList", shots: int | None, inner_steps: int | None) -> str:
    """Say which runs there are.

    Args:
        result: What was found.
        shots: K that was asked for.
        inner_steps: Steps that were asked for.
    """
    if not result.total:
        return f"no runs in {result.root}/; train one: maml train quickstart"
    rows = result.runs
    many = f"{result.total:,} run{'s' * (result.total != 1)} in {result.root}/"
    if not rows:
        return many
    table, shared = _table(rows, result.root, max(_NARROWEST, get_terminal_size((_NARROWEST, 24)).columns))
    lines = [many + "".join(f"; {one}" for one in shared)]
    if any(row["loss"] is not None for row in rows):
        lines.append(_loss_in_words(rows, shots, inner_steps))
    lines += ["", table]
    notes = _notes(rows, result.total - len(rows))
    return "\n".join([*lines, *([""] if notes else []), *notes])


def _table(rows: "Sequence[RunRow]", root: Path, width: int) -> tuple[str, list[str]]:
    """The rows in as many columns as fit, and in words what is the same in all of them."""
    cells = [_cells(row, root) for row in rows]
    if len({row["shots"] for row in rows if row["shots"] is not None}) > 1:
        cells = [_with_shots(cell, row) for cell, row in zip(cells, rows, strict=True)]
    shared = []
    for name in _SHARED:
        values = {cell[name] for cell in cells if cell[name]}
        if len(values) == 1 and len(cells) > 1:
            cells = [{key: cell[key] for key in cell if key != name} for cell in cells]
            shared.append(f"all {values.pop()}" if name == "method" else f"seeds {values.pop()}")
    if _width(cells) > width and "method" in cells[0]:
        cells = [cell | {"method": _abbreviated(cell["method"])} for cell in cells]
    for name, least in _GIVES_WAY:
        over = _width(cells) - width
        if over > 0 and name in cells[0]:
            most = max(least, max(len(cell[name]) for cell in cells) - over)
            cells = [cell | {name: _shortened(cell[name], most)} for cell in cells]
    return format_table(cells, left=_LEFT), shared


def _cells(row: "RunRow", root: Path) -> Row:
    path = Path(row["run"])
    inside = path.relative_to(root) if path.is_relative_to(root) and path != root else path
    return {
        "run": visible(str(inside)),
        "method": visible(_KINDS.get(row["kind"] or "", row["method"] or "")),
        "status": row["status"],
        "seeds": _seeds(row["seeds"]),
        "steps": _steps(row),
        "loss": _loss(row),
    }


def _abbreviated(method: str) -> str:
    """The name first, which tells methods apart where the rest is cut.

    >>> _abbreviated("second-order MAML")
    'MAML, 2nd'
    """
    order, _, name = method.partition("-order ")
    return f"{name}, {'1st' if order == 'first' else '2nd'}" if name else method


def _with_shots(cell: Row, row: "RunRow") -> Row:
    """Put K before the loss, where it is not the same in all rows."""
    shots = "" if row["shots"] is None else str(row["shots"])
    return {key: value for key, value in cell.items() if key != "loss"} | {"K": shots, "loss": cell["loss"]}


def _seeds(seeds: Sequence[int]) -> str:
    """Seeds as they are typed: 0-4 or 0,3,7.

    >>> _seeds([0, 1, 2, 7])
    '0-2,7'
    """
    parts: list[list[int]] = []
    for seed in seeds:
        if parts and seed == parts[-1][-1] + 1:
            parts[-1].append(seed)
        else:
            parts.append([seed])
    return ",".join(f"{one[0]}-{one[-1]}" if len(one) > 1 else str(one[0]) for one in parts)


def _steps(row: "RunRow") -> str:
    made, most = row["outer_steps"], row["steps"]
    if made is None:
        return ""
    return str(made) if most in (None, made) else f"{made}/{most}"


def _loss(row: "RunRow") -> str:
    """The loss with three digits; a star where the run has gone on since."""
    if row["kind"] != "train":
        return ""
    if row["evaluated_at_step"] is None and row["shots"] is None:
        return "not evaluated"
    if row["shots"] is None:
        return "not measured"
    shown = short(row["loss"]) + (f" ± {short(row['ci95'])}" if row["ci95"] is not None else "")
    return shown + ("*" if _is_behind(row) else "")


def short(value: float | None) -> str:
    """A loss to three digits.

    >>> [short(value) for value in (0.123456, 0.05, 4.2517, 123.4, 1e9, None)]
    ['0.123', '0.050', '4.25', '123', '1e+09', 'n/a']
    """
    if value is None:
        return "n/a"
    if 0 < value < 1e-3 or value >= 1e5:
        return f"{value:.0e}"
    return f"{value:.3f}" if value < 1 else f"{value:.2f}" if value < 100 else f"{value:.0f}"


def _is_behind(row: "RunRow") -> bool:
    return None not in (row["evaluated_at_step"], row["outer_steps"]) and row["evaluated_at_step"] != row["outer_steps"]


def _loss_in_words(rows: "Sequence[RunRow]", shots: int | None, inner_steps: int | None) -> str:
    known = {row["shots"] for row in rows if row["shots"] is not None}
    which = f"K = {shots or next(iter(known))}" if len(known) == 1 else "the largest K up to 10"
    times = {row["inner_steps"] for row in rows if row["inner_steps"] is not None}
    if inner_steps is None and len(times) > 1:
        after = "the inner steps of meta-training"
    else:
        steps = inner_steps if inner_steps is not None else next(iter(times))
        after = f"{steps} inner step{'s' * (steps != 1)}"
    return f"loss: query loss at {which} after {after}, ± its 95% interval"


def _notes(rows: "Sequence[RunRow]", left_out: int) -> list[str]:
    lines = [line for row in rows if row["problem"] for line in wrapped(f"{row['run']}: {row['problem']}")]
    if any(_is_behind(row) for row in rows if row["shots"] is not None):
        lines.insert(0, "* evaluated at another step than it is at now")
    return [*lines, f"and {left_out:,} more: --limit 0 lists all"] if left_out else lines


def _width(cells: Sequence[Row]) -> int:
    return sum(max(len(name), *(len(cell[name]) for cell in cells)) + 2 for name in cells[0]) - 2


def _shortened(text: str, most: int) -> str:
    """Keep both ends: they tell more than the middle, of a path and of a method."""
    if len(text) <= most:
        return text
    behind = most // 2
    return f"{text[: most - 1 - behind]}…{text[-behind:]}"
