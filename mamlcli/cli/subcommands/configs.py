"""`maml configs` and its subcommands. They load torch for --json alone, whose shapes need it."""

import json
from pathlib import Path
from typing import Annotated

import typer

from mamlcli.cli.completion import complete_name, complete_name_or_file
from mamlcli.cli.help import App
from mamlcli.cli.options import JsonOption, PluginOption, SetOption
from mamlcli.cli.shared import overrides_of, show
from mamlcli.plugins import load_plugins

configs = App(
    no_args_is_help=True,
    help="Experiments that come along, and files of your own: list, show, copy, check.",
)


@configs.command("ls")
def list_(as_json: JsonOption = False) -> None:
    """List the experiments that come along: name, what it is, how long it takes."""
    from mamlcli.cli.config_report import configs_report
    from mamlcli.commands.configs import list_configs

    found = list_configs()
    fields = {}
    if as_json:
        from mamlcli.results import ConfigList

        fields = ConfigList(configs=found).as_json()
    show(fields, configs_report(found), as_json=as_json)


@configs.command("show")
def show_(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME|FILE",
            help="One that comes along, a row of maml reproduce, or a YAML file.",
            autocompletion=complete_name_or_file,
        ),
    ],
    set_: SetOption = None,
    plugin: PluginOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print an experiment as YAML with every key, after --set; to save it: maml configs show NAME > FILE."""
    load_plugins(plugin or [])
    from mamlcli.commands.configs import show_config
    from mamlcli.config.file import dump_config

    config = show_config(name, overrides_of(set_, None, None))
    fields = {}
    if as_json:
        from mamlcli.results import ShownConfig

        fields = ShownConfig(source=name, config=config).as_json()
    show(fields, dump_config(config).rstrip(), as_json=as_json)


@configs.command("cp")
def copy(
    name: Annotated[
        str,
        typer.Argument(help="One that comes along, or a row of maml reproduce.", autocompletion=complete_name),
    ],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The new file, or a folder for it.")],
    as_json: JsonOption = False,
) -> None:
    """Copy an experiment that comes along to a file of your own, comments and all; replaces none."""
    from mamlcli.cli.config_report import copy_report
    from mamlcli.commands.configs import copy_config

    path, copied = copy_config(name, file)
    fields = {}
    if as_json:
        from mamlcli.results import CopiedConfig

        fields = CopiedConfig(source=name, file=path, data=copied.data, next=copied.next.command_line).as_json()
    show(fields, copy_report(name, path, copied), as_json=as_json)


@configs.command()
def validate(
    files: Annotated[
        list[str],
        typer.Argument(metavar="FILE...", help="YAML files: configs, or rows.", autocompletion=complete_name_or_file),
    ],
    plugin: PluginOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check files and train nothing: says everything that is wrong, with its place. Exit 2 if anything is."""
    load_plugins(plugin or [])
    from mamlcli.cli.config_report import checks_report
    from mamlcli.commands.configs import check_config

    found = [check_config(file) for file in files]
    passed = all(file["passed"] for file in found)
    fields = {}
    if as_json:
        from mamlcli.results import CheckedConfigs

        fields = CheckedConfigs(passed=passed, files=found).as_json()
    show(fields, checks_report(found), as_json=as_json)
    if not passed:
        raise typer.Exit(2)


@configs.command()
def schema(
    rows: Annotated[bool, typer.Option("--rows", help="Of a row of maml reproduce, not of a config.")] = False,
    plugin: PluginOption = None,
) -> None:
    """Print the JSON schema by which editors complete and check a config.

    What comes along names its schema in its first line, and so does what maml configs cp copies. For plugins of your
    own, save theirs beside the config (maml configs schema --plugin FILE > own.json) and let its first line be:
    # yaml-language-server: $schema=own.json
    """
    load_plugins(plugin or [])
    from mamlcli.config.reference import config_schema, row_schema

    made = row_schema() if rows else config_schema()
    show(made, json.dumps(made, indent=2), as_json=False)
