"""The page of several runs: side by side first, and then each by itself."""

from collections.abc import Sequence
from typing import Any

from mamlcli.pages.blocks import Block, Cell, Column, Page, Section, Table, Text
from mamlcli.pages.cells import duration, plain, with_interval, word
from mamlcli.pages.evaluated import ends
from mamlcli.pages.run import badge, last_step, run_blocks, run_page, title
from mamlcli.rows import EvalRow
from mamlcli.runs.contents import Contents


def runs_page(runs: Sequence[Contents], written: str) -> Page:
    """The page of runs, of one as it stands by itself; `written` is said at its foot."""
    if len(runs) == 1:
        return run_page(runs[0], written)
    blocks: list[Block] = [Section("Side by side", _side_by_side(runs))]
    blocks += [Section(named, run_blocks(run), badge(run)) for named, run in zip(names(runs), runs, strict=True)]
    return Page(f"{len(runs)} runs", blocks, None, written, ended=not any(run.is_held for run in runs))


def names(runs: Sequence[Contents]) -> list[str]:
    """What the runs are called, told apart by their folders where they have the same name."""
    titles = [title(run) for run in runs]
    return [f"{said} ({run.path})" if titles.count(said) > 1 else said for said, run in zip(titles, runs, strict=True)]


def _side_by_side(runs: Sequence[Contents]) -> list[Block]:
    shots = [ends(result)[1]["shots"] for run in runs if (result := run.evaluations.get("."))]
    columns = [Column("run", is_number=False), Column("status", is_number=False), Column("method", is_number=False)]
    columns += [Column("seeds"), Column("meta-updates"), Column("training time")]
    columns += [Column("loss before adaptation"), Column("after adaptation"), Column("measured at", is_number=False)]
    blocks: list[Block] = [Table(columns, [_line(run, named) for run, named in zip(runs, names(runs), strict=True)])]
    if len(set(shots)) > 1:
        blocks.append(Text("The runs were measured at different K: their losses do not compare as they stand."))
    return [*blocks, *_differences(runs)]


def _line(run: Contents, named: str) -> list[Cell]:
    said, result = badge(run), run.evaluations.get(".")
    clock = [row["wall_s"] for row in run.metrics if isinstance(row.get("wall_s"), int | float)]
    cells = [word(named), word(said.text, said.tone), word(run.info.get("method"))]
    cells += [word(len(run.info.get("seeds") or [])), Cell(f"{last_step(run):,}", last_step(run))]
    cells.append(Cell(duration(max(clock)), max(clock)) if clock else word(None))
    if result is None:
        return [*cells, Cell("n/a", None), Cell("n/a", None), word(None)]
    first, last = ends(result)
    return [*cells, _loss(first), _loss(last), word(f"K = {last['shots']}, step {last['inner_steps']}")]


def _loss(row: EvalRow) -> Cell:
    return with_interval(row["mean"], row["ci95"])


def _differences(runs: Sequence[Contents]) -> list[Block]:
    """The keys of the configs that differ between the runs."""
    flat = [_flat(run.config.model_dump(mode="json")) if run.config else {} for run in runs]
    keys = list(dict.fromkeys(key for one in flat for key in one))
    rows = [
        [word(key), *(word(plain(one[key]) if key in one else "") for one in flat)]
        for key in keys
        if any(one.get(key) != flat[0].get(key) for one in flat)
    ]
    if not rows:
        return [Text("Their configs are the same.")]
    columns = [Column("key", is_number=False), *(Column(named, is_number=False) for named in names(runs))]
    return [Table(columns, rows, "What differs between their configs")]


def _flat(values: dict[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= {f"{name}.{key}": one for key, one in value.items()} if isinstance(value, dict) else {name: value}
    return flat
