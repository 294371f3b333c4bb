"""An experiment that comes along, as a file of a user's own: what is relative in it is made to hold where it lands."""

import json
import re
from pathlib import Path
from shlex import quote
from typing import NamedTuple

from mamlcli.config.file import load_config
from mamlcli.config.shipped import SCHEMA_LINE, shipped_configs, shipped_rows, unknown_name
from mamlcli.errors import Remedy, UsageError
from mamlcli.escaping import shorten, visible


class Copy(NamedTuple):
    """A file to write."""

    text: str
    next: Remedy
    """What reads or runs it."""
    data: list[Path]
    """Files of data that it names, where they are."""


def copy_of(name: str, file: Path) -> Copy:
    """Make the text of a copy.

    Its schema and its data are named where they are now, and the command in its head is the one that runs the copy.

    Args:
        name: Of a config, or of a row of published results.
        file: Where it is to land, as the user says it.

    Raises:
        UsageError: If nothing of that name comes along.
    """
    configs, rows = shipped_configs(), shipped_rows()
    source = configs.get(name) or rows.get(name)
    if source is None:
        raise UsageError(f"nothing that comes along is named {visible(shorten(name))!r}", unknown_name(name))
    first, command, *rest = source.read_text("utf-8").split("\n")
    schema = (source.parent / first.removeprefix(SCHEMA_LINE)).resolve()
    runs = _running(command.removeprefix("# ").removesuffix(f" {name}"), file, is_row=name in rows)
    text, data = "\n".join([SCHEMA_LINE + schema.as_uri(), f"# {runs.command_line}", *rest]), list[Path]()
    tasks = load_config(source).tasks if name in configs else None
    for key in tasks.place_keys if tasks else ():
        data.append(Path(getattr(tasks, key)))
        value = json.dumps(str(data[-1]), ensure_ascii=False)
        text = re.sub(rf"(?m)^( *{key}: ).*$", lambda line, value=value: line[1] + value, text)  # type: ignore[misc]
    return Copy(text, runs, data)


def _running(command: str, file: Path, *, is_row: bool) -> Remedy:
    named = quote(str(file))
    if is_row:
        return Remedy(f"reproduce([{str(file)!r}])", f"{command} {named}")
    return Remedy(f"train(load_config({str(file)!r}))", f"{command} --config {named}")
