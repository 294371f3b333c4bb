"""`maml train`."""

from typing import TYPE_CHECKING, Annotated

import typer

from mamlcli.cli.chosen import resolve
from mamlcli.cli.options import (
    ConfigOption,
    DeviceOption,
    JsonOption,
    NameArgument,
    OutOption,
    OverwriteOption,
    PluginOption,
    QuietOption,
    ResumeOption,
    SeedsOption,
    SetOption,
)
from mamlcli.cli.shared import overrides_of, resume_folder, show
from mamlcli.plugins import load_plugins

if TYPE_CHECKING:
    from mamlcli.config.experiment import Config


def train(
    name: NameArgument = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    seeds: SeedsOption = None,
    device: DeviceOption = None,
    out: OutOption = None,
    overwrite: OverwriteOption = False,
    resume: ResumeOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check the config, make one meta-step in memory, write nothing.")
    ] = False,
    plugin: PluginOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Train an experiment: checkpoints, metrics and a loss figure in a new folder under outputs/."""
    load_plugins(plugin or [])
    out = resume_folder(resume, out)
    resolved = resolve(name, config, out if resume else None, overrides_of(set_, seeds, device), command="train")
    if dry_run:
        _show_dry_run(resolved, as_json=as_json, quiet=quiet)
        return
    from mamlcli.cli.progress import Progress

    with Progress(quiet=quiet) as progress:
        from mamlcli.cli.reports import train_report
        from mamlcli.commands.train import train as run_train
        from mamlcli.interrupts import SIGNALS, StopRequest

        result = run_train(
            resolved,
            out=out,
            overwrite=overwrite,
            resume=resume is not None,
            reporter=progress,
            stop=StopRequest(SIGNALS),
        )
    show(result.as_json(), train_report(result), as_json=as_json)


def _show_dry_run(config: "Config", *, as_json: bool, quiet: bool) -> None:
    from mamlcli.cli.progress import Progress
    from mamlcli.config.file import dump_config

    with Progress(quiet=quiet) as progress:
        from mamlcli.commands.train import dry_run

        found = dry_run(config, progress)
        progress.note(f"dry run: one meta-step of {found.num_params} parameters a seed worked; nothing was written")
    show(found.as_json(), dump_config(config).rstrip(), as_json=as_json)
