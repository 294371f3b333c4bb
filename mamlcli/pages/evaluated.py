"""What a meta-test found, as parts of a page."""

from collections.abc import Sequence

from mamlcli.meta_test.measure import over_seeds
from mamlcli.meta_test.protocol import steps_in_words
from mamlcli.pages.blocks import Block, Column, Details, Table, Text, Tone
from mamlcli.pages.cells import count, number, short, with_interval, word
from mamlcli.results import EvalResult
from mamlcli.rows import EvalRow, KindRow, UnitRow, WorstRow
from mamlcli.types import AnyRow

_TONES: dict[str | None, Tone] = {"better": "good", "worse": "bad"}


def evaluation_blocks(result: EvalResult) -> list[Block]:
    """The headline, the losses over seeds, and all the rest for who asks for it."""
    rows = over_seeds(result.results)
    blocks: list[Block] = [Text(headline(result)), Text(_measured(result, rows))]
    if result.summary:
        blocks.insert(0, Text(result.summary))
    blocks += _unit_blocks(result)
    blocks += [_by_step(rows, model) for model in _models(rows)]
    blocks += _kind_blocks(result)
    if any(row["num_diverged"] for row in rows):
        blocks.append(Text(_divergence(rows), "bad"))
    blocks.append(Details("Every K and step: mean, median, diverged tasks", [_long(rows)]))
    if len(rows) < len(result.results):
        own = [row for row in result.results if row["seed"] != "all"]
        blocks.append(Details(f"Each seed by itself: {count(len(own), 'row')}", [_long(own)]))
    return [*blocks, _worst(result.worst)] if result.worst else blocks


def headline(result: EvalResult) -> str:
    """What the meta-test says in a sentence, at the K in the middle."""
    first, last = ends(result)
    where = f"On {count(result.tasks, 'meta-test task')}, with K = {first['shots']} support samples"
    steps = count(last["inner_steps"], "inner step")
    of = f" of the {first['model']}" if "model" in first else ""
    before = with_interval(first["mean"], first["ci95"]).text
    if last["inner_steps"] == 0:
        return f"{where}, the mean query loss{of} is {before} before adaptation."
    after = with_interval(last["mean"], last["ci95"]).text
    return f"{where}, the mean query loss{of} is {before} before adaptation and {after} after {steps}."


def ends(result: EvalResult) -> tuple[EvalRow, EvalRow]:
    """At the K in the middle, the row before adaptation and that after the last step."""
    rows = over_seeds(result.results)
    shots = sorted({row["shots"] for row in rows})
    middle, model = shots[len(shots) // 2], _models(rows)[0]
    chosen = [row for row in rows if row["shots"] == middle and row.get("model") == model]
    return chosen[0], chosen[-1]


def _models(rows: Sequence[EvalRow | KindRow]) -> list[str | None]:
    return list(dict.fromkeys(row.get("model") for row in rows))


def _measured(result: EvalResult, rows: Sequence[EvalRow]) -> str:
    """On what, and with which parameters."""
    query = result.query
    which = f"checkpoint at step {result.step:,}"
    if result.start == "random-init":
        which = "the parameters that training began with"
    elif result.protocol["parameters"] == "best":
        which = f"least meta-validation loss: {steps_in_words(result.protocol['parameter_steps'])}"
    scaled = " of scaled targets" if query["scaled"] else ""
    overrides = f" Set for this evaluation: {', '.join(result.protocol['overrides'])}." * bool(
        result.protocol["overrides"]
    )
    return (
        f"Mean squared error{scaled} on {query['points']} query points of each task, {query['sampling']} (test seed "
        f"{query['test_seed']}); ± is the half-width of the 95% interval {rows[0]['interval']}; {which}.{overrides}"
    )


def _by_step(rows: Sequence[EvalRow], model: str | None) -> Table:
    """The mean by inner step, a column for each K."""
    own = [row for row in rows if row.get("model") == model]
    shots = list(dict.fromkeys(row["shots"] for row in own))
    found = {(row["shots"], row["inner_steps"]): row for row in own}
    steps = sorted({row["inner_steps"] for row in own})
    lines = [
        [word(step), *(with_interval(found[k, step]["mean"], found[k, step]["ci95"]) for k in shots)] for step in steps
    ]
    caption = "Query loss after so many inner steps" + (f", {model}" if model else "")
    return Table([Column("steps"), *(Column(f"K = {k}") for k in shots)], lines, caption)


def _kind_blocks(result: EvalResult) -> list[Block]:
    """How the tasks of each kind fare, where there are several."""
    if not result.kinds:
        return []
    rows = over_seeds(result.kinds)
    shots, last = list(dict.fromkeys(row["shots"] for row in rows)), max(row["inner_steps"] for row in rows)
    tables: list[Block] = []
    for model in _models(rows):
        own = [row for row in rows if row.get("model") == model]
        found = {(row["kind"], row["shots"], row["inner_steps"]): row for row in own}
        counts = {row["kind"]: row["num_tasks"] for row in own}
        lines = [
            [
                *(word(kind), word(tasks)),
                *(with_interval(row["mean"], row["ci95"]) for row in [found[kind, shots[0], 0]]),
                *(with_interval(row["mean"], row["ci95"]) for row in [found[kind, k, last] for k in shots]),
            ]
            for kind, tasks in counts.items()
        ]
        names = ["tasks", "0 steps", *(f"K = {k}, {count(last, 'step')}" for k in shots)]
        caption = "Query loss by kind of task" + (f", {model}" if model else "")
        tables.append(Table([Column("kind", is_number=False), *map(Column, names)], lines, caption))
    return [*tables, Details("Every kind, K and step: mean, median, diverged tasks", [_long(rows)])]


def _divergence(rows: Sequence[EvalRow]) -> str:
    worst = max(rows, key=lambda row: row["num_diverged"])
    frozen = max(row["num_diverged_seeds"] for row in rows)
    seeds = f" {count(frozen, 'seed')} diverged in training and count as they were frozen." if frozen else ""
    return (
        f"Adaptations diverged: {worst['num_diverged']} at K = {worst['shots']} after "
        f"{count(worst['inner_steps'], 'step')}, over all seeds. They stay in the mean; the median is in the table "
        f"below.{seeds}"
    )


def _long(rows: Sequence[EvalRow] | Sequence[KindRow]) -> Table:
    has_kind, has_model, has_seed = "kind" in rows[0], "model" in rows[0], rows[0]["seed"] != "all"
    names = ["K", "steps", "mean", "±", "median", "diverged"]
    columns = [Column("kind", is_number=False)] * has_kind + [Column("predictor", is_number=False)] * has_model
    columns += [Column("seed")] * has_seed
    lines = [
        [
            *([word(row.get("kind"))] if has_kind else []),
            *([word(row.get("model"))] if has_model else []),
            *([word(row["seed"])] if has_seed else []),
            *(word(row["shots"]), word(row["inner_steps"]), number(row["mean"]), number(row["ci95"])),
            *(number(row["median"]), word(row["num_diverged"])),
        ]
        for row in rows
    ]
    return Table([*columns, *map(Column, names)], lines)


def _unit_blocks(result: EvalResult) -> list[Block]:
    """The method and its baselines in the targets' units."""
    if not result.units:
        return []
    method = result.units[0]["who"]
    last = max(row["inner_steps"] or 0 for row in result.units if row["who"] == method)
    shown_rows = [row for row in result.units if (row["inner_steps"] or last) == last]
    shown_rows = [row for row in shown_rows if row["who"] != method or row["inner_steps"] == last]
    blocks: list[Block] = []
    for target in dict.fromkeys(row["target"] for row in shown_rows):
        own = [row for row in shown_rows if row["target"] == target]
        blocks.append(_units(own, target, last))
        notes = dict.fromkeys(f"{row['who']}: {row['note']}" for row in own if row["note"])
        blocks += [Text(note) for note in notes]
    blocks.append(Details("Every inner step, in the targets' units", [_all_units(result.units)]))
    return blocks


def _worst(rows: Sequence[WorstRow]) -> Table:
    columns = [Column("task", is_number=False), Column("target", is_number=False), Column("RMSE"), Column("share")]
    lines = [[word(row["name"]), word(row["target"]), short(row["rmse"]), short(row["fraction"])] for row in rows]
    return Table(columns, lines, "The tasks that the method does worst on, at the largest K after the last step")


def _units(rows: Sequence[UnitRow], target: str, last: int) -> Table:
    several = len({row["shots"] for row in rows}) > 1
    names = ["RMSE", "95% low", "high", "share"]
    columns = [*([Column("K")] if several else []), Column("predictor", is_number=False), *map(Column, names)]
    lines = [
        [
            *([word(row["shots"])] if several else []),
            word(row["who"]),
            *(short(row[name]) for name in ("rmse", "rmse_low", "rmse_high", "fraction")),
            word(row["verdict"] or "", _TONES.get(row["verdict"], "plain")),
        ]
        for row in rows
    ]
    caption = (
        f"{target}, K = {', '.join(str(k) for k in dict.fromkeys(row['shots'] for row in rows))}, after "
        f"{count(last, 'inner step')}, {count(rows[0]['num_tasks'], 'task')}: the root of the mean squared error in "
        "the unit of the target; share: of the pooled mean's squared error; the method is better than a baseline, or "
        "not, by their difference on the same tasks"
    )
    return Table([*columns, Column("the method is", is_number=False)], lines, caption)


def _all_units(rows: Sequence[AnyRow]) -> Table:
    words, numbers = ("who", "target"), ("rmse", "rmse_low", "rmse_high", "fraction", "difference", "difference_ci95")
    columns = [*(Column(name, is_number=False) for name in words), Column("K"), Column("steps")]
    columns += [Column(name.replace("_", " ")) for name in numbers]
    return Table(
        [*columns, Column("the method is", is_number=False)],
        [
            [
                *(word(row[name]) for name in words),
                *(word(row["shots"]), word(row["inner_steps"])),
                *(short(row[name]) for name in numbers),
                word(row["verdict"] or "", _TONES.get(row["verdict"], "plain")),
            ]
            for row in rows
        ],
    )


def short_result(result: EvalResult) -> tuple[str, str]:
    """For a tile: where the loss is measured, and the mean there, after the last step at the K in the middle."""
    _, last = ends(result)
    where = f"Loss at K = {last['shots']}, {count(last['inner_steps'], 'step')}"
    return where, with_interval(last["mean"], last["ci95"]).text
