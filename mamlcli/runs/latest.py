"""The run that is meant where none is named."""

import re
from contextlib import suppress
from pathlib import Path
from typing import Any

from mamlcli.errors import CheckpointError, Remedy
from mamlcli.runs.folder import RunFolder
from mamlcli.runs.info import KINDS, OUTPUTS

# Folders that were moved aside, or are being made; an experiment may be named `an.old-one`.
_PASSED_OVER = re.compile(r"\.old-\d{8}T\d{6}|^\..*\.tmp$")
# How many folders a message names.
_NAMED = 5


def latest_run(root: Path = OUTPUTS) -> RunFolder:
    """Find the run that finished last and is no part of a comparison or a reproduction.

    Raises:
        CheckpointError: If there is none; it names what there is.
    """
    found = _folders(root)
    finished = {path: info for path, info in found.items() if info["kind"] == "train" and info.get("status") == "done"}
    if finished:
        return RunFolder(max(finished, key=lambda path: _last_time(finished[path])))
    if not found:
        one_first = "name one, or train one first"
        remedy = Remedy(f"{one_first}: mamlcli.train(config)", f"{one_first}: maml train --config FILE")
        raise CheckpointError(f"no run found in {root}/", remedy)
    newest = sorted(found, key=lambda path: _last_time(found[path]), reverse=True)
    lines = [f"  {path}: {_state(found[path])}" for path in newest[:_NAMED]]
    more = [f"  and {len(newest) - _NAMED} more"] if len(newest) > _NAMED else []
    choose = "name the one to evaluate, or finish one"
    raise CheckpointError(
        "\n".join([f"no run in {root}/ has finished; there are:", *lines, *more]),
        Remedy(f"{choose}: mamlcli.train(config, out=..., resume=True)", f"{choose}: maml train --resume RUN"),
    )


def _folders(root: Path) -> dict[Path, dict[str, Any]]:
    """Our folders under a root, each with its run.json, less those inside others and those that were moved aside."""
    infos: dict[Path, dict[str, Any]] = {}
    for path in root.rglob("run.json"):
        if not any(_PASSED_OVER.search(part) for part in path.parts):
            infos[path.parent] = {}
            with suppress(CheckpointError):  # what cannot be read is not the one that was meant
                infos[path.parent] = RunFolder(path.parent).read_info()
    around = {path for path, info in infos.items() if info.get("kind") != "train"}
    return {path: info for path, info in infos.items() if info.get("kind") in KINDS and around.isdisjoint(path.parents)}


def _last_time(info: dict[str, Any]) -> str:
    """When work on a folder ended last, or began, in UTC."""
    sessions = info.get("sessions") or [{}]
    return str(sessions[-1].get("ended") or sessions[-1].get("started") or info.get("started", ""))


def _state(info: dict[str, Any]) -> str:
    """Say how far a folder has come, of which none has finished."""
    if info["kind"] != "train":
        return f"of {info['kind']}, with runs inside"
    if info.get("status") == "running":
        return "running, or killed"
    return f"{info.get('status')} at step {info.get('outer_steps')}"
