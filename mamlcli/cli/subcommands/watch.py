"""`maml watch`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mamlcli.cli.options import PluginOption
from mamlcli.escaping import visible_lines
from mamlcli.plugins import load_plugins

if TYPE_CHECKING:
    from mamlcli.commands.watch import Served


def watch(
    run: Annotated[Path, typer.Argument(help="The run folder.")],
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, metavar="N", help="The port; 0 takes one that is free.")
    ] = 0,
    plugin: PluginOption = None,
) -> None:
    """Serve the report of a run on this machine while it goes on; the page updates itself. Ctrl-C ends it.

    The address holds a token, and nothing but the page is served. The run is only read.
    """
    load_plugins(plugin or [])
    from mamlcli.commands.watch import watch as run_watch
    from mamlcli.interrupts import SIGNALS, StopRequest

    run_watch(run, port=port, on_ready=_say, stop=StopRequest(SIGNALS))


def _say(served: "Served") -> None:
    lines = (f"watching     {served.run}", f"page         {served.address}", "", "Ctrl-C ends it")
    print(visible_lines("\n".join(lines)), flush=True)
