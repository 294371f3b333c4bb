"""The files of checkpoints: their names, and the hash beside each that says that it is whole. Loads no torch."""

import hashlib
import re
from pathlib import Path

from mamlcli.reading import open_file

_NAME = re.compile(r"step-(\d{1,12})\.pt")


def is_checkpoint_name(name: str) -> bool:
    """Whether a checkpoint of a run is called so."""
    return bool(_NAME.fullmatch(name))


def list_checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoint files of a folder, the newest step first."""
    return sorted((path for path in folder.glob("step-*.pt") if is_checkpoint_name(path.name)), key=step_of)[::-1]


def step_of(path: Path) -> int:
    """The step in a checkpoint's name; -1 for another name."""
    match = _NAME.fullmatch(path.name)
    return int(match[1]) if match else -1


def hash_path(path: Path) -> Path:
    """Where the hash of a checkpoint is."""
    return path.with_name(path.name + ".sha256")


def read_hash(path: Path) -> str:
    """What stands in the file of a hash: a line, or two while a checkpoint is being replaced."""
    with open_file(path) as file:
        return file.read(2**16).decode("utf-8", "replace")


def damage(path: Path) -> str | None:
    """Say why a checkpoint of a run is not whole; None if it is, by its hash. What is in it is not looked at."""
    if not hash_path(path).exists():
        return f"{hash_path(path).name} is missing"
    try:
        found = hashlib.sha256()
        with open_file(path) as file:
            while part := file.read(2**20):
                found.update(part)
        known = read_hash(hash_path(path)).splitlines()
    except OSError as error:
        return f"it cannot be read: {error.strerror}"
    return None if found.hexdigest() in [line[:64] for line in known] else "its SHA-256 is another"
