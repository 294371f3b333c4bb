"""The help of the commands that read a config: it goes on with every key."""

from typing import Any

from typer.core import TyperCommand

from mamlcli.plugins import load_plugins


class ConfigCommand(TyperCommand):
    """A command whose help lists the keys of a config, with those of the plugins that stand before `--help`."""

    # Typer's own Click, or the library: it depends on the version of Typer.
    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the command's own help, and the keys with their defaults and meanings."""
        from mamlcli.config.reference import key_tables

        load_plugins(ctx.params.get("plugin") or [])
        super().format_help(ctx, formatter)
        for heading, rows in key_tables():
            with formatter.section((heading or "Keys of the config").replace("`", "").rstrip(".")):
                formatter.write_dl([(f"{key}: {default}", meaning.replace("`", "")) for key, default, meaning in rows])
