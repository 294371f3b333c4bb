"""Which experiment a command is about: one that comes along, by name, a file, or that of a run."""

from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, NoReturn

from mamlcli.config.shipped import as_row, near, row_named, shipped_configs
from mamlcli.errors import UsageError
from mamlcli.escaping import shorten, visible

if TYPE_CHECKING:
    from mamlcli.config.experiment import Config
    from mamlcli.config.file import Override


def resolve(
    name: str | None,
    config: Path | None,
    run: Path | None,
    overrides: "list[Override]",
    *,
    command: str,
    kind: str = "train",
) -> "Config":
    """Read the config that is named, or that of the run that is resumed without one.

    Args:
        name: One that comes along, by its name alone.
        config: A path, or the name of one that comes along.
        run: The run that is resumed.
        overrides: What is changed of it.
        command: The command that asks, for what it tells to type.
        kind: What made that run.

    Raises:
        UsageError: If none is named, or two are, or what is named is no config.
    """
    from mamlcli.config.file import dump_config, load_config, parse_config

    path = _path(name, config, command)
    if path is not None:
        return load_config(path, overrides)
    if run is None or not run.exists():
        raise UsageError(
            f"no experiment is named; try: maml {command} quickstart (maml configs ls lists what comes along; a file "
            "of your own goes to --config FILE)"
        )
    from mamlcli.runs.choosing import RESUMING
    from mamlcli.runs.folder import open_run
    from mamlcli.runs.link import followed

    own = open_run(followed(run), kind, RESUMING[command]).config()
    # What is set is said by someone in the working folder, where names of files in it start from.
    return parse_config(dump_config(own), source=str(run / "config.yaml"), overrides=overrides)


def _path(name: str | None, config: Path | None, command: str) -> Path | None:
    """The file of what is named, by its name or with --config."""
    if name is None:
        return config
    if config is not None:
        raise UsageError(f"{_shown(name)} and --config {_shown(str(config))} are two experiments: name one of them")
    return shipped_configs().get(name) or _refuse(name, command)


def _refuse(name: str, command: str) -> NoReturn:
    """Say what to do with a name that is none of a config that comes along."""
    from mamlcli.config.file import is_published

    path, shown, close = Path(name), _shown(name), near(name, shipped_configs())
    if row_named(name) is not None or (path.is_file() and is_published(path)):
        raise UsageError(f"{shown} is a row of published results, not a config; {as_row(name).command_line}")
    if path.is_file():
        raise UsageError(f"{shown} is a file, which goes to --config: maml {command} --config {quote(name)}")
    if close is not None and close == path.stem:
        raise UsageError(f"there is no file {shown}; the config {close} comes along: maml {command} {close}")
    hint = f"did you mean '{close}'? " if close else ""
    raise UsageError(f"no config is named {shown}; {hint}maml configs ls lists what there is; a file goes to --config")


def _shown(name: str) -> str:
    return visible(shorten(name))
