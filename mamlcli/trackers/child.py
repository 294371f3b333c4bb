"""The process of one tracker: `python -m mamlcli.trackers.child NAME` with a message a line on stdin.

Trackers are guests with habits of their own: one takes the place of sys.exit and stays until the interpreter ends,
one reads its settings when it is imported, and both tell their makers of what is done unless the environment says
otherwise. In a process of its own each may do so, and whatever it comes to there, the run does not hear of it.
"""

import json
import os
import queue
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

from mamlcli.trackers.destination import About, Destination, Place

# What of a user's own settings still holds: where a run belongs and what is noted of it, but not where it is sent.
_KEPT = ("WANDB_PROJECT", "WANDB_ENTITY", "WANDB_RUN_GROUP", "WANDB_JOB_TYPE", "WANDB_TAGS", "WANDB_NOTES")
_PREFIXES = ("WANDB_", "MLFLOW_")


def _settle(scratch: str) -> None:
    """Make this process's environment one in which nothing is sent, and nothing written beside the run."""
    for name in list(os.environ):
        if name.startswith(_PREFIXES) and name not in _KEPT:
            del os.environ[name]
    os.environ |= {
        "WANDB_MODE": "offline",
        "WANDB_SILENT": "true",
        "WANDB_ERROR_REPORTING": "false",
        "WANDB_CACHE_DIR": scratch,
        "WANDB_CONFIG_DIR": scratch,
        "WANDB_DATA_DIR": scratch,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        # File stores get no new features, and are refused unless this says that one is meant.
        "MLFLOW_ALLOW_FILE_STORE": "true",
    }


def _open(name: str, about: About) -> Destination:
    if name == "tensorboard":
        from mamlcli.trackers.tensorboard_files import TensorBoard

        return TensorBoard(about)
    if name == "wandb":
        from mamlcli.trackers.wandb_run import WeightsAndBiases

        return WeightsAndBiases(about)
    from mamlcli.trackers.mlflow_store import MLflow

    return MLflow(about)


def _follow(name: str, messages: "queue.SimpleQueue[dict[str, Any] | None]") -> None:
    """Do what the messages say, until one closes the tracker or there are no more, since who sent them is gone."""
    destination: Destination | None = None
    while message := messages.get():
        if about := message.get("about"):
            destination = _open(name, About(**about | {"folder": Path(about["folder"])}))
        assert destination is not None
        place = Place(*message["place"]) if "place" in message else None
        if place and "values" in message:
            destination.scalars(place, message["values"])
        elif place:
            destination.figure(place, Path(message["figure"]))
        elif "status" in message:
            destination.close(status=message["status"])
            return
    if destination:
        destination.close(status="failed")


def main() -> None:
    """Serve one tracker; a failure ends the process at once, with its last line on stderr."""
    messages: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()

    def listen() -> None:
        # Without end, so that a slow tracker holds up nobody who trains.
        for line in sys.stdin.buffer:
            messages.put(json.loads(line))
        messages.put(None)

    threading.Thread(target=listen, daemon=True).start()
    with tempfile.TemporaryDirectory() as scratch:
        _settle(scratch)
        try:
            _follow(sys.argv[1], messages)
            code, said = 0, ""
        except BaseException as error:
            code, said = 1, f"{error or type(error).__name__}"
    sys.stderr.write(f"\n{' '.join(said.split())}\n" if said else "")
    sys.stderr.flush()
    # The listener may wait still, and holds stdin: an orderly end would too.
    os._exit(code)


if __name__ == "__main__":
    main()
