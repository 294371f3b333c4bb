"""What a comparison of both orders found, as parts of a page."""

from collections.abc import Sequence

from mamlcli.meta_test.protocol import steps_in_words
from mamlcli.pages.blocks import Block, Cell, Column, Table, Text
from mamlcli.pages.cells import count, number, size, word
from mamlcli.results import Comparison
from mamlcli.rows import ComparisonRow


def comparison_blocks(result: Comparison) -> list[Block]:
    """Differences of the losses, what each order costs, and how the directions agree."""
    query = result.query
    blocks: list[Block] = [
        Text(
            f"Query loss on {count(result.tasks, 'meta-test task')} ({query['points']} points, {query['sampling']}), "
            "first order minus second order on the same tasks and seeds. Where the difference is positive, second "
            f"order is better; low and high are the ends of the {result.interval}."
        ),
        _differences(result.results),
        _costs(result),
    ]
    cosines = [row["cosine"] for row in result.cosines if row["cosine"] is not None]
    if cosines:
        tenth = max(1, len(cosines) // 10)
        early, late = sum(cosines[:tenth]) / tenth, sum(cosines[-tenth:]) / tenth
        blocks.append(
            Text(
                f"The cosine of both meta-gradients is {early:.4f} in the first tenth of training and {late:.4f} in "
                "the last."
            )
        )
    if result.parameters == "best":
        blocks += [
            Text(f"{order} order, least meta-validation loss: {steps_in_words(steps)}")
            for order, steps in result.parameter_steps.items()
        ]
    return [*blocks, *map(Text, result.notes)]


def _differences(rows: Sequence[ComparisonRow]) -> Table:
    names = ["K", "steps", "first order", "second order", "difference", "low", "high"]
    lines = [
        [
            *(word(row["shots"]), word(row["inner_steps"]), number(row["first"]), number(row["second"])),
            *(number(row["difference"]), number(row["low"]), number(row["high"])),
            _verdict(row),
        ]
        for row in rows
    ]
    return Table([*map(Column, names), Column("second order is", is_number=False)], lines)


def _verdict(row: ComparisonRow) -> Cell:
    """What the interval of the difference says."""
    low, high = row["low"], row["high"]
    if low is None or high is None:
        return Cell("n/a", None)
    if low > 0:
        return Cell("better", tone="good")
    return Cell("worse", tone="bad") if high < 0 else Cell("not told apart")


def _costs(result: Comparison) -> Table:
    columns = [Column("order", is_number=False), Column("ms per meta-step"), Column("peak memory of a meta-update")]
    lines = [
        [
            word(order),
            number(cost["ms_per_step"]),
            Cell(size(cost["peak_memory_bytes"]), float(cost["peak_memory_bytes"])),
        ]
        for order, cost in result.cost.items()
    ]
    return Table(columns, lines, "Cost, measured side by side")
