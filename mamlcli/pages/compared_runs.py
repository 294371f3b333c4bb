"""What a comparison of runs found, as parts of a page."""

from collections.abc import Sequence

from mamlcli.pages.blocks import Block, Cell, Column, Details, Table, Text, Tone
from mamlcli.pages.cells import count, number, seeds_in_words, size, word
from mamlcli.results import ComparedRuns
from mamlcli.rows import PairedRow
from mamlcli.tables.of_results import FIRST_STEPS

_TONES: dict[str | None, Tone] = {"better": "good", "worse": "bad", "diverged": "bad"}


def compared_blocks(result: ComparedRuns) -> list[Block]:
    """Differences to the baseline at the steps that are looked at first, what the runs are and cost, and the rest."""
    query, last = result.query, max(row["inner_steps"] for row in result.results)
    shown = [row for row in result.results if row["inner_steps"] in (*FIRST_STEPS, last)]
    return [
        Text(
            f"Query loss on {count(result.tasks, 'meta-test task')} ({query['points']} points, {query['sampling']}; "
            f"test seed {query['test_seed']}), mean over seeds {seeds_in_words(result.seeds)} and all tasks. A "
            f"difference is the mean less that of {result.baseline} on the same seeds and tasks, so that below zero "
            f"a run is better; low and high are the ends of its 95% interval, {result.interval}."
        ),
        _differences(shown),
        Text(
            f"Equivalent: the 90% interval of the difference lies within {100 * result.margin:g}% of "
            f"{result.baseline}'s mean, which is taken not to matter. Else better or worse, where the 95% interval "
            "lies below or above zero; else inconclusive."
        ),
        *map(Text, result.notes),
        _runs(result),
        Details("Every K and step", [_differences(result.results)]),
    ]


def _differences(rows: Sequence[PairedRow]) -> Table:
    names = ["mean", "±", "median", "diverged", "difference", "low", "high"]
    columns = [Column("K"), Column("steps"), Column("run", is_number=False), *map(Column, names)]
    return Table([*columns, Column("the run is", is_number=False)], [_line(row) for row in rows])


def _line(row: PairedRow) -> list[Cell]:
    is_baseline = row["statement"] is None
    compared = [Cell("", None)] * 3
    if not is_baseline:
        compared = [number(row["difference"]), number(row["low"]), number(row["high"])]
    return [
        *(word(row["shots"]), word(row["inner_steps"]), word(row["run"])),
        *(number(row["mean"]), number(row["ci95"]), number(row["median"]), word(row["num_diverged"])),
        *compared,
        word(row["statement"] or "the baseline", _TONES.get(row["statement"], "plain")),
    ]


def _runs(result: ComparedRuns) -> Table:
    words = ("run", "method", "folder", "seeds")
    columns = [*(Column(name, is_number=False) for name in words), Column("meta-updates")]
    lines = []
    for run in result.runs:
        peak = run["peak_memory_bytes"]
        lines.append(
            [
                *(word(run["run"]), word(run["method"]), word(str(run["path"])), word(seeds_in_words(run["seeds"]))),
                *(word(run["outer_steps"]), number(run["ms_per_step"])),
                Cell("n/a", None) if peak is None else Cell(size(peak), float(peak)),
            ]
        )
    caption = "The runs, and what a meta-update of all seeds costs"
    return Table([*columns, Column("ms per meta-step"), Column("peak memory of a meta-update")], lines, caption)
