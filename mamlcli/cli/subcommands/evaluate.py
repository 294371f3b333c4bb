"""`maml eval`."""

from typing import Annotated

import typer

from mamlcli.cli.options import DeviceOption, JsonOption, OutOption, PluginOption, QuietOption, RunArgument, SetOption
from mamlcli.cli.shared import overrides_of, show
from mamlcli.plugins import load_plugins


def evaluate(
    run: RunArgument = None,
    set_: SetOption = None,
    device: DeviceOption = None,
    grid: Annotated[
        int | None, typer.Option("--grid", metavar="N", help="Measure on N even inputs, not on random ones.")
    ] = None,
    random_init: Annotated[
        bool, typer.Option("--random-init", help="Evaluate what training began with: the baseline.")
    ] = False,
    out: OutOption = None,
    plugin: PluginOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Evaluate a run on the fixed meta-test tasks: tables, adaptation curves and fits."""
    load_plugins(plugin or [])
    from mamlcli.cli.progress import Progress

    with Progress(quiet=quiet) as progress:
        from mamlcli.cli.reports import eval_report
        from mamlcli.commands.evaluate import evaluate as run_evaluate
        from mamlcli.interrupts import SIGNALS, StopRequest

        overrides = tuple(overrides_of(set_, None, device, grid))
        result = run_evaluate(
            run, overrides=overrides, random_init=random_init, out=out, reporter=progress, stop=StopRequest(SIGNALS)
        )
    show(result.as_json(), eval_report(result), as_json=as_json)
