"""What a run keeps of the data that its tasks were made from: enough to tell whether they are still the same."""

import json
from collections.abc import Mapping
from typing import Any

from mamlcli.errors import CheckpointError, UsageError
from mamlcli.reading import read_file
from mamlcli.runs.files import json_text
from mamlcli.runs.folder import RunFolder
from mamlcli.tasks.family import TaskFamily

NAME = "tasks.json"
_MAX_BYTES = 2**30


def write_record(run: RunFolder, family: TaskFamily) -> None:
    """Write tasks.json, unless it is there: what is known of the data, and the names of the tasks in each split."""
    if family.record and not (run.path / NAME).exists():
        splits = {split: list(names) for split, names in family.names.items()}
        run.write_text(NAME, json_text({"schema": "mamlcli.tasks/1", **family.record, "splits": splits}))


def check_record(run: RunFolder, family: TaskFamily) -> None:
    """Raise UsageError if a run was begun with other data; before it had its first checkpoint, too."""
    if not (run.path / NAME).exists():
        return
    try:
        found = json.loads(read_file(run.path / NAME, _MAX_BYTES))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{run.path / NAME}: cannot be read: {error}") from None
    if not isinstance(found, dict):
        raise CheckpointError(f"{run.path / NAME}: it is no record of a run's tasks")
    check_same_data({key: value for key, value in found.items() if key not in ("schema", "splits")}, family.record)


def check_same_data(kept: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise UsageError, saying what has changed, unless the data are those of the run."""
    different = [key for key in dict.fromkeys((*kept, *now)) if kept.get(key) != now.get(key)]
    if different:
        first = different[0]
        raise UsageError(
            f"the data of the tasks have changed since the run began: {first} was {_shown(kept.get(first))}, and is "
            f"{_shown(now.get(first))}; bring the old file back, or train a new run"
        )


def _shown(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 16 else f"{text[:12]}…"
