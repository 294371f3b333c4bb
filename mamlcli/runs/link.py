"""`outputs/<name>/latest`: a link to the run of that name that finished last.

It is made in the folders that the program names itself, by a training that ends whole, and it moves on when that run is
continued or moved aside. Where a system makes no links, as Windows without the right to, there is none, which is no
error; whatever else is called `latest` is left alone.
"""

import os
import secrets
from contextlib import suppress
from pathlib import Path

from mamlcli.runs.catalogue import find_runs, finished
from mamlcli.runs.info import SELF_NAMED, is_self_named

LATEST = "latest"


def followed(path: Path) -> Path:
    """The run that is meant by a path that may be such a link."""
    return path.parent / path.readlink() if path.name == LATEST and path.is_symlink() else path


def point_to(run: Path, name: str) -> None:
    """Make a run the latest of its experiment's name, if the program named its folder."""
    run = Path(os.path.abspath(run))  # noqa: PTH100 (of "." and "..", without following links)
    if is_self_named(run, name):
        _point(run.parent / LATEST, run.name)


def move_on(run: Path) -> None:
    """Point elsewhere if a run is the latest, and is no more: to the one that finished before it, or nowhere."""
    run = Path(os.path.abspath(run))  # noqa: PTH100
    link = run.parent / LATEST
    if not link.is_symlink() or link.readlink() != Path(run.name):
        return
    beside = [one for one in find_runs(run.parent) if one.path.parent == run.parent and one.path != run]
    others = finished([one for one in beside if SELF_NAMED.fullmatch(one.path.name)])
    if others:
        _point(link, others[0].path.name)
        return
    with suppress(OSError):
        link.unlink()


def _point(link: Path, target: str) -> None:
    """Replace a link by one to a folder beside it, at once."""
    if link.exists() and not link.is_symlink():
        return
    temporary = link.with_name(f".{LATEST}.{secrets.token_hex(4)}.tmp")
    with suppress(OSError, NotImplementedError):
        temporary.symlink_to(target, target_is_directory=True)
        try:
            temporary.replace(link)
        except OSError:  # Windows replaces no link to a folder
            link.unlink(missing_ok=True)
            temporary.rename(link)
    with suppress(OSError):
        temporary.unlink(missing_ok=True)
