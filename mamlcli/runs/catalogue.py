"""Which runs there are in a folder, and how each of them stands: the one reading that lists, hints and defaults share.

It reads run.json, and of a run that is under way the last line of its metrics. Nothing in a folder that is damaged, cut
off or somebody else's raises: it is said of it. Links are not followed, so that no run is met twice.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from mamlcli.errors import CheckpointError
from mamlcli.reading import open_file
from mamlcli.runs.files import read_json
from mamlcli.runs.info import KINDS, SELF_NAMED, UNRANKED, read_info
from mamlcli.runs.lock import is_held
from mamlcli.runs.loose import count

# A folder that was moved aside; an experiment may be named `an.old-one`.
_ASIDE = re.compile(r"\.old-\d{8}T\d{6}")
# Folders of a run in which no run is looked for.
_OWN = ("checkpoints", "evaluations")
_TAIL_BYTES = 2**16
UNFINISHED = ("interrupted", "killed", "stopped", "failed", UNRANKED)
"""How a run stands that can be gone on with."""


class Found(NamedTuple):
    """A folder that is a run, or was one."""

    path: Path
    info: Mapping[str, Any]
    """Its run.json; empty where that cannot be read."""
    problem: str | None = None
    """Why it cannot be used."""
    inside: bool = False
    """Whether it is a part of another, or was moved aside to make room."""

    @property
    def kind(self) -> str:
        """What made it; empty where that is not known."""
        return str(self.info.get("kind", ""))


def find_runs(root: Path, *, inside: bool = False) -> list[Found]:
    """Find the runs in a folder, itself among them, in no order.

    Args:
        root: The folder; one that is not there holds none.
        inside: Whether the parts of comparisons and reproductions are wanted too, and what was moved aside.
    """
    return list(_walk(root, inside=inside))


def _walk(root: Path, *, inside: bool) -> Iterator[Found]:
    waiting = [(root, False)]
    while waiting:
        folder, within = waiting.pop()
        try:
            with os.scandir(folder) as entries:
                is_folder = {entry.name: entry.is_dir(follow_symlinks=False) for entry in entries}
        except OSError as error:
            if SELF_NAMED.fullmatch(folder.name):
                yield Found(folder, {}, f"it cannot be read: {error.strerror}", within)
            continue
        found = _look(folder, is_folder, within=within)
        if found:
            yield found
            if not inside and found.kind != "train":
                continue
        within = within or bool(found and found.kind != "train")
        for name, is_one in is_folder.items():
            aside = bool(_ASIDE.search(name))
            if is_one and not name.startswith(".") and (inside or not aside) and not (found and name in _OWN):
                waiting.append((folder / name, within or aside))


def _look(folder: Path, names: Mapping[str, bool], *, within: bool) -> Found | None:
    """Say what a folder is by what stands in it; None if it is no run, nor was one."""
    looks_like_one = "config.yaml" in names and "checkpoints" in names
    if "run.json" not in names:
        return Found(folder, {}, "run.json is missing", within) if looks_like_one else None
    try:
        info = read_info(folder)
    except CheckpointError as error:
        return Found(folder, {}, str(error).removeprefix(f"{folder}: not a run: "), within)
    if info.get("kind") in KINDS:
        return Found(folder, info, None, within)
    return Found(folder, {}, "run.json does not say what made it", within) if looks_like_one else None


def status_of(found: Found) -> str:
    """Say in a word how a run stands: that it is running only while a process works in it."""
    if found.problem is not None:
        return "damaged"
    said = found.info.get("status")
    if said is None and (found.path / "reproduction.json").exists():  # an earlier version said nothing of those
        return "done"
    if said in (None, "running", "created"):
        return "running" if is_held(found.path) else "killed"
    if said == UNRANKED and any(is_held(run) for run in found.path.glob("runs/*") if run.is_dir()):
        return "running"
    return str(said)


def state(found: Found) -> str:
    """Say how a run stands and how far it has come."""
    if found.problem is not None:
        return f"damaged: {found.problem}"
    if found.kind != "train":
        return f"of {found.kind}, with runs inside"
    status = status_of(found)
    return f"{status} at step {steps_made(found, status)}"


def steps_made(found: Found, status: str) -> int:
    """How many meta-updates a training has made, as far as its last logged step says; run.json does where it ended."""
    made = count(found.info.get("outer_steps")) or 0
    if status in ("running", "killed"):
        made = max(made, count(last_row(found.path).get("step")) or 0)
    return made


def last_row(folder: Path) -> Mapping[str, Any]:
    """The last whole row of a run's metrics; empty where there is none."""
    with suppress(OSError), open_file(folder / "metrics.jsonl") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL_BYTES))
        for line in reversed(file.read(_TAIL_BYTES).splitlines(keepends=True)):
            with suppress(ValueError):
                if line.endswith(b"\n") and isinstance(row := read_json(line), dict):
                    return row
    return {}


def started(found: Found) -> str:
    """When a run was begun, in UTC; of a damaged one when its folder last changed."""
    said = found.info.get("started")
    if isinstance(said, str):
        return said
    try:
        return datetime.fromtimestamp(found.path.stat().st_mtime, UTC).isoformat()
    except OSError:
        return ""


def last_time(found: Found) -> str:
    """When work on a run ended last, or began, in UTC."""
    info, last = found.info, (found.info.get("sessions") or [{}])[-1]
    return str(last.get("ended") or last.get("started") or info.get("ended") or started(found))


def newest_first(runs: Sequence[Found]) -> list[Found]:
    """Runs by when work on them ended last; those that are damaged come behind."""
    return sorted(runs, key=lambda one: (one.problem is None, last_time(one)), reverse=True)


def finished(runs: Sequence[Found]) -> list[Found]:
    """The trainings among them that are done, the one that finished last first."""
    return newest_first([one for one in runs if one.kind == "train" and one.info.get("status") == "done"])
