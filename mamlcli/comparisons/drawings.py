"""The figures of a comparison: adaptation curves, and paired differences."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from mamlcli.drawing import save_or_warn
from mamlcli.figures.drawing import Drawing
from mamlcli.interrupts import StopRequest
from mamlcli.plain import AnyRow, Row
from mamlcli.reporting import Reporter
from mamlcli.results import ComparedRuns
from mamlcli.rows import ComparisonRow
from mamlcli.runs.folder import RunFolder


def save_figures(
    folder: RunFolder, figures: Mapping[str, Drawing | Callable[[], Drawing]], stop: StopRequest, reporter: Reporter
) -> list[Path]:
    """Draw and write figures, by the stem of their files; one that cannot be drawn is said.

    Raises:
        InterruptedRunError: If a signal asked to stop.
    """
    saved = []
    for stem, drawing in figures.items():
        stop.raise_if_asked(f"interrupted before all figures were drawn; the tables are in {folder.path}")
        saved.append(save_or_warn(folder, stem, drawing, reporter))
    return [path for path in saved if path]


def drawings_of(result: ComparedRuns) -> dict[str, Drawing]:
    """The figures of a comparison of runs, by the stem of their files."""
    methods = {run["run"]: run["method"] for run in result.runs}
    seeds = f"{len(result.seeds)} seed{'s' * (len(result.seeds) > 1)}"
    tested = f"{seeds}, {result.tasks} meta-test tasks"
    expected = {
        (row["shots"], row["inner_steps"]): row["mean"] for row in result.results if row["run"] == result.baseline
    }
    columns = ("run", "shots", "inner_steps", "mean", "ci95", "median")
    rows: Sequence[AnyRow] = result.results
    curves: list[Row] = [{name: row[name] for name in columns} for row in rows]
    differences: list[Row] = [
        _difference(row, row["run"], expected[row["shots"], row["inner_steps"]])
        for row in result.results
        if row["run"] != result.baseline
    ]
    labels = {"methods": methods, "interval": result.interval}
    return {
        "adaptation": Drawing("compared-adaptation", curves, {"title": f"Adaptation: {tested}", **labels}),
        "differences": differences_drawing(
            f"Difference to {result.baseline}: {tested}",
            differences,
            result.baseline,
            methods,
            result.interval,
            margin=result.margin,
        ),
    }


def orders_drawing(title: str, rows: Sequence[ComparisonRow], methods: Mapping[str, str], interval: str) -> Drawing:
    """The paired differences of both orders: first less second, in parts of second order's loss.

    Args:
        title: Of the figure.
        rows: Of the comparison.
        methods: The titles of "first order" and "second order".
        interval: Over what the intervals are.
    """
    first, second = methods
    return differences_drawing(
        title, [_difference(row, first, row["second"]) for row in rows], second, methods, interval
    )


def differences_drawing(
    title: str,
    rows: Sequence[AnyRow],
    baseline: str,
    methods: Mapping[str, str],
    interval: str,
    *,
    margin: float | None = None,
) -> Drawing:
    """What draws paired differences; see `mamlcli.figures.comparisons.differences_figure`."""
    labels = {"title": title, "baseline": baseline, "methods": dict(methods), "interval": interval, "margin": margin}
    return Drawing("differences", rows, labels)


def _difference(row: AnyRow, run: str, reference: float | None) -> Row:
    columns = ("shots", "inner_steps", "difference", "low", "high")
    return {"run": run, **{name: row[name] for name in columns}, "reference": reference}
