"""`maml sweep`."""

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from mamlcli.cli.chosen import resolve
from mamlcli.cli.completion import complete_set
from mamlcli.cli.options import (
    ConfigOption,
    DeviceOption,
    JobsOption,
    JsonOption,
    NameArgument,
    OutOption,
    OverwriteOption,
    PluginOption,
    QuietOption,
    ResumeOption,
    SeedsOption,
)
from mamlcli.cli.shared import overrides_of, resume_folder, show
from mamlcli.errors import UsageError
from mamlcli.plugins import load_plugins


def sweep(
    name: NameArgument = None,
    config: ConfigOption = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY.PATH=VALUE[,VALUE...]",
            help="With several values an axis of the sweep, with one a setting; [5,10] is one value.",
            autocompletion=complete_set,
        ),
    ] = None,
    seeds: SeedsOption = None,
    device: DeviceOption = None,
    jobs: JobsOption = None,
    pick: Annotated[
        str | None,
        typer.Option("--pick", metavar="best|MEMBER", help="Write that member's config to the sweep's folder."),
    ] = None,
    part: Annotated[
        str | None,
        typer.Option("--part", metavar="I/N", help="Train but the I-th of N parts, for job arrays; rank nothing."),
    ] = None,
    out: OutOption = None,
    overwrite: OverwriteOption = False,
    resume: ResumeOption = None,
    plugin: PluginOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Train a grid of settings side by side, as seeds are, rank them on meta-validation tasks and test the winner."""
    load_plugins(plugin or [])
    out = resume_folder(resume, out)
    from mamlcli.cli.axes import split_axes

    settings, given = split_axes(set_ or [])
    axes: Any = given
    overrides = overrides_of(settings, seeds, device)
    begun = out if resume and out is not None and out.exists() else None
    resolved = resolve(name, config, begun, overrides, command="sweep", kind="sweep")
    if begun is not None and not axes:
        axes = _axes_of(begun)
    from mamlcli.cli.progress import Progress

    with Progress(quiet=quiet) as progress:
        from mamlcli.cli.sweep_report import sweep_report
        from mamlcli.commands.sweep import sweep as run_sweep
        from mamlcli.interrupts import SIGNALS, StopRequest

        result = run_sweep(
            resolved,
            axes,
            out=out,
            overwrite=overwrite,
            resume=resume is not None,
            jobs=jobs,
            part=_part(part),
            pick=pick,
            reporter=progress,
            stop=StopRequest(SIGNALS),
        )
    show(result.as_json(), sweep_report(result), as_json=as_json)


def _part(text: str | None) -> tuple[int, int] | None:
    """A part as it is typed: 2/16."""
    if text is None:
        return None
    found = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
    if found is None:
        raise UsageError(f"--part {text}: write I/N: --part 2/16 is the second of sixteen parts")
    return int(found[1]), int(found[2])


def _axes_of(folder: Path) -> Any:
    """The axes of the sweep that is resumed without them."""
    from mamlcli.commands.sweep_grid import axes_of
    from mamlcli.runs.choosing import RESUMING
    from mamlcli.runs.folder import open_run

    return axes_of(open_run(folder, "sweep", RESUMING["sweep"]))
