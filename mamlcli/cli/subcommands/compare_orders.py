"""`maml compare-orders`."""

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


def compare_orders(
    name: NameArgument = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    seeds: SeedsOption = None,
    device: DeviceOption = None,
    out: OutOption = None,
    overwrite: OverwriteOption = False,
    resume: ResumeOption = None,
    plugin: PluginOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Train first and second order from the same start on the same tasks, and compare loss, direction and cost."""
    load_plugins(plugin or [])
    out = resume_folder(resume, out)
    resolved = resolve(name, config, None, overrides_of(set_, seeds, device), command="compare-orders")
    from mamlcli.cli.progress import Progress

    with Progress(quiet=quiet) as progress:
        from mamlcli.cli.comparison_report import comparison_report
        from mamlcli.commands.compare_orders import compare_orders as run_compare
        from mamlcli.interrupts import SIGNALS, StopRequest

        result = run_compare(
            resolved,
            out=out,
            overwrite=overwrite,
            resume=resume is not None,
            reporter=progress,
            stop=StopRequest(SIGNALS),
        )
    show(result.as_json(), comparison_report(result, resolved), as_json=as_json)
