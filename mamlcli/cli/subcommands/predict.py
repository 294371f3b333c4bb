"""`maml predict`."""

from pathlib import Path
from typing import Annotated

import typer

from mamlcli.cli.options import DeviceOption, JsonOption, PluginOption, QuietOption, RunArgument, SetOption
from mamlcli.cli.shared import overrides_of, show
from mamlcli.plugins import load_plugins


def predict(
    support: Annotated[
        Path, typer.Option("--support", metavar="FILE", help="CSV: samples to adapt to; columns task, inputs, targets.")
    ],
    query: Annotated[
        Path, typer.Option("--query", metavar="FILE", help="CSV: where to predict; columns task, inputs.")
    ],
    run: RunArgument = None,
    steps: Annotated[
        int | None,
        typer.Option("--steps", metavar="N", min=0, help="Inner steps of adaptation; as trained if left out."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="The table of predictions: a CSV file to write.")
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option("--plot", metavar="FILE", help="Draw curves before and after adaptation: .png, .svg or .pdf."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the files of --out and --plot.")] = False,
    delimiter: Annotated[
        str, typer.Option("--delimiter", metavar="TEXT", help="What stands between two fields of the CSV files.")
    ] = ",",
    set_: SetOption = None,
    device: DeviceOption = None,
    plugin: PluginOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Adapt a run to your own tasks and predict them: each seed, their mean and spread, in the unit of your data.

    The columns are called as in the data that the run was trained on; tasks
    that are drawn, like sinusoids, have task, x and y, or x1, x2 of several.
    Files without a column for the task hold one task.

    The table has the rows of the query file in their order: task, inputs, and
    of each target the mean over seeds, <target>_sd, the standard deviation over
    seeds (empty for one), and <target>_seed<N>, what each seed predicts.
    """
    load_plugins(plugin or [])
    from mamlcli.cli.progress import Progress

    with Progress(quiet=quiet) as progress:
        from mamlcli.cli.prediction_report import predict_report
        from mamlcli.commands.predict import predict as run_predict
        from mamlcli.interrupts import SIGNALS, StopRequest

        result = run_predict(
            run,
            support=support,
            query=query,
            steps=steps,
            out=out,
            plot=plot,
            overwrite=overwrite,
            delimiter=delimiter,
            overrides=tuple(overrides_of(set_, None, device)),
            reporter=progress,
            stop=StopRequest(SIGNALS),
        )
    show(result.as_json(), predict_report(result), as_json=as_json)
