"""A report as two files: the page, and beside it the same as Markdown."""

from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from mamlcli.errors import RunFolderError
from mamlcli.pages.html import GENERATOR, html
from mamlcli.pages.several import runs_page
from mamlcli.pages.text import MARK, markdown
from mamlcli.reading import read_file
from mamlcli.runs.contents import read_contents
from mamlcli.runs.files import write_atomic

PAGE = "report.html"
"""What a report is called where nobody says otherwise."""
_MAX_BYTES = 2**28


def write_report(runs: Sequence[Path], out: Path) -> Path:
    """Write the report of runs as HTML to `out`, and as Markdown beside it; returns the path of that.

    Raises:
        CheckpointError: If one is no run folder.
        RunFolderError: If what is no report of ours would be replaced, or the folder is missing.
    """
    beside = out.with_suffix(".md")
    contents = [read_contents(run) for run in runs]
    check_replaceable(out, f'content="{GENERATOR}"')
    check_replaceable(beside, MARK)
    page = runs_page(contents, written_now())
    write_atomic(out, html(page).encode())
    write_atomic(beside, markdown(page, out.parent).encode())
    return beside


def written_now() -> str:
    """When a page was made, and by what."""
    return f"Written {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC by mamlcli {version('mamlcli')}."


def check_replaceable(path: Path, mark: str) -> None:
    """Raise RunFolderError unless a file can be written there that replaces nothing but a report."""
    if not path.parent.is_dir():
        raise RunFolderError(f"{path}: cannot make it: there is no folder {path.parent}")
    if not path.exists():
        return
    if path.is_file() and mark.encode() in read_file(path, _MAX_BYTES):
        return
    raise RunFolderError(f"{path} exists already and is no report; name another file")
