"""`maml doctor`."""

import typer

from mamlcli.cli.chosen import resolve
from mamlcli.cli.options import ConfigOption, JsonOption, NameArgument, PluginOption, QuietOption, SetOption
from mamlcli.cli.shared import overrides_of, show
from mamlcli.plugins import load_plugins


def doctor(
    name: NameArgument = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    plugin: PluginOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Look at this machine: versions, cores, devices, the kernel, disk, what auto chooses. Exit 1 if one is broken."""
    load_plugins(plugin or [])
    asked = name if name or config else "quickstart"
    resolved = resolve(asked, config, None, overrides_of(set_, None, None), command="doctor")
    from mamlcli.cli.progress import Progress

    with Progress(quiet=quiet) as progress:
        from mamlcli.cli.doctor_report import doctor_report
        from mamlcli.commands.doctor import doctor as run_doctor

        found = run_doctor(resolved, reporter=progress)
    show(found.as_json(), doctor_report(found), as_json=as_json)
    if not found.works:
        raise typer.Exit(1)
