"""`maml check-grads`."""

from pathlib import Path
from typing import Annotated

import typer

from mamlcli.cli.chosen import resolve
from mamlcli.cli.options import ConfigOption, JsonOption, NameArgument, PluginOption, QuietOption, SetOption
from mamlcli.cli.shared import overrides_of, show
from mamlcli.plugins import load_plugins


def check_grads(
    name: NameArgument = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="DIR", help="A new folder for the report and its figures; without it none is written."
        ),
    ] = None,
    plugin: PluginOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Prove the meta-gradient of a config: finite differences, explicit loops, closed forms. Exit 1 if one fails."""
    load_plugins(plugin or [])
    resolved = resolve(name, config, None, overrides_of(set_, None, None), command="check-grads")
    from mamlcli.cli.progress import Progress

    with Progress(quiet=quiet) as progress:
        from mamlcli.cli.gradient_report import gradient_report
        from mamlcli.commands.check_grads import check_grads as run_checks

        report = run_checks(resolved, out=out, reporter=progress)
    show(report.as_json(), gradient_report(report, resolved), as_json=as_json)
    if not report.passed:
        raise typer.Exit(1)
