"""Files that a user names: none is replaced unasked, and each is there whole or not at all."""

import io
from collections.abc import Iterable
from pathlib import Path

from matplotlib.figure import Figure

from mamlcli.errors import Remedy, RunFolderError, UsageError
from mamlcli.figures.style import DPI
from mamlcli.runs.files import write_atomic

FIGURE_KINDS: dict[str, dict[str, object]] = {
    ".png": {"dpi": DPI},
    ".svg": {"metadata": {"Date": None}},
    ".pdf": {"metadata": {"CreationDate": None}},
}
"""By the ending of a figure's file: how it is written."""


def check_writable(path: Path, *, overwrite: bool, read: Iterable[Path]) -> None:
    """Refuse a file that cannot be written, before anything is computed.

    Args:
        path: The file to write.
        overwrite: Whether it may be there already.
        read: Files that are read, none of which may be replaced.

    Raises:
        RunFolderError: If it is there and may not be, is no file, or its folder is not there.
        UsageError: If it is one of those that are read.
    """
    if path.exists() and any(other.exists() and path.samefile(other) for other in read):
        raise UsageError(f"{path} is read: name another file to write")
    if path.exists() and not path.is_file():
        raise RunFolderError(f"{path} is no file; name another")
    if path.exists() and not overwrite:
        raise RunFolderError(
            f"{path} exists already", Remedy("pass overwrite=True to replace it", "use --overwrite to replace it")
        )
    if not path.parent.is_dir():
        raise RunFolderError(f"{path}: cannot make it: there is no folder {path.parent}")


def check_figure(path: Path) -> None:
    """Raise UsageError unless a figure can be written under this name."""
    if path.suffix.lower() not in FIGURE_KINDS:
        raise UsageError(f"{path}: a figure's name ends with {', '.join(FIGURE_KINDS)}")


def write_figure(path: Path, figure: Figure) -> None:
    """Write a figure in the kind that its name says."""
    suffix, buffer = path.suffix.lower(), io.BytesIO()
    figure.savefig(buffer, format=suffix[1:], **FIGURE_KINDS[suffix])  # type: ignore[arg-type]
    write_atomic(path, buffer.getvalue())
