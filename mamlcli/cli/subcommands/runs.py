"""`maml runs`: ls, show and diff."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from mamlcli.cli.help import App
from mamlcli.cli.options import JsonOption, PluginOption
from mamlcli.cli.shared import show
from mamlcli.plugins import load_plugins

if TYPE_CHECKING:
    from mamlcli.commands.runs import SortKey

runs = App(no_args_is_help=True, help="List runs, show one, or say what two differ in.")
# Lines of a list that nobody asked to be longer.
_SHOWN = 40

RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder.")]


@runs.command()
def ls(
    root: Annotated[Path, typer.Argument(help="Where to look.")] = Path("outputs"),
    name: Annotated[
        str | None,
        typer.Option("--name", metavar="PATTERN", help="Names with this in it; with * and ? as in a shell."),
    ] = None,
    status: Annotated[
        list[str] | None,
        typer.Option(
            "--status",
            metavar="STATUS",
            help="running, done, interrupted, killed, diverged, failed, stopped, unranked or damaged; repeatable.",
        ),
    ] = None,
    method: Annotated[
        str | None, typer.Option("--method", metavar="TEXT", help="Methods with this in their title.")
    ] = None,
    sort: Annotated[str, typer.Option("--sort", metavar="started|name|loss|steps", help="What comes first.")] = (
        "started"
    ),
    reverse: Annotated[bool, typer.Option("--reverse", "-r", help="The other way around.")] = False,
    limit: Annotated[
        int | None,
        typer.Option("--limit", "-n", metavar="N", min=0, help=f"List N runs; 0: all. {_SHOWN}, all with --json."),
    ] = None,
    shots: Annotated[
        int | None, typer.Option("--shots", metavar="K", min=1, help="K of the loss; the largest up to 10.")
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option("--steps", metavar="N", min=0, help="Inner steps before the loss; as in meta-training."),
    ] = None,
    all_: Annotated[
        bool, typer.Option("--all", "-a", help="Also runs inside comparisons, and those moved aside.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """List the runs in a folder, those begun last first: method, status, seeds, steps and loss."""
    from mamlcli.cli.run_list import run_list_report
    from mamlcli.commands.runs import find_rows

    found = find_rows(
        root,
        name=name,
        status=status or (),
        method=method,
        sort=cast("SortKey", sort),
        reverse=reverse,
        limit=(None if as_json else _SHOWN) if limit is None else limit or None,
        inside=all_,
        shots=shots,
        inner_steps=steps,
    )
    show(found.as_json(), run_list_report(found, shots, steps), as_json=as_json)


@runs.command(name="show")
def show_one(run: RunArgument, plugin: PluginOption = None, as_json: JsonOption = False) -> None:
    """Show a run: its config, how it stands, who worked on it, checkpoints, losses, files, and what to do next."""
    load_plugins(plugin or [])
    from mamlcli.cli.run_reports import run_report
    from mamlcli.commands.runs import show_run

    shown = show_run(run)
    show(shown.as_json(), run_report(shown), as_json=as_json)


@runs.command()
def diff(first: RunArgument, second: RunArgument, plugin: PluginOption = None, as_json: JsonOption = False) -> None:
    """Say what two runs differ in: config, what computed them, and their losses side by side."""
    load_plugins(plugin or [])
    from mamlcli.cli.run_reports import diff_report
    from mamlcli.commands.runs import diff_runs

    found = diff_runs(first, second)
    show(found.as_json(), diff_report(found), as_json=as_json)
