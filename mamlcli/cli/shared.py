"""What the bodies of several commands have in common."""

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mamlcli.cli.colour import painted
from mamlcli.errors import CheckpointError, UsageError
from mamlcli.escaping import visible_lines

if TYPE_CHECKING:
    from mamlcli.config.file import Override


def overrides_of(
    set_: list[str] | None, seeds: str | None, device: str | None, grid: int | None = None
) -> "list[Override]":
    """Turn --seeds, --device and --grid into overrides like those of --set, which they come after."""
    from mamlcli.config.file import Override, parse_seeds

    overrides = [Override(text, f"--set {text}") for text in set_ or []]
    if seeds is not None:
        overrides.append(Override(f"seeds={parse_seeds(seeds, '--seeds')}", f"--seeds {seeds}"))
    if device is not None:
        overrides.append(Override(f"device={device}", f"--device {device}", says_key=True))
    if grid is not None:
        overrides.append(Override(f"evaluation.grid={grid}", f"--grid {grid}"))
    return overrides


def resume_folder(resume: str | None, out: Path | None) -> Path | None:
    """Find the folder that --resume and --out name together."""
    if resume is None:
        return out
    if resume == "auto":
        if out is None:
            raise UsageError("--resume auto continues or starts the run in --out: name that folder")
        return out
    if out is not None and out != Path(resume):
        raise UsageError("--resume RUN continues the run in RUN; leave --out away")
    if not Path(resume).is_dir():
        raise CheckpointError(f"{resume}: no such run folder")
    return Path(resume)


def show(fields: dict[str, Any], text: str, *, as_json: bool) -> None:
    """Print a result on stdout: one JSON object, or what a person reads."""
    try:
        print(json.dumps(fields, allow_nan=False) if as_json else painted(visible_lines(text)), flush=True)
    except OSError as error:
        # Whoever read our output has left, or it does not fit; the interpreter flushes what is left of it elsewhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            raise
