"""What `--help` shows: options as they are typed, commands in the order of use, and every key of a config."""

from collections.abc import Callable
from typing import Any, TypeVar

from typer import Typer
from typer.core import TyperCommand, TyperGroup

from mamlcli.plugins import load_plugins

Function = TypeVar("Function", bound=Callable[..., Any])

# The panels of `maml --help`, and the commands in each.
_PANELS = {
    "Begin": ("configs",),
    "Train and test": ("train", "sweep", "eval", "predict"),
    "Look at runs": ("runs", "report", "watch", "plot"),
    "Prove and compare": ("check-grads", "compare", "compare-orders", "reproduce"),
    "This machine": ("doctor", "completion"),
}
_ORDER = [name for names in _PANELS.values() for name in names]
# What is typed after an option, by the type that it is read as.
_TYPED = {"path": "PATH", "str": "TEXT", "int": "N", "float": "X"}


def _as_typed(params: list[Any]) -> list[Any]:
    """Name what is typed after each option that does not say it itself: nothing after a flag.

    Some versions of Typer write `--json <bool>`, which reads as if a word followed, and the type of an argument.
    """
    for param in params:
        if param.param_type_name == "argument":
            param.metavar = param.metavar or param.name.upper()
            param.display_type_rich = lambda ctx: None  # noqa: ARG005
        elif param.metavar is None:
            param.metavar = "" if param.is_flag else _typed(param)
    return params


def _typed(param: Any) -> str:
    bare = getattr(param, "bare_type", None)  # of Typer without Click
    name = str(bare() if bare else param.type.name)
    return _TYPED.get(name.lower(), name.upper())


class Command(TyperCommand):
    """A command whose options are shown as they are typed."""

    # Typer's own Click, or the library: it depends on the version of Typer.
    def get_params(self, ctx: Any) -> list[Any]:
        """List options and arguments for the help and for the parser."""
        return _as_typed(super().get_params(ctx))


class ConfigCommand(Command):
    """A command whose help lists the keys of a config, with those of the plugins that stand before `--help`."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the command's own help, and the keys with their defaults and meanings."""
        from mamlcli.config.reference import key_tables

        load_plugins(ctx.params.get("plugin") or [])
        super().format_help(ctx, formatter)
        for heading, rows in key_tables():
            with formatter.section((heading or "Keys of the config").replace("`", "").rstrip(".")):
                formatter.write_dl([(f"{key}: {default}", meaning.replace("`", "")) for key, default, meaning in rows])


class Group(TyperGroup):
    """The command `maml`, whose subcommands stand in the order of use."""

    def get_params(self, ctx: Any) -> list[Any]:
        """List its own options."""
        return _as_typed(super().get_params(ctx))

    def list_commands(self, ctx: Any) -> list[str]:
        """Name the commands, those without a panel last."""
        names = super().list_commands(ctx)
        return sorted(names, key=lambda name: _ORDER.index(name) if name in _ORDER else len(_ORDER))


class App(Typer):
    """A Typer whose commands have the help of this file, each in its panel."""

    def command(
        self, name: str | None = None, *, cls: type[TyperCommand] | None = None, **options: Any
    ) -> Callable[[Function], Function]:
        """Register a function, under its own name if none is given."""
        register = super().command

        def registered(function: Function) -> Function:
            given = _in_panel(name or function.__name__.replace("_", "-")) | options
            return register(name, cls=cls or Command, **given)(function)

        return registered

    def add_group(self, group: Typer, name: str) -> None:
        """Add commands that begin with a name of their own."""
        self.add_typer(group, name=name, cls=Group, **_in_panel(name))


def _in_panel(name: str) -> dict[str, Any]:
    return next(({"rich_help_panel": panel} for panel, names in _PANELS.items() if name in names), {})
