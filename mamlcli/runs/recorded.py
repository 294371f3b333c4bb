"""How work on a folder that holds runs goes, in its run.json."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import Any

from mamlcli.errors import MamlError
from mamlcli.runs.folder import RunFolder
from mamlcli.runs.provenance import utc_now


@contextmanager
def recorded(folder: RunFolder, said: dict[str, Any]) -> Iterator[None]:
    """Keep the run.json of a comparison or a reproduction true: that it is under way, and how it ended.

    Args:
        folder: It has a run.json.
        said: What else stands there from now on.
    """
    status = "failed"
    try:
        folder.write_info(folder.read_info() | {"status": "running"} | said)
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
            folder.write_info(folder.read_info() | {"status": status, "ended": utc_now()})
