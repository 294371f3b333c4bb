"""Results to the text that a person reads on stdout."""

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mamlcli.cli.tables import format_bytes, format_cell, format_table, with_interval
from mamlcli.cli.unit_report import summary_lines, unit_lines, wrapped
from mamlcli.config.experiment import Config
from mamlcli.types import AnyRow, Row

if TYPE_CHECKING:
    from mamlcli.config.published import PublishedRow
    from mamlcli.results import Comparison, EvalResult, GradientReport, ReportResult, Reproduction, TrainResult

# Inner steps that a printed table shows; the files have them all.
_SHOWN_STEPS = (0, 1, 2, 5, 10)


def train_report(result: "TrainResult") -> str:
    """Say how training ended, where everything is and what to run next."""
    names = {"seed": "seed", "pre_adapt_loss": "before adaptation", "post_adapt_loss": "after adaptation"}
    metrics: Sequence[AnyRow] = result.metrics
    rows = _marked([{title: row[name] for name, title in names.items()} for row in metrics], metrics)
    updates = f"{result.outer_steps - result.from_step} meta-updates"
    if result.from_step:
        updates += f" (steps {result.from_step + 1} to {result.outer_steps})"
    how = f"compiled ({result.engine['inner_update']})" if result.engine["compiled"] else "not compiled"
    lines = [
        f"trained {updates} of {len(result.seeds)} seed(s) side by side in {result.wall_s:.1f} s "
        f"on {result.engine['device']}, {result.engine['threads']} thread(s), {how}",
        "",
        f"query loss of the last meta-batch (step {result.outer_steps}):",
        format_table(rows),
        *_best_lines(result),
        "",
        f"run          {result.run}",
        f"metrics      {result.run / 'metrics.jsonl'}",
        f"checkpoints  {result.run / 'checkpoints'}",
    ]
    if result.figure:
        lines.append(f"figure       {result.figure}")
    return "\n".join([*lines, "", f"next: maml eval {result.run}"])


def _best_lines(result: "TrainResult") -> list[str]:
    """Say which parameters the run will be evaluated by, where they are not those of its last step."""
    from mamlcli.meta_test.protocol import steps_in_words

    return [] if result.best is None else [f"least meta-validation loss: {steps_in_words(result.best)}"]


def eval_report(result: "EvalResult") -> str:
    """Say what the meta-test found, over seeds and per seed."""
    query = result.query
    seeds = list(dict.fromkeys(row["seed"] for row in result.results if row["seed"] != "all"))
    parts = [
        *wrapped(
            f"{result.tasks} meta-test task{'s' * (result.tasks != 1)} (test seed {query['test_seed']}), each loss on "
            f"{query['points']} query points, {query['sampling']}; {_tested(result)}"
        ),
        *summary_lines(result),
    ]
    if result.protocol["overrides"]:
        parts.append(f"set for this evaluation: {', '.join(result.protocol['overrides'])}")
    parts += unit_lines(result)
    loss = "query loss of scaled targets, " if query["scaled"] else ""

    def titled(title: str) -> list[str]:
        return wrapped(title) if loss else [title]

    # With folds, one seed of each makes a repetition.
    word = "seed" if len(seeds) == len(result.protocol["parameter_steps"]) else "repetition"
    if len(seeds) > 1:
        over = [row for row in result.results if row["seed"] == "all" and row["inner_steps"] in _SHOWN_STEPS]
        title = f"{loss}over {len(seeds)} {word}s (± is the 95% interval {over[0]['interval']}):"
        parts += ["", *titled(title), format_table(_eval_rows(over, word))]
    per_seed = [row for row in result.results if row["seed"] != "all" and row["inner_steps"] in _SHOWN_STEPS]
    if len(seeds) > 1:
        per_seed = [row for row in per_seed if row["inner_steps"] <= 1]
    title = f"{loss}per {word} (± is the 95% interval {per_seed[0]['interval']}):"
    parts += ["", *titled(title), format_table(_eval_rows(per_seed, word))]
    parts += _learned_lines(result)
    parts += ["", f"every step   {result.run / 'evaluation.csv'}"]
    return "\n".join([*parts, *(f"figure       {figure}" for figure in result.figures)])


def _tested(result: "EvalResult") -> str:
    """Say which parameters were tested."""
    from mamlcli.meta_test.protocol import steps_in_words

    if result.start == "random-init":
        return "the initial parameters"
    if result.protocol["parameters"] == "best":
        return f"least meta-validation loss: {steps_in_words(result.protocol['parameter_steps'])}"
    return f"checkpoint at step {result.step}"


def _learned_lines(result: "EvalResult") -> list[str]:
    """Say what the method has learned beside the weights of models."""
    learned = result.learned
    if learned is None:
        return []
    return ["", learned.title, format_table(learned.rows, left=tuple(learned.rows[0])[:1])]


def _marked(shown: list[Row], rows: Sequence[AnyRow]) -> list[Row]:
    """Say of each seed that was frozen when it diverged; without any, the table stays as it is."""
    marks = ["" if (step := row["diverged_at_step"]) is None else f"diverged at step {step}, frozen" for row in rows]
    marks = [
        f"{row['num_diverged_seeds']} seed(s) frozen" if row["seed"] == "all" and row["num_diverged_seeds"] else mark
        for row, mark in zip(rows, marks, strict=True)
    ]
    return [one | {"training": mark} for one, mark in zip(shown, marks, strict=True)] if any(marks) else shown


def _eval_rows(rows: Sequence[AnyRow], word: str) -> list[Row]:
    shown = [
        ({"model": row["model"]} if "model" in row else {})
        | {
            "K": row["shots"],
            "inner steps": row["inner_steps"],
            word: row["seed"],
            "mean": with_interval(row["mean"], row["ci95"]),
            "median": row["median"],
            "diverged": row["num_diverged"],
        }
        for row in rows
    ]
    return _marked(shown, rows)


def comparison_report(result: "Comparison", config: Config) -> str:
    """Say how first and second order compare in loss, direction and cost."""
    tested = list(dict.fromkeys(row["seed"] for row in result.evaluations["second"] if row["seed"] != "all"))
    speaker = "all" if len(tested) > 1 else tested[0]
    means = {
        (order, row["shots"], row["inner_steps"]): with_interval(row["mean"], row["ci95"])
        for order, evaluation in result.evaluations.items()
        for row in evaluation
        if row["seed"] == speaker
    }
    rows = [
        {
            "K": row["shots"],
            "inner steps": row["inner_steps"],
            "first order": means["first", row["shots"], row["inner_steps"]],
            "second order": means["second", row["shots"], row["inner_steps"]],
            "first - second": row["difference"],
            "low": row["low"],
            "high": row["high"],
        }
        for row in result.results
        if row["inner_steps"] in _SHOWN_STEPS
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
        f"query loss on {result.tasks} meta-test tasks ({query['points']} points, {query['sampling']}), "
        f"mean over {len(config.seeds)} seed(s); ± is its 95% interval,",
        f"low and high are the {result.interval.replace(',', ':', 1)}.",
        "Positive: second order is better.",
        format_table(rows),
        "",
        "cost, measured side by side:",
        format_table(cost),
        "",
    ]
    for order, evaluation in result.evaluations.items():
        frozen = {row["seed"]: row["diverged_at_step"] for row in evaluation if row["diverged_at_step"] is not None}
        parts += [f"{order} order: seed {seed} diverged at step {step}, frozen" for seed, step in frozen.items()]
    if any(diverged.values()):
        parts += [
            f"tasks that diverged, over all K, steps and seeds: first order {diverged['first']}, second order "
            f"{diverged['second']}; n/a: a loss is not finite",
            "",
        ]
    if cosines:
        count = max(1, len(cosines) // 10)
        early, late = sum(cosines[:count]) / count, sum(cosines[-count:]) / count
        parts += [f"cosine of both meta-gradients: {early:.4f} in the first tenth of training, {late:.4f} in the last"]
    if result.parameters == "best":
        from mamlcli.meta_test.protocol import steps_in_words

        found = (f"{order} order {steps_in_words(steps)}" for order, steps in result.parameter_steps.items())
        parts += [f"least meta-validation loss, compared there: {'; '.join(found)}"]
    parts += result.notes
    parts += [
        f"comparison   {result.run / 'comparison.json'}",
        *(f"{order + ' order':<13}{path}" for order, path in result.runs.items()),
    ]
    return "\n".join([*parts, *(f"figure       {figure}" for figure in result.figures)])


def page_report(result: "ReportResult") -> str:
    """Say where the report is."""
    return f"report       {result.html}\n             {result.markdown}"


def rows_report(rows: "dict[str, PublishedRow]") -> str:
    """Say which rows there are."""
    lines: list[Row] = [{"row": name, "what it is": row.title, "source": row.source} for name, row in rows.items()]
    return format_table(lines, left=("row", "what it is", "source"))


def reproduction_report(result: "Reproduction") -> str:
    """Say what came back of what was published."""
    from mamlcli.pages.reproduction import count_reproduced, table_cells, table_columns
    from mamlcli.statistics import interval_over

    columns = table_columns()
    lines: list[Row] = [dict(zip(columns, table_cells(row), strict=True)) for row in result.results]
    held = f"{count_reproduced(result.results)} reproduced; the report states the rule"
    parts = [
        f"query loss, means over {len(result.seeds)} seed(s) and all meta-test tasks; "
        f"±: half-width of the 95% interval of ours, {interval_over(len(result.seeds))}",
        format_table(lines, left=("row", "verdict")),
        "",
        *_queries(result.results),
        "ours is corrected for how hard these tasks are, by the zero predictor as control variate; where the "
        "uncorrected is the same, adaptations diverged, or it is that predictor",
        "the trainings were cut short: the numbers mean nothing" if result.fast else held,
        f"report       {result.run / 'report.html'}",
        f"             {result.run / 'report.md'}",
    ]
    return "\n".join([*parts, *([f"figure       {result.figure}"] if result.figure else [])])


def _queries(results: Sequence[AnyRow]) -> list[str]:
    """On what each row was measured."""
    queries = dict.fromkeys(row["query"] for row in results if row["query"])
    rows = {query: dict.fromkeys(row["row"] for row in results if row["query"] == query) for query in queries}
    return [f"measured on {query}: {', '.join(names)}" for query, names in rows.items()]


def gradient_report(report: "GradientReport", config: Config) -> str:
    """Say which checks of the meta-gradient hold, which say nothing, and how both orders relate."""
    steps = f"{report.inner_steps} inner step(s), " if report.inner_steps else ""
    rows: list[Row] = [
        {
            "verdict": "FAILS" if check["verdict"] == "fails" else check["verdict"],
            "check": check["name"],
            "compared with": check["compared_with"],
            "relative error": _error(check["relative_error"]),
            "tolerance": f"{check['tolerance']:.2g}",
        }
        for check in report.checks
    ]
    return "\n".join(
        [
            f"gradient of {config.name}, {report.method}: {steps}"
            f"{len(report.seeds)} seed(s), {report.tasks} tasks, float64",
            format_table(rows, left=("verdict", "check", "compared with")),
            "",
            *_norm_lines(report),
            *_approximation_lines(report),
            _closing_line(report),
        ]
    )


def _error(value: float | None) -> str:
    return "inf" if value is None else f"{value:.1e}"


def _norm_lines(report: "GradientReport") -> list[str]:
    """Say how large the gradient is, and how both orders relate where there are two."""
    info = report.info
    if info["first_norm"] is None or not report.inner_steps:
        norm = format_cell(info["second_norm"])
        return [f"norm of the gradient: {norm}; there is no inner gradient, and so no order"]
    return [
        f"norm of the meta-gradient: first order {format_cell(info['first_norm'])}, "
        f"second order {format_cell(info['second_norm'])}",
        f"cosine between them: {format_cell(info['cosine'])}; "
        f"second order minus first is {format_cell(info['second_order_share'])} of second order's norm",
    ]


def _closing_line(report: "GradientReport") -> str:
    count = Counter(check["verdict"] for check in report.checks)
    if not report.passed:
        return "not all checks hold"
    if not count["says nothing here"]:
        return "all checks hold"
    mute = f"{count['says nothing here']} say nothing here: what they look for would change nothing in this config"
    return f"{count['holds']} checks hold; {mute}"


def _approximation_lines(report: "GradientReport") -> list[str]:
    """Say what a finite difference would have lost; it is no check."""
    found = report.approximation
    if found is None:
        return []
    steps = found["inner_steps"]
    last = f", which sees the last of the teacher's {steps} steps alone" if steps > 1 else ""
    return [
        f"for comparison, one central difference along v in place of the mixed derivative, as in DARTS{last}:",
        f"gradient to A off by {format_cell(found['relative_error_float32'])} of its norm in float32 "
        f"({format_cell(found['relative_error'])} in float64), in {found['ms']:.1f} ms; the exact one takes "
        f"{found['exact_ms']:.1f} ms (these seeds and tasks, one thread, not compiled)",
    ]
