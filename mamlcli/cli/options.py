"""The options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

from mamlcli.cli.completion import (
    complete_config,
    complete_config_file,
    complete_device,
    complete_resume,
    complete_run,
    complete_set,
)

NameArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="NAME",
        help="The experiment: one that comes along, see maml configs ls.",
        autocompletion=complete_config,
    ),
]
ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        metavar="FILE|NAME",
        help="The experiment: a YAML file, or one that comes along.",
        autocompletion=complete_config_file,
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY.PATH=VALUE",
        help="Change a key of the config; values as in the file.",
        autocompletion=complete_set,
    ),
]
RunArgument = Annotated[
    Path | None,
    typer.Argument(
        help="A run folder or a checkpoint file; the run that finished last when left out.",
        autocompletion=complete_run,
    ),
]
SeedsOption = Annotated[
    str | None, typer.Option("--seeds", metavar="LIST", help="Seeds to train side by side: 0-4 or 0,3,7.")
]
JobsOption = Annotated[
    int | None,
    typer.Option(
        "--jobs",
        metavar="N",
        min=1,
        help="Processes that train at a time, where one does not train all; one for each core when left out.",
    ),
]
DeviceOption = Annotated[
    str | None,
    typer.Option("--device", metavar="auto|cpu|cuda|mps", help="Where to compute.", autocompletion=complete_device),
]
OutOption = Annotated[
    Path | None, typer.Option("--out", metavar="DIR", help="The folder to write, instead of a new one.")
]
OverwriteOption = Annotated[
    bool, typer.Option("--overwrite", help="Move a run that is in --out aside, to DIR.old-<time>.")
]
ResumeOption = Annotated[
    str | None,
    typer.Option(
        "--resume",
        metavar="RUN|auto",
        help="Continue the run in folder RUN; auto: the one in --out if it is there, otherwise start it.",
        autocompletion=complete_resume,
    ),
]
PluginOption = Annotated[
    list[str] | None,
    typer.Option(
        "--plugin",
        is_eager=True,  # so that a plugin before --help has its keys in there
        metavar="FILE|MODULE",
        help="A Python file or module with families, models or methods of your own; repeatable.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, only warnings and the result.")]
