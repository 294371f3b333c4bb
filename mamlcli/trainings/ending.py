"""What is said where a training ends early: what was saved, its figure, and the command that goes on."""

import shlex
from pathlib import Path

from mamlcli.errors import DivergedError, MamlError, Remedy
from mamlcli.plugins import typed_options
from mamlcli.runs.checkpoints import list_checkpoints
from mamlcli.runs.folder import RunFolder


def say_how_to_go_on(error: MamlError, command: str, run: RunFolder, saved: RunFolder, figure: Path | None) -> None:
    """Add to what ended a training early what there is of it, and how to go on.

    Args:
        error: An interruption, or a divergence.
        command: Which command was running, as it is typed.
        run: The folder of that command.
        saved: The run in it, or itself, whose newest checkpoint is named.
        figure: What was drawn of the losses so far; None where nothing was.
    """
    checkpoints = list_checkpoints(saved.checkpoints)
    lines = [f"  checkpoint   {checkpoints[0]}"] if checkpoints else []
    lines += [f"  figure       {figure}"] if figure else []
    path, config_file = shlex.quote(str(run.path)), shlex.quote(str(run.path / "config.yaml"))
    if isinstance(error, DivergedError):
        lr = f"{run.config().outer.lr / 10:g}"
        remedy = Remedy(
            f"to try smaller steps, train the config of {run.path} with outer.lr={lr}",
            f"to try smaller steps: maml {command} --config {config_file} --set outer.lr={lr}{typed_options()}",
        )
    else:
        remedy = Remedy(
            f"to go on, pass out={str(run.path)!r} and resume=True, with the same config",
            f"to go on: maml {command}{f' --config {config_file}' if run != saved else ''} --resume {path}"
            f"{typed_options()}",
        )
    error.say_more(lines, remedy)
