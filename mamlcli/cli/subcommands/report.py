"""`maml report`."""

from pathlib import Path
from typing import Annotated

import typer

from mamlcli.cli.options import JsonOption, PluginOption, QuietOption
from mamlcli.cli.shared import show
from mamlcli.plugins import load_plugins


def report(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[RUN]...", help="Run folders; the run that finished last when left out."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="FILE.html", help="The page to write, in place of report.html in the run folder."
        ),
    ] = None,
    plugin: PluginOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Write runs as one HTML page that needs no other file, with figures that tell values, and as Markdown.

    Works on a run that is going on, was interrupted or has not been evaluated, too. Several runs stand side by side.
    """
    load_plugins(plugin or [])
    from mamlcli.cli.progress import Progress
    from mamlcli.cli.reports import page_report
    from mamlcli.commands.report import report as run_report

    with Progress(quiet=quiet) as progress:
        result = run_report(*(runs or []), out=out, reporter=progress)
    show(result.as_json(), page_report(result), as_json=as_json)
