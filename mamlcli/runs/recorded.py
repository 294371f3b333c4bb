"""How work on a folder that holds runs goes, in its run.json."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import Any

import torch

from mamlcli.errors import MamlError
from mamlcli.plugins import loaded_plugins
from mamlcli.runs.folder import RunFolder
from mamlcli.runs.provenance import new_session, utc_now


@contextmanager
def recorded(folder: RunFolder, said: dict[str, Any], device: torch.device) -> Iterator[None]:
    """Keep the run.json of a folder that holds runs true: who works on it, since when, and how it ended.

    Args:
        folder: It has a run.json.
        said: What else stands there from now on.
        device: Where it computes.
    """
    status, session, before = "failed", new_session(device), folder.read_info()
    sessions = [*before.get("sessions", []), session]
    plugins = {"plugins": loaded} if (loaded := loaded_plugins()) else {}
    try:
        folder.write_info(before | {"status": "running", "sessions": sessions} | plugins | said)
        yield
        status = "done"
    except MamlError as error:
        status = error.status
        raise
    except KeyboardInterrupt:  # of a program without a handler of signals
        status = "interrupted"
        raise
    finally:
        # What ended it is said, not that its end could not be written.
        with nullcontext() if status == "done" else suppress(OSError):
            ended = utc_now()
            session["ended"] = ended
            folder.write_info(folder.read_info() | {"status": status, "sessions": sessions, "ended": ended})
