"""What `maml configs` prints."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mamlcli.cli.tables import format_table
from mamlcli.escaping import visible

if TYPE_CHECKING:
    from mamlcli.config.copying import Copy
    from mamlcli.rows import CheckedFile, ConfigRow

_LEFT = ("name", "experiment", "expected time")


def configs_report(configs: "Sequence[ConfigRow]") -> str:
    """A table of what comes along, and what to do with it."""
    rows = [dict(zip(_LEFT, (row["name"], row["summary"], row["time"]), strict=True)) for row in configs]
    first = configs[0]
    return "\n".join(
        [
            format_table(rows, left=_LEFT),
            "",
            f"to run one     {first['command']}",
            f"to see it      maml configs show {first['name']}",
            f"to change it   maml configs cp {first['name']} mine.yaml",
            "also there     published results, which maml reproduce --list lists",
        ]
    )


def copy_report(name: str, path: Path, copied: "Copy") -> str:
    """Say what was copied, where its data are and what to run next."""
    lines = [f"{visible(str(path))} is a copy of {visible(name)}"]
    lines += [f"its data stay where they are: {file}" for file in copied.data]
    return "\n".join([*lines, f"next: {copied.next.command_line}"])


def checks_report(files: "Sequence[CheckedFile]") -> str:
    """A line for each file, and below it all that is wrong."""
    lines = []
    for file in files:
        count = len(file["problems"])
        said = f"ok, a {file['kind']}" if file["passed"] else f"{count} problem{'s' * (count != 1)}:"
        lines += [f"{file['file']}: {said}", *(f"  {problem}" for problem in file["problems"])]
    return "\n".join(lines)
