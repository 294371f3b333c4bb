"""What training and evaluation print."""

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mamlcli.cli.kind_report import kind_lines
from mamlcli.cli.tables import SHOWN_STEPS, format_table, located, with_interval, wrapped
from mamlcli.cli.unit_report import summary_lines, unit_lines
from mamlcli.types import AnyRow, Row

if TYPE_CHECKING:
    from mamlcli.results import EvalResult, ReportResult, TrainResult

_TEXT = ("model", "training")


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
        *wrapped(
            f"trained {updates} of {len(result.seeds)} seed(s) side by side in {result.wall_s:.1f} s "
            f"on {result.engine['device']}, {result.engine['threads']} thread(s), {how}"
        ),
        "",
        f"query loss of the last meta-batch (step {result.outer_steps}):",
        format_table(rows, left=_TEXT),
        *_best_lines(result),
        "",
        located("run", result.run),
        located("metrics", result.run / "metrics.jsonl"),
        located("checkpoints", result.run / "checkpoints"),
    ]
    if result.figure:
        lines.append(located("figure", result.figure))
    return "\n".join([*lines, "", located("next: ", f"maml eval {shlex.quote(str(result.run))}", gap=6)])


def _best_lines(result: "TrainResult") -> list[str]:
    """Say which parameters the run will be evaluated by, where they are not those of its last step."""
    from mamlcli.meta_test.protocol import steps_in_words

    return [] if result.best is None else wrapped(f"least meta-validation loss: {steps_in_words(result.best)}")


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
        parts += wrapped(f"set for this evaluation: {', '.join(result.protocol['overrides'])}")
    parts += unit_lines(result)
    loss = "query loss of scaled targets, " if query["scaled"] else ""

    # With folds, one seed of each makes a repetition.
    word = "seed" if len(seeds) == len(result.protocol["parameter_steps"]) else "repetition"
    if len(seeds) > 1:
        over = [row for row in result.results if row["seed"] == "all" and row["inner_steps"] in SHOWN_STEPS]
        title = f"{loss}over {len(seeds)} {word}s (± is the 95% interval {over[0]['interval']}):"
        parts += ["", *wrapped(title), format_table(_eval_rows(over, word), left=_TEXT)]
    per_seed = [row for row in result.results if row["seed"] != "all" and row["inner_steps"] in SHOWN_STEPS]
    if len(seeds) > 1:
        per_seed = [row for row in per_seed if row["inner_steps"] <= 1]
    title = f"{loss}per {word} (± is the 95% interval {per_seed[0]['interval']}):"
    parts += ["", *wrapped(title), format_table(_eval_rows(per_seed, word), left=_TEXT)]
    parts += kind_lines(result)
    parts += _learned_lines(result)
    parts += ["", located("every step", result.run / "evaluation.csv")]
    return "\n".join([*parts, *(located("figure", figure) for figure in result.figures)])


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
    return ["", *wrapped(learned.title), format_table(learned.rows, left=tuple(learned.rows[0])[:1])]


def _marked(shown: list[Row], rows: Sequence[AnyRow]) -> list[Row]:
    """Say of each seed that was frozen when it diverged; without any, the table stays as it is."""
    marks = ["" if (step := row["diverged_at_step"]) is None else f"frozen at step {step}" for row in rows]
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


def page_report(result: "ReportResult") -> str:
    """Say where the report is."""
    return "\n".join([located("report", result.html), located("", result.markdown)])
