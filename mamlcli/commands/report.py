"""`maml report`: runs as one page that needs no other file, and the same as Markdown."""

from collections.abc import Sequence
from pathlib import Path

from mamlcli.errors import UsageError
from mamlcli.pages.files import PAGE, write_report
from mamlcli.reporting import Reporter, Silent
from mamlcli.results import ReportResult
from mamlcli.runs.latest import latest_run
from mamlcli.runs.pointed import FolderLike, folder_of

_SUFFIXES = (".html", ".htm")


def report(
    *runs: FolderLike,
    out: str | Path | None = None,
    reporter: Reporter | None = None,
) -> ReportResult:
    """Write a report of runs: config, results, figures with values under the pointer, and where all of it comes from.

    Args:
        *runs: Folders of trainings, comparisons or reproductions, finished or not, or what these returned; the run that
            finished last under `outputs/` if none is named. Several stand side by side on one page.
        out: The page, whose name ends with .html; its Markdown is written beside it. None is `report.html` in the run
            folder, or for several runs in the working folder. A report that is there is replaced, and nothing else is.
        reporter: Hears which run is meant.

    Returns:
        Where both files are.

    Raises:
        UsageError: If `out` is no name of a page.
        CheckpointError: If one is no run folder.
        RunFolderError: If what is there is no report.
    """
    paths = list(map(folder_of, runs)) or [_latest(reporter or Silent())]
    page = Path(out) if out is not None else _default(paths)
    if page.suffix.lower() not in _SUFFIXES:
        raise UsageError(f"{page}: a report is a page, whose name ends with .html")
    beside = write_report(paths, page)
    return ReportResult(runs=paths, html=page, markdown=beside)


def _latest(reporter: Reporter) -> Path:
    path = latest_run().path
    reporter.note(f"reporting the run that finished last: {path}")
    return path


def _default(paths: Sequence[Path]) -> Path:
    return paths[0] / PAGE if len(paths) == 1 else Path(PAGE)
