"""`maml predict`: a trained run adapts to tasks of a user's own and predicts them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mamlcli.compute.plan import idle_threads
from mamlcli.config.file import Override
from mamlcli.errors import Remedy, UsageError
from mamlcli.figures.drawing import Drawing
from mamlcli.interrupts import StopRequest
from mamlcli.meta_test.protocol import seed_steps
from mamlcli.reporting import Reporter, Silent
from mamlcli.results import PredictResult
from mamlcli.rows import DataFile
from mamlcli.runs.files import write_atomic_parts
from mamlcli.runs.located import RunLike
from mamlcli.runs.named import check_figure, check_writable, write_figure
from mamlcli.tabular import Table
from mamlcli.threads import Threads
from mamlcli.trained.adapting import rows_at_a_time
from mamlcli.trained.arrays import Numbers
from mamlcli.trained.curves import NUM_PANELS, curve_rows, point_rows
from mamlcli.trained.loading import load
from mamlcli.trained.model import (
    Predictor,
    TrainedModel,
    adapt_to,
    check_shots,
    checked_steps,
    predict_at,
    predictor_for,
)
from mamlcli.trained.tables import OwnTask, OwnTasks, csv_header, csv_parts, listed, prediction_rows, read_tasks
from mamlcli.types import Row

# So many rows are objects that a program or a terminal can hold.
_MOST_ROWS = 100_000


class _Notes:
    """Hears what is to be said, keeps it, and passes it on."""

    def __init__(self, reporter: Reporter) -> None:
        self.reporter = reporter
        self.said: list[str] = []

    def note(self, message: str) -> None:
        self.said.append(message)
        self.reporter.note(message)

    def progress(self, doing: str, done: int, total: int) -> None:
        self.reporter.progress(doing, done, total)


def predict(
    target: RunLike = None,
    *,
    support: str | Path,
    query: str | Path,
    steps: int | None = None,
    out: str | Path | None = None,
    plot: str | Path | None = None,
    overwrite: bool = False,
    delimiter: str = ",",
    overrides: Sequence[str | Override] = (),
    reporter: Reporter | None = None,
    stop: StopRequest | None = None,
) -> PredictResult:
    """Adapt a trained run to the tasks of a file, and predict them where another file asks.

    Args:
        target: A run folder (its newest whole checkpoint is used), a checkpoint file, what `train` returned, or None
            for the run that finished last under `outputs/`.
        support: A CSV file with the samples to adapt to: a column for the task (without it there is one task), for
            each input and each target, named as `mamlcli.load(target).columns` says.
        query: A CSV file with the inputs to predict: the same columns but for the targets.
        steps: Inner steps of adaptation; None for `TrainedModel.default_steps`.
        out: The table of predictions, a CSV file to write.
        plot: A figure to write: support samples, and curves before and after adaptation; .png, .svg or .pdf.
        overwrite: Whether those two may be there already.
        delimiter: What stands between two fields of the files that are read.
        overrides: As for `mamlcli.load`.
        reporter: Hears of what a person should know.
        stop: Asked between steps whether to end early; None goes on to the end.

    Raises:
        ConfigError: If an override is wrong.
        UsageError: If a file cannot be used, or predictions are not finite.
        RunFolderError: If a file to write is there already.
        CheckpointError: If the target is no run or checkpoint, or does not fit the config.
        DeviceError: If the device is not there.
        InterruptedRunError: If `stop` was asked to.
    """
    reporter, support, query = reporter or Silent(), Path(support), Path(query)
    _check_outputs([Path(path) for path in (out, plot) if path is not None], (support, query), overwrite=overwrite)
    if plot is not None:
        check_figure(Path(plot))
    with stop or StopRequest() as stop:
        notes = _Notes(reporter)
        reporter.progress("reading the run and the data", 0, 1)
        trained = load(target, overrides=overrides, reporter=reporter)
        num_steps = checked_steps(trained, steps)
        header = csv_header(trained.columns, trained.seeds)
        own = read_tasks(trained.columns, support, query, delimiter=delimiter, note=notes.note)
        _check(trained, own, notes, has_file=out is not None)
        with Threads(trained.config.engine.threads, _idle_threads(trained, own), reporter.note) as threads:
            said = _predictions(trained, own, num_steps, stop, threads, notes)
            lines = [] if plot is None else _lines(trained, own, num_steps, stop, notes)
        stop.raise_if_asked("interrupted before anything was written")
        if out is not None:
            write_atomic_parts(Path(out), csv_parts(header, own, said))
        if plot is not None and lines:
            _draw(Path(plot), trained, own, num_steps, lines)
    return PredictResult(
        checkpoint=trained.checkpoint.path,
        checkpoint_sha256=trained.checkpoint.sha256,
        outer_steps=trained.checkpoint.step,
        parameters=trained.chosen.which,
        parameter_steps=seed_steps(trained.seeds, trained.chosen),
        seeds=trained.seeds,
        inner_steps=num_steps,
        tasks=len(own.tasks),
        task_column=trained.columns.task,
        support=_file(own.support),
        query=_file(own.query),
        device=trained.device.type,  # type: ignore[arg-type]
        predictions=None if out is not None else prediction_rows(trained.columns, own, said),
        out=None if out is None else Path(out),
        figure=Path(plot) if plot is not None and lines else None,
        notes=notes.said,
    )


def _check_outputs(written: Sequence[Path], read: Sequence[Path], *, overwrite: bool) -> None:
    if len({path.resolve() for path in written}) < len(written):
        raise UsageError(f"{written[0]} is to hold both the table and the figure; name two files")
    for path in written:
        check_writable(path, overwrite=overwrite, read=read)


def _check(trained: TrainedModel, own: OwnTasks, notes: _Notes, *, has_file: bool) -> None:
    """Refuse what would only be found out task by task, and say what a reader of the predictions should know."""
    for task in own.tasks:
        check_shots(trained.experiment, len(task.x), task.where)
    if len(own.query.numbers) > _MOST_ROWS and not has_file:
        raise UsageError(
            f"{own.query.path}: {len(own.query.numbers)} rows are predicted into a file",
            Remedy("name it with out=", "name it with --out"),
        )
    known = set(trained.experiment.family.names.get("meta-train", ()))
    if seen := [task.name for task in own.tasks if task.name in known]:
        notes.note(f"the run was trained on {listed(seen)}: how well it predicts there says little of new tasks")
    for seed, step in trained.checkpoint.frozen.items():
        notes.note(f"warning: seed {seed} diverged in training at step {step}, and predicts with what it kept")


def _idle_threads(trained: TrainedModel, own: OwnTasks) -> int:
    """How many threads are used where all cores are idle."""
    most = max(max(len(task.x), len(task.rows)) for task in own.tasks)
    return idle_threads(trained.experiment, min(most, rows_at_a_time(trained.experiment)))


def _predictions(
    trained: TrainedModel, own: OwnTasks, num_steps: int, stop: StopRequest, threads: Threads, notes: _Notes
) -> Numbers:
    """What every seed says of each row of the query file: (rows, outputs, S)."""
    said = np.empty((len(own.query.numbers), len(trained.columns.targets), len(trained.seeds)))
    for number, task in enumerate(own.tasks):
        stop.raise_if_asked("interrupted before anything was written")
        threads.look()
        notes.progress("adapting and predicting, task after task", number, len(own.tasks))
        x = own.query.numbers[task.rows]
        predictor = _adapted(trained, task, num_steps)
        said[task.rows] = predict_at(predictor, predictor_for(predictor, x), x).transpose(1, 2, 0)
    return said


def _adapted(trained: TrainedModel, task: OwnTask, num_steps: int) -> Predictor:
    return adapt_to(trained, task.x, task.y, num_steps, where=task.where)


def _lines(trained: TrainedModel, own: OwnTasks, num_steps: int, stop: StopRequest, notes: _Notes) -> list[Row]:
    """The curves of the figure, before and after adaptation; none where they cannot be drawn."""
    inputs = trained.columns.inputs
    if len(inputs) > 1:
        notes.note(f"no figure: a curve is drawn against one input, and these tasks have {', '.join(inputs)}")
        return []
    lines: list[Row] = []
    for task in _drawn(trained, own):
        stop.raise_if_asked("interrupted before anything was written")
        for steps in dict.fromkeys((0, num_steps)):
            lines += curve_rows(_adapted(trained, task, steps), task, own.query.numbers[task.rows])
    return lines


def _drawn(trained: TrainedModel, own: OwnTasks) -> tuple[OwnTask, ...]:
    return own.tasks[: max(1, NUM_PANELS // len(trained.columns.targets))]


def _draw(path: Path, trained: TrainedModel, own: OwnTasks, num_steps: int, lines: Sequence[Row]) -> None:
    tasks = _drawn(trained, own)
    points = [row for task in tasks for row in point_rows(trained.columns, task)]
    some = f", the first {len(tasks)} of {len(own.tasks)} tasks" if len(tasks) < len(own.tasks) else ""
    title = f"{trained.config.name}: adaptation in {num_steps} inner step{'s' * (num_steps != 1)}{some}"
    columns = trained.columns
    labels = {"title": title, "x_label": columns.inputs[0], "task_label": columns.task, "seeds": trained.seeds}
    write_figure(path, Drawing("predictions", [*lines, *points], labels).drawn())


def _file(table: Table) -> DataFile:
    return {"path": str(table.path), "sha256": table.sha256, "rows": len(table.numbers)}
