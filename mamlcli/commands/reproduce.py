"""`maml reproduce`: published results beside what their experiments give here."""

import shlex
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from mamlcli.commands.processes import jobs_here, train_side_by_side
from mamlcli.commands.reproduction_asked import KIND, Asked, asked_for, kept_in
from mamlcli.commands.reproduction_measured import curve_of, lines_of, measured_rows, pairs_of
from mamlcli.commands.reproduction_rows import Planned, load_rows, planned, trainings
from mamlcli.commands.reproduction_time import Bar, Cost, about, cost_of, steps_made
from mamlcli.config.arguments import check_count, check_texts
from mamlcli.config.experiment import Config
from mamlcli.config.file import dump_config
from mamlcli.devices import resolve_device
from mamlcli.errors import InterruptedRunError, MamlError, Remedy
from mamlcli.experiment import make_experiment
from mamlcli.figures.drawing import Drawing
from mamlcli.interrupts import StopRequest
from mamlcli.memory_check import check_meta_test, check_side_by_side
from mamlcli.pages.files import PAGE, write_report
from mamlcli.pages.reproduction import curve_styles, described
from mamlcli.ranks import Ranks, led
from mamlcli.reporting import Reporter, Silent
from mamlcli.results import Reproduction
from mamlcli.runs.files import csv_text, json_text
from mamlcli.runs.folder import RunFolder, default_path, make_folder
from mamlcli.runs.provenance import utc_now
from mamlcli.runs.recorded import recorded
from mamlcli.statistics import interval_over


def reproduce(
    names: Sequence[str] = (),
    *,
    groups: Sequence[str] = (),
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
        names: Which rows.
        groups: All rows of these groups too; all rows that there are if neither names nor groups are given.
        seeds: Seeds of every row; 0 to 4 if None, and 0 and 1 for `fast`.
        fast: Train 1,000 steps and test on 50 tasks: shows that everything runs, and nothing else.
        jobs: How many rows train side by side; one for each core if None.
        out: The folder; a new one under `outputs/reproduce/` if None.
        resume: Continue in `out` if it is there: what is trained is not trained again. Where neither rows nor groups
            are said, they are those that it was begun with, and so are seeds, where none are said, and `fast`.
        reporter: Hears of progress.
        stop: Asked between steps whether to end early; None goes on to the end.

    Raises:
        UsageError: If a name or a group is unknown, or an argument of another kind.
        DeviceError: If it does not fit into memory.
        RunFolderError: If the folder exists.
        CheckpointError: If the folder to resume is no reproduction.
        InterruptedRunError: If `stop` was asked to; the trainings are saved.
    """
    check_texts("names", names, "zero")
    check_texts("groups", groups, "meta-sgd")
    check_count("jobs", jobs)
    asked, path = asked_for(names, groups, seeds, fast=fast), default_path(KIND) if out is None else Path(out)
    if resume and path.exists() and (kept := kept_in(path)) and not (names or groups):
        asked = kept._replace(seeds=kept.seeds if seeds is None else asked.seeds, fast=fast or kept.fast)
    return led(lambda ranks: _reproduce(asked, path, jobs, ranks, reporter or Silent(), resume=resume), stop)


def _reproduce(
    asked: Asked, path: Path, jobs: int | None, ranks: Ranks, reporter: Reporter, *, resume: bool
) -> Reproduction:
    """Do it as the first of the processes that share the work."""
    start, chosen, fast = time.perf_counter(), asked.seeds, asked.fast
    plans = planned(load_rows(asked.names, asked.groups), chosen, fast=fast)
    trained, at_a_time = trainings(plans), jobs_here(jobs)
    _check_memory((plan.tested for plan in plans.values()), trained.values(), at_a_time)
    folder = make_folder(path, may_exist=resume)
    costs = {name: cost_of(name, plan) for name, plan in plans.items()}
    bar = Bar(costs, reporter)
    with folder.locked(), ranks.heard, _recorded(folder, plans, asked):
        remedy = _remedy(folder, jobs)
        seconds, unknown = about(costs, steps_made(costs, folder), at_a_time), _unmeasured(costs)
        reporter.note(f"{_words(len(plans), 'row')} on {_words(at_a_time, 'core')}: about {_rounded(seconds)}{unknown}")
        failed = train_side_by_side(
            dict(sorted(trained.items(), key=lambda item: -costs[item[0]].train)),
            folder,
            jobs=jobs,
            ranks=ranks,
            reporter=reporter,
            to_go_on=remedy,
            told=bar.training,
        )
        bar.trained()
        try:
            measured = measured_rows(plans, folder, failed, ranks, bar)
        except InterruptedRunError as error:
            error.say_more([], remedy)
            raise
        result = Reproduction(
            run=folder.path,
            fast=fast,
            seeds=chosen,
            results=[line for name, plan in plans.items() for line in lines_of(name, plan, measured[name], fast=fast)],
            pairs=pairs_of(plans, measured, reporter, fast=fast),
            curves=[point for name, plan in plans.items() for point in curve_of(plan, measured[name].losses)],
            described={name: described(plan.row, plan.tested) for name, plan in plans.items()},
            wall_s=round(time.perf_counter() - start, 3),
            figure=None,
        )
        result = _write(folder, result)
    write_report([folder.path], folder.path / PAGE)  # now that the folder says that it is done
    return result


def _remedy(folder: RunFolder, jobs: int | None) -> Remedy:
    """How to go on after an interruption: the folder says with what."""
    return Remedy(
        f"to go on, pass out={str(folder.path)!r} and resume=True",
        f"to go on: maml reproduce --resume {shlex.quote(str(folder.path))}{f' --jobs {jobs}' if jobs else ''}",
    )


def _unmeasured(costs: Mapping[str, Cost]) -> str:
    """Which rows say nothing of how long they take."""
    unknown = [name for name, cost in costs.items() if not cost.is_known]
    return f" (how long a step takes is not known of {', '.join(unknown)})" if unknown else ""


def _words(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def _rounded(seconds: float) -> str:
    """A time as exact as an estimate is.

    >>> _rounded(7), _rounded(200), _rounded(9000)
    ('7 s', '3 min', '2.5 h')
    """
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _check_memory(configs: Iterable[Config], trained: Iterable[Config], jobs: int) -> None:
    """Refuse rows whose trainings, so many side by side, or whose meta-tests do not fit into memory."""
    check_side_by_side(trained, jobs)
    for config in configs:
        check_meta_test(make_experiment(config), resolve_device(config.device))


@contextmanager
def _recorded(folder: RunFolder, plans: Mapping[str, Planned], asked: Asked) -> Iterator[None]:
    """Write what is asked for, the resolved experiments, who works on them, and how it ended."""
    make_folder(folder.path / "configs", may_exist=True)
    for name, plan in plans.items():
        folder.write_text(f"configs/{name}.yaml", dump_config(plan.trained))
    if not (folder.path / "run.json").exists():
        folder.write_info({"schema": "mamlcli.run/1", "kind": KIND, "started": utc_now()})
    said = {"name": KIND, "asked": asked.as_info(), "rows": list(plans), "seeds": list(asked.seeds)}
    with recorded(folder, said, torch.device("cpu")):
        yield


def _write(folder: RunFolder, result: Reproduction) -> Reproduction:
    """Write the tables and the figure."""
    folder.write_text("reproduction.csv", csv_text(result.results))
    if result.pairs:
        folder.write_text("pairs.csv", csv_text(result.pairs))
    figure = None
    if result.curves:
        seeds = f"{len(result.seeds)} seed{'s' * (len(result.seeds) > 1)}"
        labels = {
            "title": f"Query loss against inner steps, {seeds}, not corrected",
            "interval": interval_over(len(result.seeds)),
            "styles": curve_styles(point["curve"] for point in result.curves),
            "stamp": "fast run: no number means anything" if result.fast else None,
        }
        try:
            figure = folder.save_figure("curves", Drawing("reproduction", result.curves, labels))
        except OSError as error:
            raise MamlError(f"the figure could not be written: {error}") from None
    result = result.model_copy(update={"figure": figure})
    folder.write_text("reproduction.json", json_text(result.as_json()))
    return result
