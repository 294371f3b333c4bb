"""Colour on a terminal, laid over text that says the same without it."""

import os
import re
import sys
from typing import TextIO

import typer

_RULE = re.compile(r"-+(  -+)*")
# Whole cells of a table, and what a line outside of one begins with.
_GOOD, _BAD, _WARN = (
    "ok|holds|equivalent|better|met|done",
    "FAILS|fails|not met|worse|diverged.*|frozen.*|failed",
    "warn",
)
_CELL = re.compile(rf"(?:^|(?<=  ))(?:(?P<green>{_GOOD})|(?P<red>{_BAD})|(?P<yellow>{_WARN}))(?=  |$)")
_LINE = re.compile(
    r"(?P<green>all checks hold$|ok(?=  ))|(?P<red>not all checks hold$|fails(?=  ))|(?P<yellow>warn(?=  ))"
)


def has_colour(stream: TextIO) -> bool:
    """Whether a stream is a terminal whose user wants colours; see https://no-color.org."""
    try:
        return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    except (AttributeError, ValueError):  # closed, or none at all
        return False


def painted(text: str, stream: TextIO | None = None) -> str:
    r"""Colour a report for a stream: heads of tables, verdicts, what to type next; the same text where there is none.

    >>> painted("verdict  error\n-------  -----\nholds    1e-16")
    'verdict  error\n-------  -----\nholds    1e-16'
    """
    if not has_colour(stream or sys.stdout):
        return text
    lines, in_table = text.split("\n"), False
    for index, line in enumerate(lines):
        if _RULE.fullmatch(line.strip()) and index:
            lines[index - 1], in_table = typer.style(lines[index - 1], bold=True), True
            lines[index] = typer.style(line, dim=True)
        elif not line:
            in_table = False
        elif line.startswith("next: "):
            lines[index] = "next: " + typer.style(line.removeprefix("next: "), bold=True)
        else:
            lines[index] = _CELL.sub(_styled, line) if in_table else _LINE.sub(_styled, line, count=1)
    return "\n".join(lines)


def _styled(found: re.Match[str]) -> str:
    return typer.style(found[0], fg=found.lastgroup)
