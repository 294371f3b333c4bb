"""What `maml compare-orders` prints."""

from typing import TYPE_CHECKING

from mamlcli.cli.tables import SHOWN_STEPS, format_bytes, format_table, located, with_interval, wrapped
from mamlcli.types import AnyRow, Row

if TYPE_CHECKING:
    from mamlcli.config.experiment import Config
    from mamlcli.results import Comparison


def comparison_report(result: "Comparison", config: "Config") -> str:
    """Say how first and second order compare in loss, direction and cost."""
    tested = list(dict.fromkeys(row["seed"] for row in result.evaluations["second"] if row["seed"] != "all"))
    speaker = "all" if len(tested) > 1 else tested[0]
    means = {
        (order, row["shots"], row["inner_steps"]): with_interval(row["mean"], row["ci95"])
        for order, evaluation in result.evaluations.items()
        for row in evaluation
        if row["seed"] == speaker
    }
    shown = [row for row in result.results if row["inner_steps"] in SHOWN_STEPS]
    losses: list[Row] = [
        {
            "K": row["shots"],
            "inner steps": row["inner_steps"],
            "first order": means["first", row["shots"], row["inner_steps"]],
            "second order": means["second", row["shots"], row["inner_steps"]],
        }
        for row in shown
    ]
    differences: list[Row] = [
        {
            "K": row["shots"],
            "inner steps": row["inner_steps"],
            "first - second": row["difference"],
            "low": row["low"],
            "high": row["high"],
            "less loss": _verdict(row),
        }
        for row in shown
    ]
    diverged = {
        order: sum(row["num_diverged"] for row in evaluation if row["seed"] != "all")
        for order, evaluation in result.evaluations.items()
    }
    cost: list[Row] = [
        {
            "order": order,
            "ms per meta-step": values["ms_per_step"],
            "peak memory of a meta-update": format_bytes(values["peak_memory_bytes"]),
        }
        for order, values in result.cost.items()
    ]
    cosines = [row["cosine"] for row in result.cosines if row["cosine"] is not None]
    query = result.query
    parts = [
        *wrapped(
            f"query loss on {result.tasks} meta-test tasks ({query['points']} points, {query['sampling']}), "
            f"mean over {len(config.seeds)} seed(s); ± is its 95% interval:"
        ),
        format_table(losses),
        "",
        *wrapped(f"low and high are the {result.interval.replace(',', ':', 1)}."),
        format_table(differences, left=("less loss",)),
        "",
        "cost, measured side by side:",
        format_table(cost),
        "",
    ]
    for order, evaluation in result.evaluations.items():
        frozen = {row["seed"]: row["diverged_at_step"] for row in evaluation if row["diverged_at_step"] is not None}
        parts += [f"{order} order: seed {seed} diverged at step {step}, frozen" for seed, step in frozen.items()]
    if any(diverged.values()):
        parts += wrapped(
            f"tasks that diverged, over all K, steps and seeds: first order {diverged['first']}, second order "
            f"{diverged['second']}; n/a: a loss is not finite"
        )
        parts.append("")
    if cosines:
        count = max(1, len(cosines) // 10)
        early, late = sum(cosines[:count]) / count, sum(cosines[-count:]) / count
        parts += wrapped(
            f"cosine of both meta-gradients: {early:.4f} in the first tenth of training, {late:.4f} in the last"
        )
    if result.parameters == "best":
        from mamlcli.meta_test.protocol import steps_in_words

        found = (f"{order} order {steps_in_words(steps)}" for order, steps in result.parameter_steps.items())
        parts += wrapped(f"least meta-validation loss, compared there: {'; '.join(found)}")
    parts += [line for note in result.notes for line in wrapped(note)]
    parts += ["", located("comparison", result.run / "comparison.json")]
    parts += [located(f"{order} order", path) for order, path in result.runs.items()]
    return "\n".join([*parts, *(located("figure", figure) for figure in result.figures)])


def _verdict(row: AnyRow) -> str:
    """Which order is better, where the whole interval of the difference says so."""
    if row["low"] is None or row["high"] is None:
        return "n/a"
    return "second order" if row["low"] > 0 else "first order" if row["high"] < 0 else "not told apart"
