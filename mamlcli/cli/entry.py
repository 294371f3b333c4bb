"""The command `maml`, and what becomes of errors: a message and an exit code for what a user can cause."""

import errno
import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import Sequence
from contextlib import nullcontext, redirect_stderr, redirect_stdout, suppress
from io import TextIOWrapper
from pathlib import Path
from typing import NoReturn

from mamlcli.cli.app import app, maml
from mamlcli.cli.completion import join_words
from mamlcli.cores import let_waiting_threads_sleep
from mamlcli.errors import LostRankError, MamlError
from mamlcli.escaping import visible_lines
from mamlcli.plugins import users_lines
from mamlcli.proofs.obstacles import explained
from mamlcli.ranks import Ended, agreed_end, connected, place, wait_for_all_to_end

# Commands that all processes of a launcher work on; of others the first process does all, and the rest end at once.
_SHARING = ("train", "eval", "compare", "sweep", "reproduce")
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


def main() -> None:
    """Run a command; what the user can cause ends in a message and its exit code, never in a traceback.

    Of the processes of a launcher the first does what they do not share, and speaks for all.
    """
    let_waiting_threads_sleep()
    if place().is_first:
        _run()
    elif _shares_work(sys.argv[1:]):
        with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
            _run()


def _run() -> None:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that cannot show ± shows something else
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # a home without its cache is no news
    join_words(os.environ)
    try:
        with connected(tells=False) if _shares_work(sys.argv[1:]) else nullcontext():
            app(prog_name=maml.__name__, standalone_mode=True)
    except LostRankError as error:
        _fail(error.command_line, error.exit_code, has_lost=True)
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
            if place().size == 1:
                raise
            raise SystemExit(_say(Ended(1, traceback.format_exc()))) from None
        remedy = "use --set engine.task_chunk=N with a smaller N, or fewer seeds at once"
        _fail(f"out of memory: {remedy}; what was saved before is intact", 6)


def _shares_work(arguments: Sequence[str]) -> bool:
    return next((word for word in arguments if not word.startswith("-")), "") in _SHARING


def _is_out_of_memory(error: BaseException) -> bool:
    import torch

    said = ("not enough memory", "can't allocate memory", "Storage size calculation overflowed")
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(text in str(error) for text in said)


def _fail(message: str, exit_code: int, *, has_lost: bool = False) -> NoReturn:
    """End with a message and an exit code, or, where this process has lost the others, as the one that ended first."""
    ended = Ended(exit_code, "\n".join(_lines(message)))
    raise SystemExit(_say(ended, has_lost=has_lost))


def _lines(message: str) -> list[str]:
    return [line if line.startswith(" ") else f"maml: {line}" for line in visible_lines(message).splitlines()]


def _say(own: Ended, *, has_lost: bool = False) -> int:
    """Say how this command ends; the first of a launcher's processes does for all. Returns the exit code."""
    ended = agreed_end(own, has_lost=has_lost)
    if place().size > 1 and threading.current_thread() is threading.main_thread():
        # A launcher ends the others as soon as one has ended; each is about to, with a code that says more.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if ended.message and place().is_first:
        with suppress(OSError, ValueError):  # nobody may be listening
            print(ended.message, file=sys.stderr)
    if ended.is_known_to_all:
        wait_for_all_to_end()
    return ended.exit_code
