"""What a sweep found, as parts of a page."""

from mamlcli.config.axes import shown
from mamlcli.pages.blocks import Block, Cell, Column, Table, Text, Tone
from mamlcli.pages.cells import count, number, with_interval, word
from mamlcli.results import Sweep
from mamlcli.rows import SweptRow

# Members of a table; sweep.csv has them all.
_MOST_ROWS = 200


def sweep_blocks(result: Sweep) -> list[Block]:
    """The members in their order, and what the winner scores on tasks that had no part in the choice."""
    blocks: list[Block] = [
        Text(
            f"Query loss on {count(result.tasks, 'meta-validation task')} ({result.adaptation()}), mean over "
            f"{count(len(result.seeds), 'seed')}; ± is its 95% interval {result.interval}. Behind is the paired "
            "difference from the winner, on the same seeds and tasks."
        ),
        _members(result),
    ]
    if len(result.results) > _MOST_ROWS:
        blocks.append(Text(f"{len(result.results) - _MOST_ROWS:,} more members are in sweep.csv."))
    blocks += map(Text, result.notes)
    if result.winner_test:
        blocks.append(_test(result))
    return blocks


def _members(result: Sweep) -> Table:
    keys = [axis["key"] for axis in result.axes]
    columns = [Column("rank"), *(Column(key, is_number=False) for key in keys), Column("loss"), Column("behind")]
    columns += [Column("beside the winner", is_number=False), Column("training", is_number=False)]
    lines = [
        [
            word(row["rank"]),
            *(word(value if isinstance(value, int | float) else shown(value)) for value in row["values"].values()),
            with_interval(row["mean"], row["ci95"]),
            with_interval(row["difference"], row["difference_ci95"]),
            _statement(row),
            _training(row),
        ]
        for row in result.results[:_MOST_ROWS]
    ]
    return Table(columns, lines)


def _statement(row: SweptRow) -> Cell:
    if row["rank"] == 1:
        return Cell("the winner", tone="good")
    said = row["statement"]
    tone: Tone = "bad" if said == "worse" else "plain"
    return Cell("n/a", None) if said is None else Cell("not told apart" if said == "inconclusive" else said, tone=tone)


def _training(row: SweptRow) -> Cell:
    if row["num_diverged_seeds"]:
        return Cell(f"{count(row['num_diverged_seeds'], 'seed')} diverged", tone="bad")
    return Cell(row["status"], tone="plain" if row["status"] == "done" else "bad")


def _test(result: Sweep) -> Table:
    columns = [Column("K"), Column("steps"), Column("mean"), Column("median"), Column("diverged tasks")]
    lines = [
        [
            *(word(row["shots"]), word(row["inner_steps"]), with_interval(row["mean"], row["ci95"])),
            *(number(row["median"]), word(row["num_diverged"])),
        ]
        for row in result.winner_test
    ]
    caption = f"The winner, {result.winner}, on {count(result.test_tasks, 'meta-test task')}"
    return Table(columns, lines, f"{caption}, which had no part in the choice")
