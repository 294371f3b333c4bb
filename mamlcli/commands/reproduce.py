"""`maml reproduce`: published results beside what their experiments give here."""

import os
import shlex
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import torch

from mamlcli.commands.processes import train_side_by_side
from mamlcli.commands.reproduction_numbers import measured_numbers
from mamlcli.config.arguments import check_count, check_texts, checked_seeds
from mamlcli.config.experiment import Config
from mamlcli.config.file import dump_config, load_published
from mamlcli.config.published import PublishedNumber, PublishedRow
from mamlcli.config.shipped import shipped_rows, unknown_row
from mamlcli.devices import resolve_device
from mamlcli.errors import CheckpointError, MamlError, Remedy, UsageError
from mamlcli.experiment import make_experiment
from mamlcli.figures.drawing import Drawing
from mamlcli.interrupts import StopRequest
from mamlcli.memory_check import check_meta_test, check_side_by_side
from mamlcli.meta_test.measure import meta_test, of_the_first, over_seeds, summarise_all, threads_of_test
from mamlcli.pages.files import PAGE, write_report
from mamlcli.pages.reproduction import described
from mamlcli.reporting import Reporter, Silent
from mamlcli.results import Reproduction
from mamlcli.rows import CurvePoint, ReproducedNumber
from mamlcli.runs.checkpoints import Checkpoint, load_checkpoint, use_newest
from mamlcli.runs.files import csv_text, json_text
from mamlcli.runs.folder import RunFolder, default_path, make_folder
from mamlcli.runs.provenance import new_session, utc_now
from mamlcli.runs.recorded import recorded
from mamlcli.statistics import interval_over
from mamlcli.threads import Threads
from mamlcli.types import Params, Row

_FAST_STEPS, _FAST_TASKS = 1000, 50
# What a row that could not be run has none of.
_NUMBERS = (
    *("mean", "ci95", "ci95_seeds", "ci95_tasks", "plain_mean", "plain_ci95", "control_mean", "control_expected"),
    *("control_coefficient", "correction", "median", "num_diverged", "query"),
)


def load_rows(names: Sequence[str]) -> dict[str, PublishedRow]:
    """Read rows by name or by the path of their file; all that there are for no name.

    Raises:
        UsageError: If a name is unknown.
        ConfigError: If a file is wrong.
    """
    files = {Path(name).stem: Path(name) for name in names if name.endswith((".yaml", ".yml"))}
    known = shipped_rows() if len(files) < max(1, len(names)) else {}
    for name in names or known:
        if name in known:
            files[name] = known[name]
        elif Path(name) not in files.values():
            raise UsageError(f"no row is named {name!r}", unknown_row(name))
    return {name: load_published(path) for name, path in files.items()}


def reproduce(
    names: Sequence[str] = (),
    *,
    seeds: Sequence[int] | None = None,
    fast: bool = False,
    jobs: int | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    reporter: Reporter | None = None,
    stop: StopRequest | None = None,
) -> Reproduction:
    """Train and evaluate rows, and write a table, a figure and a report.

    Args:
        names: Which rows; all if none are named.
        seeds: Seeds of every row; 0 to 4 if None, and 0 and 1 for `fast`.
        fast: Train 1,000 steps and test on 50 tasks: shows that everything runs, and nothing else.
        jobs: How many rows train side by side; one for each core if None.
        out: The folder; a new one under `outputs/reproduce/` if None.
        resume: Continue in `out` if it is there: what is trained is not trained again.
        reporter: Hears of progress.
        stop: Asked between steps whether to end early; None goes on to the end.

    Raises:
        UsageError: If a name is unknown, or an argument of another kind.
        DeviceError: If it does not fit into memory.
        RunFolderError: If the folder exists.
        InterruptedRunError: If `stop` was asked to; the trainings are saved.
    """
    reporter, start = reporter or Silent(), time.perf_counter()
    check_texts("names", names, "zero")
    check_count("jobs", jobs)
    rows = load_rows(names)
    chosen = checked_seeds(seeds, (0, 1) if fast else (0, 1, 2, 3, 4))
    configs = {name: _config(row.config, chosen, fast=fast) for name, row in rows.items()}
    trained = {name: config for name, config in configs.items() if rows[name].start == "trained"}
    _check_memory(configs.values(), trained.values(), jobs or os.cpu_count() or 1)
    folder = make_folder(default_path("reproduce") if out is None else Path(out), may_exist=resume)
    with folder.locked(), stop or StopRequest() as stop, _recorded(folder, configs, chosen):
        failed = train_side_by_side(
            trained,
            folder,
            jobs=jobs,
            stop=stop,
            reporter=reporter,
            to_go_on=_remedy(folder, names, seeds, fast=fast, jobs=jobs),
        )
        results: list[ReproducedNumber] = []
        curves: list[CurvePoint] = []
        for number, (name, row) in enumerate(rows.items()):
            reporter.progress("evaluating rows", number, len(rows))
            try:
                losses = _losses(name, row, configs[name], folder, failed, stop, reporter)
            except CheckpointError as error:
                results += [_result(name, row, number, f"not run: {error}") for number in row.published]
                continue
            results += [
                _measured(name, row, number, configs[name], losses[number.shots][:, :, number.inner_steps], fast=fast)
                for number in row.published
            ]
            if row.curve:
                curves += _curve(row, configs[name], losses)
        seconds = round(time.perf_counter() - start, 3)
        result = Reproduction(
            run=folder.path,
            fast=fast,
            seeds=chosen,
            results=results,
            curves=curves,
            described={name: described(row) for name, row in rows.items()},
            wall_s=seconds,
            figure=None,
        )
        return _write(folder, result)


def _remedy(
    folder: RunFolder, names: Sequence[str], seeds: Sequence[int] | None, *, fast: bool, jobs: int | None
) -> Remedy:
    """How to go on after an interruption, with the same arguments."""
    rows, chosen = "".join(f" {shlex.quote(name)}" for name in names), ",".join(map(str, seeds or ()))
    return Remedy(
        f"to go on, pass out={str(folder.path)!r} and resume=True, with the same arguments",
        f"to go on: maml reproduce{rows}{f' --seeds {chosen}' * bool(chosen)}"
        f"{' --fast' * fast}{f' --jobs {jobs}' if jobs else ''} --resume {shlex.quote(str(folder.path))}",
    )


def _check_memory(configs: Iterable[Config], trained: Iterable[Config], jobs: int) -> None:
    """Refuse rows whose trainings, so many side by side, or whose meta-tests do not fit into memory."""
    check_side_by_side(trained, jobs)
    for config in configs:
        check_meta_test(make_experiment(config), resolve_device(config.device))


def _config(config: Config, seeds: tuple[int, ...], *, fast: bool) -> Config:
    """A row's experiment for these seeds, on one thread each, since rows train side by side."""
    engine = config.engine.model_copy(update={"threads": 1})
    config = config.model_copy(update={"seeds": seeds, "engine": engine})
    if not fast:
        return config
    outer = config.outer.model_copy(update={"steps": min(_FAST_STEPS, config.outer.steps)})
    evaluation = config.evaluation.model_copy(update={"tasks": min(_FAST_TASKS, config.evaluation.tasks)})
    return config.model_copy(update={"outer": outer, "evaluation": evaluation})


@contextmanager
def _recorded(folder: RunFolder, configs: dict[str, Config], seeds: tuple[int, ...]) -> Iterator[None]:
    """Write the resolved experiments, who works on them, and how it ended."""
    make_folder(folder.path / "configs", may_exist=True)
    for name, config in configs.items():
        folder.write_text(f"configs/{name}.yaml", dump_config(config))
    session = new_session(torch.device("cpu"), 0)
    folder.write_info({"schema": "mamlcli.run/1", "kind": "reproduce", "started": utc_now(), "sessions": [session]})
    with recorded(folder, {"name": "reproduce", "rows": list(configs), "seeds": list(seeds)}):
        yield


def _losses(
    name: str,
    row: PublishedRow,
    config: Config,
    folder: RunFolder,
    failed: dict[str, str],
    stop: StopRequest,
    reporter: Reporter,
) -> dict[int, torch.Tensor]:
    """The meta-test losses of a row, (S, T, N + 1) for each K."""
    if name in failed:
        raise CheckpointError(failed[name])
    device = resolve_device(config.device)
    experiment = make_experiment(config)
    params: Params = experiment.initial_state(device).params
    if row.start == "zero":
        params = {key: torch.zeros_like(value) for key, value in params.items()}
    elif row.start == "trained":

        def load(path: Path) -> Checkpoint:
            return load_checkpoint(path, device)

        found = use_newest(folder.path / "runs" / name / "checkpoints", load, reporter.note)
        if found is None:
            raise CheckpointError(f"{folder.path / 'runs' / name}: it has no checkpoint")
        checkpoint, _ = found
        params = checkpoint.chosen(config.run.keep).params
    with Threads(config.engine.threads, threads_of_test(experiment), reporter.note) as threads:
        return of_the_first(meta_test(experiment, params, device, stop, threads))


def _result(
    name: str, row: PublishedRow, number: PublishedNumber, outcome: str, found: Row | None = None
) -> ReproducedNumber:
    """A line of the table that says what was published, what was found, and how it went."""
    line = {
        "row": name,
        "title": row.title,
        "shots": number.shots,
        "inner_steps": number.inner_steps,
        "published": number.mean,
        "published_ci95": number.ci95,
        "relation": number.relation,
        **dict.fromkeys(_NUMBERS),
        **(found or {}),
        "verdict": outcome,
    }
    return cast(ReproducedNumber, line)


def _measured(
    name: str, row: PublishedRow, number: PublishedNumber, config: Config, losses: torch.Tensor, *, fast: bool
) -> ReproducedNumber:
    """A line of the table with what was found; `losses` are of all seeds and tasks, (S, T)."""
    found = measured_numbers(row, number, config, losses)
    comparable = row.start != "trained" or not fast
    return _result(name, row, number, found["verdict"] if comparable else "not comparable: a fast run", found)


def _curve(row: PublishedRow, config: Config, losses: dict[int, torch.Tensor]) -> list[CurvePoint]:
    """The line of a row in the figure; a level where adaptation is not meant."""
    points = over_seeds(summarise_all(make_experiment(config), losses, {}))
    level = {point["shots"]: point for point in points if point["inner_steps"] == 0}
    shown = [level[point["shots"]] if row.flat else point for point in points]
    return [
        {
            "curve": row.curve or "",
            "shots": point["shots"],
            "inner_steps": point["inner_steps"],
            "mean": at["mean"],
            "ci95": at["ci95"],
        }
        for point, at in zip(points, shown, strict=True)
    ]


def _write(folder: RunFolder, result: Reproduction) -> Reproduction:
    """Write the tables, the figure and the report."""
    folder.write_text("reproduction.csv", csv_text(result.results))
    figure = None
    if result.curves:
        seeds = f"{len(result.seeds)} seed{'s' * (len(result.seeds) > 1)}"
        over = interval_over(len(result.seeds))
        labels = {"title": f"Query loss against inner steps, {seeds}, not corrected", "interval": over}
        try:
            figure = folder.save_figure("curves", Drawing("reproduction", result.curves, labels))
        except OSError as error:
            raise MamlError(f"the figure could not be written: {error}") from None
    result = result.model_copy(update={"figure": figure})
    folder.write_text("reproduction.json", json_text(result.as_json()))
    write_report([folder.path], folder.path / PAGE)
    return result
