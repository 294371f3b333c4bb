"""The command `maml`, and what becomes of errors: a message and an exit code for what a user can cause."""

import errno
import logging
import os
import sys
from contextlib import suppress
from io import TextIOWrapper
from typing import NoReturn

from mamlcli.cli.app import app, maml
from mamlcli.cli.completion import join_words
from mamlcli.errors import MamlError
from mamlcli.escaping import visible_lines
from mamlcli.plugins import users_lines
from mamlcli.proofs.obstacles import explained

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


def main() -> None:
    """Run a command; what the user can cause ends in a message and its exit code, never in a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that cannot show ± shows something else
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # a home without its cache is no news
    join_words(os.environ)
    try:
        app(prog_name=maml.__name__, standalone_mode=True)
    except MamlError as error:
        _fail(error.command_line, error.exit_code)
    except KeyboardInterrupt:
        _fail("interrupted before anything was begun", 130)
    except Exception as error:
        if isinstance(error, RuntimeError) and (said := explained(error)) is not None:
            _fail(f"the meta-gradient cannot be computed: {said}", 2)
        if (said := users_lines(error)) is not None:
            _fail(f"a plugin raised an error:\n{said}", 1)
        if isinstance(error, OSError):
            kept = "; what was saved before is intact" if error.errno in _NO_ROOM else ""
            _fail(f"{error.filename or 'output'}: cannot read or write it: {error.strerror or error}{kept}", 3)
        if not isinstance(error, MemoryError | RuntimeError) or not _is_out_of_memory(error):
            raise
        remedy = "use --set engine.task_chunk=N with a smaller N, or fewer seeds at once"
        _fail(f"out of memory: {remedy}; what was saved before is intact", 6)


def _is_out_of_memory(error: BaseException) -> bool:
    import torch

    said = ("not enough memory", "can't allocate memory", "Storage size calculation overflowed")
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(text in str(error) for text in said)


def _fail(message: str, exit_code: int) -> NoReturn:
    with suppress(OSError, ValueError):  # nobody may be listening
        for line in visible_lines(message).splitlines():
            print(f"maml: {line}" if not line.startswith(" ") else line, file=sys.stderr)
    raise SystemExit(exit_code)
