"""What run.json says, and which folders are meant: read by everything that looks at runs, so it loads no torch."""

import re
from pathlib import Path
from typing import Any

from mamlcli.errors import CheckpointError
from mamlcli.reading import read_file
from mamlcli.runs.files import read_json

OUTPUTS = Path("outputs")
KINDS = ("train", "compare-orders", "compare", "reproduce", "sweep")
"""What makes folders with a run.json."""
UNRANKED = "unranked"
"""How a folder of runs stands that are trained by others, none of which holds it, until somebody has ranked them."""
SELF_NAMED = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{4}")
"""What the program calls a new folder."""
_MAX_BYTES = 2**24


def read_info(folder: Path) -> dict[str, Any]:
    """Read the run.json of a folder.

    Raises:
        CheckpointError: If it cannot be read, or does not hold what a run writes.
    """
    try:
        info = read_json(read_file(folder / "run.json", _MAX_BYTES))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder}: not a run: run.json cannot be read ({error})") from None
    if not isinstance(info, dict) or not are_objects(info.get("sessions", [])):
        raise CheckpointError(f"{folder}: not a run: run.json does not hold what a run writes")
    return info


def are_objects(value: Any) -> bool:
    """Whether it is a list of JSON objects."""
    return isinstance(value, list) and all(isinstance(item, dict) for item in value)


def is_self_named(folder: Path, name: str) -> bool:
    """Whether a folder is called as the program calls one of an experiment: `<name>/<UTC time>-<4 hex>`."""
    return bool(SELF_NAMED.fullmatch(folder.name)) and folder.parent.name == name
