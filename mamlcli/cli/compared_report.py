"""What `maml compare` prints."""

from collections import Counter
from typing import TYPE_CHECKING

from mamlcli.cli.tables import SHOWN_STEPS, format_bytes, format_cell, format_table, located, wrapped
from mamlcli.types import AnyRow, Row

if TYPE_CHECKING:
    from mamlcli.results import ComparedRuns

# With more runs than this, a table of every step is too long to be read.
_FEW_RUNS = 3
# Inner steps that are shown of many runs, and the last.
_OF_MANY = (0, 1)


def compared_report(result: "ComparedRuns") -> str:
    """Say how each run does against the baseline, at each K, and what it costs."""
    query, seeds = result.query, len(result.seeds)
    parts = [
        *wrapped(
            f"query loss on {result.tasks} meta-test tasks ({query['points']} points, {query['sampling']}; test seed "
            f"{query['test_seed']}), mean and median over {seeds} seed{'s' * (seeds > 1)} and tasks; difference: less "
            f"that of {result.baseline} on the same seeds and tasks, ± its 95% interval, {result.interval}"
        ),
    ]
    for shots in dict.fromkeys(row["shots"] for row in result.results):
        parts += ["", f"K = {shots}", _table(result, shots)]
    parts += ["", *_summary(result), *wrapped(_rule(result))]
    parts += ["", "time and memory of a meta-update, and tasks that diverged over all K and steps:", _costs(result)]
    parts += [""] * bool(result.notes) + [line for note in result.notes for line in wrapped(note)]
    parts += ["", located("comparison", result.run / "comparison.json")]
    return "\n".join([*parts, *(located("figure", figure) for figure in result.figures)])


def _table(result: "ComparedRuns", shots: int) -> str:
    """All runs after the steps that are shown, at one K."""
    last = max(row["inner_steps"] for row in result.results)
    shown = {*(SHOWN_STEPS if len(result.runs) <= _FEW_RUNS else _OF_MANY), last}
    rows = [row for row in result.results if row["shots"] == shots and row["inner_steps"] in shown]
    return format_table([_cells(row) for row in rows], left=("run", "verdict"))


def _cells(row: AnyRow) -> Row:
    """A line; the number of steps stands with the baseline, which comes first."""
    is_baseline = row["statement"] is None
    return {
        "steps": str(row["inner_steps"]) if is_baseline else "",
        "run": row["run"],
        "mean": row["mean"],
        "median": row["median"],
        "difference": "" if is_baseline else _difference(row),
        "verdict": row["statement"] or "",
    }


def _difference(row: AnyRow) -> str:
    if row["difference"] is None or row["high"] is None:
        return format_cell(row["difference"])
    sign = "-" if row["difference"] < 0 else "+"
    return f"{sign}{format_cell(abs(row['difference']))} ± {format_cell(row['high'] - row['difference'])}"


def _summary(result: "ComparedRuns") -> list[str]:
    """How often each run is what, over every K and step."""
    lines = []
    for run in result.runs:
        found = Counter(row["statement"] for row in result.results if row["run"] == run["run"])
        if run["run"] != result.baseline:
            said = ", ".join(f"{word} at {count}" for word, count in found.most_common())
            lines += wrapped(f"of {found.total()} pairs of K and step, {run['run']} is {said}")
    return lines


def _costs(result: "ComparedRuns") -> str:
    rows: list[Row] = [
        {
            "run": run["run"],
            "method": run["method"],
            "seeds": len(run["seeds"]),
            "ms": run["ms_per_step"],
            "peak memory": "n/a" if run["peak_memory_bytes"] is None else format_bytes(run["peak_memory_bytes"]),
            "diverged": sum(row["num_diverged"] for row in result.results if row["run"] == run["run"]),
        }
        for run in result.runs
    ]
    if all(row["run"] == row["method"] for row in rows):
        rows = [{name: row[name] for name in row if name != "method"} for row in rows]
    return format_table(rows, left=("run", "method"))


def _rule(result: "ComparedRuns") -> str:
    """What the verdicts mean."""
    margin = f"{100 * result.margin:g}% of {result.baseline}'s mean"
    return (
        f"equivalent: the 90% interval of the difference lies within {margin}, which is taken not to matter "
        "(--margin); else better or worse, where the 95% interval lies below or above zero; else inconclusive"
    )
