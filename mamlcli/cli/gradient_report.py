"""What `maml check-grads` prints."""

from collections import Counter
from typing import TYPE_CHECKING

from mamlcli.cli.tables import format_cell, format_table, wrapped
from mamlcli.types import Row

if TYPE_CHECKING:
    from mamlcli.config.experiment import Config
    from mamlcli.results import GradientReport


def gradient_report(report: "GradientReport", config: "Config") -> str:
    """Say which checks of the meta-gradient hold, which say nothing, and how both orders relate."""
    steps = f"{report.inner_steps} inner step(s), " if report.inner_steps else ""
    rows: list[Row] = [
        {
            "verdict": "FAILS" if check["verdict"] == "fails" else check["verdict"],
            "check": check["name"],
            "error": _error(check["relative_error"]),
            "tolerance": f"{check['tolerance']:.2g}",
        }
        for check in report.checks
    ]
    compared: list[Row] = [{"check": check["name"], "compared with": check["compared_with"]} for check in report.checks]
    measured = f"errors are relative: {steps}{len(report.seeds)} seed(s), {report.tasks} tasks, float64"
    said = [measured, *_norm_lines(report), *_approximation_lines(report), *report.notes, *_written(report)]
    said.append(_closing_line(report))
    return "\n".join(
        [
            *wrapped(f"gradient of {config.name}, {report.method}:"),
            format_table(rows, left=("verdict", "check")),
            "",
            format_table(compared, left=("check", "compared with")),
            "",
            *(line for sentence in said for line in wrapped(sentence)),
        ]
    )


def _error(value: float | None) -> str:
    return "inf" if value is None else f"{value:.1e}"


def _norm_lines(report: "GradientReport") -> list[str]:
    """Say how large the gradient is, and how both orders relate where there are two."""
    info = report.info
    if info["first_norm"] is None or not report.inner_steps:
        norm = format_cell(info["second_norm"])
        no_order = (
            "there is no order to compare" if report.inner_steps else "there is no inner gradient, and so no order"
        )
        return [f"norm of the gradient: {norm}; {no_order}"]
    return [
        f"norm of the meta-gradient: first order {format_cell(info['first_norm'])}, "
        f"second order {format_cell(info['second_norm'])}",
        f"cosine between them: {format_cell(info['cosine'])}; "
        f"second order minus first is {format_cell(info['second_order_share'])} of second order's norm",
    ]


def _written(report: "GradientReport") -> list[str]:
    """Say where the report and its figures are."""
    if report.run is None:
        return []
    figures = ", ".join(figure.name for figure in report.figures)
    return [f"written to {report.run}: gradients.json{', ' if figures else ''}{figures}"]


def _closing_line(report: "GradientReport") -> str:
    count = Counter(check["verdict"] for check in report.checks)
    if not report.passed:
        return "not all checks hold"
    if not count["says nothing here"]:
        return "all checks hold"
    mute = f"{count['says nothing here']} say nothing here: what they look for would change nothing"
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
