"""`maml plot`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from mamlcli.cli.options import JsonOption
from mamlcli.cli.shared import show


def plot(
    run: Annotated[
        Path | None,
        typer.Argument(help="A run folder, or one of an evaluation; the run that finished last when left out."),
    ] = None,
    what: Annotated[
        list[str] | None,
        typer.Option("--what", metavar="FIGURE", help="loss, adaptation, fits, …; repeatable; all when left out."),
    ] = None,
    format_: Annotated[
        list[str] | None,
        typer.Option("--format", metavar="png|svg|pdf", help="Repeatable; png and svg when left out."),
    ] = None,
    width: Annotated[
        Literal["column", "page"] | None,
        typer.Option("--width", help="3.4 inches, a column of two, or 7.0, the page (the default)."),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="The file to write, or a folder for several.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that are there already.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Draw the figures of a run again from what it keeps, computing nothing: for a paper, or in a new version's style.

    The loss of a run can be drawn while it trains; adaptation and fits come
    from maml eval, learning and cosine from maml compare-orders, differences from
    that and from maml compare.

    Without --format, --width and --out the figures in the run's folder are
    replaced. Else they go to the working folder, or where --out says, as
    fits.pdf, or with --width as fits-column.pdf.
    """
    from mamlcli.commands.plot import redraw

    formats = [name for text in format_ or [] for name in text.split(",")]
    result = redraw(run, what=what or [], formats=formats, width=width, out=out, overwrite=overwrite)
    files = [f"{one['what']:<12} {path}" for one in result.figures for path in one["files"]]
    show(result.as_json(), "\n".join(files), as_json=as_json)
