"""`maml reproduce`."""

from typing import Annotated

import typer

from mamlcli.cli.completion import complete_group, complete_row
from mamlcli.cli.options import JobsOption, JsonOption, OutOption, QuietOption, ResumeOption
from mamlcli.cli.shared import resume_folder, show


def reproduce(
    rows: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="ROW",
            help="Which rows, by name or YAML file; all when neither rows nor groups are named.",
            autocompletion=complete_row,
        ),
    ] = None,
    groups: Annotated[
        list[str] | None,
        typer.Option(
            "--group",
            metavar="GROUP",
            help="All rows of a group too, as --list names them; may be repeated.",
            autocompletion=complete_group,
        ),
    ] = None,
    list_: Annotated[bool, typer.Option("--list", help="List the rows and train nothing.")] = False,
    seeds: Annotated[
        str | None, typer.Option("--seeds", metavar="LIST", help="Seeds of every row: 0-4 (the default) or 0,3,7.")
    ] = None,
    fast: Annotated[
        bool, typer.Option("--fast", help="1,000 steps, 50 tasks, 2 seeds: that it runs, no more.")
    ] = False,
    jobs: JobsOption = None,
    out: OutOption = None,
    resume: ResumeOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Bring back published results: each beside the published number, with intervals and a verdict."""
    from mamlcli.cli.progress import Progress
    from mamlcli.config.file import parse_seeds

    if list_:
        _show_rows(rows or [], groups or [], as_json=as_json, quiet=quiet)
        return
    chosen = None if seeds is None else parse_seeds(seeds, "--seeds")
    out = resume_folder(resume, out)
    with Progress(quiet=quiet) as progress:
        from mamlcli.cli.reproduction_report import reproduction_report
        from mamlcli.commands.reproduce import reproduce as run_reproduce
        from mamlcli.interrupts import SIGNALS, StopRequest

        result = run_reproduce(
            rows or [],
            groups=groups or [],
            seeds=chosen,
            fast=fast,
            jobs=jobs,
            out=out,
            resume=resume is not None,
            reporter=progress,
            stop=StopRequest(SIGNALS),
        )
    show(result.as_json(), reproduction_report(result), as_json=as_json)


def _show_rows(names: list[str], groups: list[str], *, as_json: bool, quiet: bool) -> None:
    from mamlcli.cli.progress import Progress

    with Progress(quiet=quiet):
        from mamlcli.cli.reproduction_report import rows_report
        from mamlcli.commands.reproduction_rows import load_rows
        from mamlcli.pages.reproduction import protocol
        from mamlcli.results import RowList
        from mamlcli.rows import ListedRow

        found = load_rows(names, groups)
        listed = RowList(rows=[ListedRow(row=name, protocol=protocol(row), **dict(row)) for name, row in found.items()])
    show(listed.as_json(), rows_report(found), as_json=as_json)
