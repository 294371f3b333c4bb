"""The commands. Torch and the experiments are imported inside their bodies, once the config is known to be good.

So `maml --help` and the answer to a wrong config stay fast.
"""

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mamlcli.cli.help import ConfigCommand
from mamlcli.cli.options import (
    ConfigOption,
    DeviceOption,
    JsonOption,
    OutOption,
    OverwriteOption,
    PluginOption,
    QuietOption,
    ResumeOption,
    SeedsOption,
    SetOption,
)
from mamlcli.errors import CheckpointError, UsageError
from mamlcli.escaping import visible_lines
from mamlcli.plugins import load_plugins

if TYPE_CHECKING:
    from mamlcli.config.experiment import Config
    from mamlcli.config.file import Override

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def maml() -> None:
    """MAML experiments on few-shot regression: many seeds at once, first and second order.

    Exit codes: 0 done, 1 a bug or a check that fails, 2 usage or config, 3 the folder exists, is in use or cannot
    be written, 4 a run or checkpoint that cannot be trusted, 5 diverged, 6 device or memory, 130 and 143
    interrupted after saving.
    """


@app.command(cls=ConfigCommand)
def train(
    config: Annotated[Path | None, typer.Option("--config", "-c", help="The experiment: a YAML file.")] = None,
    set_: SetOption = None,
    seeds: SeedsOption = None,
    device: DeviceOption = None,
    out: OutOption = None,
    overwrite: OverwriteOption = False,
    resume: ResumeOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check the config, make one meta-step in memory, write nothing.")
    ] = False,
    plugin: PluginOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Train an experiment: checkpoints, metrics and a loss figure in a new folder under outputs/."""
    load_plugins(plugin or [])
    out = _resume_folder(resume, out)
    resolved = _resolve(config, out if resume else None, _overrides(set_, seeds, device))
    if dry_run:
        _print_dry_run(resolved, as_json=as_json, quiet=quiet)
        return
    from mamlcli.cli.progress import Progress
    from mamlcli.cli.reports import train_report
    from mamlcli.commands.train import train as run_train

    with Progress(quiet=quiet) as progress:
        result = run_train(resolved, out=out, overwrite=overwrite, resume=resume is not None, reporter=progress)
    _print(result.as_json(), train_report(result), as_json=as_json)


@app.command(name="eval")
def evaluate(
    run: Annotated[
        Path | None,
        typer.Argument(help="A run folder or a checkpoint file; the run that finished last when left out."),
    ] = None,
    set_: SetOption = None,
    device: DeviceOption = None,
    grid: Annotated[
        int | None, typer.Option("--grid", metavar="N", help="Measure on N even inputs, not on random ones.")
    ] = None,
    random_init: Annotated[
        bool, typer.Option("--random-init", help="Evaluate what training began with: the baseline.")
    ] = False,
    out: OutOption = None,
    plugin: PluginOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Evaluate a run on the fixed meta-test tasks: tables, adaptation curves and fits."""
    load_plugins(plugin or [])
    from mamlcli.cli.progress import Progress
    from mamlcli.cli.reports import eval_report
    from mamlcli.commands.evaluate import evaluate as run_evaluate

    with Progress(quiet=quiet) as progress:
        overrides = tuple(_overrides(set_, None, device, grid))
        result = run_evaluate(run, overrides=overrides, random_init=random_init, out=out, reporter=progress)
    _print(result.as_json(), eval_report(result), as_json=as_json)


@app.command()
def predict(
    support: Annotated[
        Path, typer.Option("--support", help="CSV: samples to adapt to; columns task, inputs, targets.")
    ],
    query: Annotated[Path, typer.Option("--query", help="CSV: where to predict; columns task, inputs.")],
    run: Annotated[
        Path | None,
        typer.Argument(help="A run folder or a checkpoint file; the run that finished last when left out."),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option("--steps", metavar="N", min=0, help="Inner steps of adaptation; as trained if left out."),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="The table of predictions: a CSV file to write.")] = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", help="Draw curves before and after adaptation: .png, .svg or .pdf.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the files of --out and --plot.")] = False,
    delimiter: Annotated[
        str, typer.Option("--delimiter", help="What stands between two fields of the CSV files.")
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
    from mamlcli.cli.prediction_report import predict_report
    from mamlcli.cli.progress import Progress
    from mamlcli.commands.predict import predict as run_predict

    with Progress(quiet=quiet) as progress:
        result = run_predict(
            run,
            support=support,
            query=query,
            steps=steps,
            out=out,
            plot=plot,
            overwrite=overwrite,
            delimiter=delimiter,
            overrides=tuple(_overrides(set_, None, device)),
            reporter=progress,
        )
    _print(result.as_json(), predict_report(result), as_json=as_json)


@app.command(cls=ConfigCommand)
def compare_orders(
    config: ConfigOption,
    set_: SetOption = None,
    seeds: SeedsOption = None,
    device: DeviceOption = None,
    out: OutOption = None,
    overwrite: OverwriteOption = False,
    resume: ResumeOption = None,
    plugin: PluginOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Train first and second order from the same start on the same tasks, and compare loss, direction and cost."""
    load_plugins(plugin or [])
    out = _resume_folder(resume, out)
    resolved = _resolve(config, None, _overrides(set_, seeds, device))
    from mamlcli.cli.progress import Progress
    from mamlcli.cli.reports import comparison_report
    from mamlcli.commands.compare_orders import compare_orders as run_compare

    with Progress(quiet=quiet) as progress:
        result = run_compare(resolved, out=out, overwrite=overwrite, resume=resume is not None, reporter=progress)
    _print(result.as_json(), comparison_report(result, resolved), as_json=as_json)


@app.command(cls=ConfigCommand)
def check_grads(
    config: ConfigOption,
    set_: SetOption = None,
    plugin: PluginOption = None,
    as_json: JsonOption = False,
) -> None:
    """Prove the meta-gradient of a config: finite differences, explicit loops, closed forms. Exit 1 if one fails."""
    load_plugins(plugin or [])
    resolved = _resolve(config, None, _overrides(set_, None, None))
    from mamlcli.cli.reports import gradient_report
    from mamlcli.commands.check_grads import check_grads as run_checks

    report = run_checks(resolved)
    _print(report.as_json(), gradient_report(report, resolved), as_json=as_json)
    if not report.passed:
        raise typer.Exit(1)


@app.command()
def reproduce(
    rows: Annotated[
        list[str] | None,
        typer.Argument(metavar="[ROW]...", help="Which rows, by name or YAML file; all when left out."),
    ] = None,
    list_: Annotated[bool, typer.Option("--list", help="List the rows and train nothing.")] = False,
    seeds: Annotated[
        str | None, typer.Option("--seeds", help="Seeds of every row: 0-4 (the default) or 0,3,7.")
    ] = None,
    fast: Annotated[
        bool, typer.Option("--fast", help="1,000 steps, 50 tasks, 2 seeds: that it runs, no more.")
    ] = False,
    jobs: Annotated[
        int | None, typer.Option("--jobs", min=1, help="Rows that train side by side; one for each core.")
    ] = None,
    out: OutOption = None,
    resume: ResumeOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Bring back published results: each beside the published number, with intervals and a verdict."""
    from mamlcli.cli.progress import Progress
    from mamlcli.cli.reports import reproduction_report, rows_report
    from mamlcli.commands.reproduce import load_rows
    from mamlcli.commands.reproduce import reproduce as run_reproduce
    from mamlcli.config.file import parse_seeds
    from mamlcli.results import RowList
    from mamlcli.rows import ListedRow

    if list_:
        found = load_rows(rows or [])
        listed = RowList(rows=[ListedRow(row=name, **dict(row)) for name, row in found.items()])
        _print(listed.as_json(), rows_report(found), as_json=as_json)
        return
    chosen = None if seeds is None else parse_seeds(seeds)
    out = _resume_folder(resume, out)
    with Progress(quiet=quiet) as progress:
        result = run_reproduce(
            rows or [], seeds=chosen, fast=fast, jobs=jobs, out=out, resume=resume is not None, reporter=progress
        )
    _print(result.as_json(), reproduction_report(result), as_json=as_json)


def _overrides(
    set_: list[str] | None, seeds: str | None, device: str | None, grid: int | None = None
) -> "list[Override]":
    """Turn --seeds, --device and --grid into overrides like those of --set, which they come after."""
    from mamlcli.config.file import Override, parse_seeds

    overrides = [Override(text, f"--set {text}") for text in set_ or []]
    if seeds is not None:
        overrides.append(Override(f"seeds={parse_seeds(seeds)}", f"--seeds {seeds}"))
    if device is not None:
        overrides.append(Override(f"device={device}", f"--device {device}"))
    if grid is not None:
        overrides.append(Override(f"evaluation.grid={grid}", f"--grid {grid}"))
    return overrides


def _resume_folder(resume: str | None, out: Path | None) -> Path | None:
    """Find the folder that --resume and --out name together."""
    if resume is None:
        return out
    if resume == "auto":
        if out is None:
            raise UsageError("--resume auto continues or starts the run in --out: name that folder")
        return out
    if out is not None and out != Path(resume):
        raise UsageError("--resume RUN continues the run in RUN; leave --out away")
    if not Path(resume).is_dir():
        raise CheckpointError(f"{resume}: no such run folder")
    return Path(resume)


def _resolve(config: Path | None, run: Path | None, overrides: "list[Override]") -> "Config":
    """Read the config from --config, or from the run that is resumed without one."""
    from mamlcli.config.file import dump_config, load_config, parse_config

    if config is None:
        if run is None or not run.exists():
            raise UsageError("--config FILE is missing; try: maml train --config configs/quickstart.yaml")
        from mamlcli.runs.folder import open_run

        own = open_run(run).config()
        # What is set is said by someone in the working folder, where names of files in it start from.
        return parse_config(dump_config(own), source=str(run / "config.yaml"), overrides=overrides)
    return load_config(config, overrides)


def _print_dry_run(config: "Config", *, as_json: bool, quiet: bool) -> None:
    from mamlcli.cli.progress import Progress
    from mamlcli.commands.train import dry_run
    from mamlcli.config.file import dump_config

    with Progress(quiet=quiet) as progress:
        found = dry_run(config, progress)
        progress.note(f"dry run: one meta-step of {found.num_params} parameters a seed worked; nothing was written")
    _print(found.as_json(), dump_config(config).rstrip(), as_json=as_json)


def _print(fields: dict[str, Any], text: str, *, as_json: bool) -> None:
    try:
        print(json.dumps(fields, allow_nan=False) if as_json else visible_lines(text), flush=True)
    except OSError as error:
        # Whoever read our output has left, or it does not fit; the interpreter flushes what is left of it elsewhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            raise
