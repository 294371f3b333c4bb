"""The command line: parse, call a command, print, exit code; only this room prints."""

from mamlcli.cli.entry import main

__all__ = ["main"]
