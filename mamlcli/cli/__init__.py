"""The command line: parse, call an experiment, print, exit code. Only this room prints."""

from mamlcli.cli.app import main

__all__ = ["main"]
