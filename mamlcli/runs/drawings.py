"""What draws a figure of a run again: a file beside it."""

import json
from pathlib import Path

from mamlcli.errors import CheckpointError
from mamlcli.figures.by_name import FIGURES
from mamlcli.figures.drawing import Drawing
from mamlcli.reading import read_file
from mamlcli.runs.files import read_json, write_atomic

SCHEMA = "mamlcli.figure/1"
DRAWING = ".figure.json"
"""What such a file's name ends with."""
_MAX_BYTES = 2**28


def write_drawing(path: Path, drawing: Drawing) -> None:
    """Write what draws a figure again; nothing for one that is drawn by a method of one's own."""
    if not isinstance(drawing.figure, str):
        return
    labels, rows = dict(drawing.labels), list(drawing.rows)
    text = json.dumps({"schema": SCHEMA, "figure": drawing.figure, "labels": labels, "rows": rows}, allow_nan=False)
    write_atomic(path, text.encode())


def read_drawing(path: Path) -> Drawing:
    """Read what draws a figure again.

    Raises:
        CheckpointError: If the file cannot be read, or is none.
    """
    try:
        found = read_json(read_file(path, _MAX_BYTES))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: cannot be read: {error}") from None
    if not _is_drawing(found):
        raise CheckpointError(f"{path}: not what draws a figure of this version ({SCHEMA})")
    return Drawing(found["figure"], found["rows"], found["labels"])


def drawings(folder: Path) -> dict[str, Path]:
    """The figures of a folder that can be drawn again: the stem of each file's name, and what draws it."""
    return {path.name.removesuffix(DRAWING): path for path in sorted(folder.glob(f"*{DRAWING}"))}


def _is_drawing(found: object) -> bool:
    return (
        isinstance(found, dict)
        and found.get("schema") == SCHEMA
        and found.get("figure") in FIGURES
        and isinstance(found.get("labels"), dict)
        and isinstance(rows := found.get("rows"), list)
        and all(isinstance(row, dict) for row in rows)
    )
