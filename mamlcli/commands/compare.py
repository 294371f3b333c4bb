"""`maml compare`: trained runs of any methods, paired on the same meta-test tasks."""

import math
import shlex
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from mamlcli.commands.processes import jobs_here, train_side_by_side
from mamlcli.comparisons.asked import KIND, Asked, kept_in, new_folder
from mamlcli.comparisons.drawings import drawings_of, save_figures
from mamlcli.comparisons.lineup import begin_contest, line_up
from mamlcli.comparisons.measured import Contest, compared_run, measure
from mamlcli.comparisons.notes import notes_of
from mamlcli.config.arguments import check_config, check_count, check_texts, checked_seeds
from mamlcli.config.experiment import NAME, Config
from mamlcli.config.file import Override
from mamlcli.devices import resolve_device
from mamlcli.errors import CheckpointError, InterruptedRunError, Remedy, UsageError
from mamlcli.interrupts import StopRequest
from mamlcli.memory_check import check_side_by_side
from mamlcli.meta_test.measure import query_protocol
from mamlcli.meta_test.paired import paired_rows
from mamlcli.plugins import typed_options
from mamlcli.ranks import Ranks, led
from mamlcli.reporting import Reporter, Silent
from mamlcli.results import ComparedRuns
from mamlcli.runs.files import csv_text, json_text
from mamlcli.runs.folder import RunFolder, default_path
from mamlcli.runs.link import followed
from mamlcli.runs.located import RunLike, path_of
from mamlcli.runs.recorded import recorded
from mamlcli.statistics import interval_over

MARGIN = 0.05


def compare(
    *runs: RunLike,
    configs: Sequence[Config] | Mapping[str, Config] = (),
    seeds: Sequence[int] | None = None,
    baseline: RunLike = None,
    overrides: Sequence[str | Override] = (),
    margin: float = MARGIN,
    jobs: int | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    reporter: Reporter | None = None,
    stop: StopRequest | None = None,
) -> ComparedRuns:
    """Compare runs on the same meta-test tasks, paired by seed and task, and write tables and figures.

    All are tested as the baseline is, whatever their own settings are.

    Args:
        *runs: Run folders, checkpoint files, or what `train` returned.
        configs: Experiments that are trained first, a process each, into `runs/` of the folder; a mapping says what
            each is called. What is trained there already is not trained again.
        seeds: The seeds of those; their own if None.
        baseline: What the others are compared with: one of the runs, another run, or the name of one of `configs`; the
            first if None.
        overrides: `key.path=value` texts that change how the runs are tested, like `evaluation.tasks=100`.
        margin: The largest difference that does not matter, as a part of the baseline's mean loss at the same K and
            step: a run whose whole 90% interval lies within it is `equivalent`.
        jobs: How many experiments train side by side; one for each core if None.
        out: The folder; a new one under `outputs/compare/` if None.
        resume: Go on with the comparison in `out` if there is one. It says what is compared, which need not be said
            again; what is said must be the same.
        reporter: Hears of progress.
        stop: Asked between steps whether to end early; None goes on to the end.

    Raises:
        UsageError: If there is nothing to compare, or the runs are of different tasks or have no seed in common.
        CheckpointError: If one is no run, or too many could not be trained.
        RunFolderError: If the folder exists.
        DeviceError: If it does not fit into memory.
        InterruptedRunError: If `stop` was asked to; the trainings are saved.
    """
    check_count("jobs", jobs)
    if resume and out is None:
        remedy = Remedy("pass its folder as out=", "give its folder with --out")
        raise UsageError("to resume, say which comparison", remedy)
    said = _asked(runs, configs, seeds, baseline, overrides, margin, resume=resume)
    return led(
        lambda ranks: _compare(said, overrides, jobs, out, ranks, reporter or Silent(), resume=resume),
        stop,
    )


def _compare(
    said: Asked | None,
    overrides: Sequence[str | Override],
    jobs: int | None,
    out: str | Path | None,
    ranks: Ranks,
    reporter: Reporter,
    *,
    resume: bool,
) -> ComparedRuns:
    """Do it as the first of the processes that share the work."""
    start = time.perf_counter()
    reporter.progress("reading the runs", 0, 1)
    path = default_path(KIND) if out is None else followed(Path(out))
    is_there = resume and path.exists()
    asked = kept_in(path, said) if is_there else said
    if asked is None:
        raise CheckpointError(f"{path}: no such folder of a comparison")
    lineup = line_up(asked, overrides or asked.overrides, reporter.note)
    check_side_by_side(asked.configs.values(), jobs_here(jobs))
    folder = RunFolder(path) if is_there else new_folder(path, asked)
    with folder.locked(), ranks.heard as stop, recorded(folder, {"name": KIND}, torch.device("cpu")):
        remedy = _remedy(folder, jobs)
        failed = train_side_by_side(
            dict(asked.configs), folder, jobs=jobs, ranks=ranks, reporter=reporter, to_go_on=remedy, kind="runs"
        )
        trained = {name: path / "runs" / name for name in asked.configs}
        contest = begin_contest(lineup, trained, failed, overrides or asked.overrides, reporter.note)
        try:
            result = _compared(contest, asked, folder, failed, ranks, reporter)
        except InterruptedRunError as error:
            error.say_more([], remedy)
            raise
        result = result.model_copy(update={"wall_s": round(time.perf_counter() - start, 3)})
        folder.write_text("comparison.json", json_text(result.as_json(without=("figures",))))
        folder.write_text("comparison.csv", csv_text(result.results))
        methods = " against ".join(dict.fromkeys(run["method"] for run in result.runs))
        folder.write_info(folder.read_info() | {"method": methods, "seeds": list(result.seeds)})
        figures = save_figures(folder, drawings_of(result), stop, reporter)
        stop.raise_if_asked(f"interrupted after the comparison; it is complete: {folder.path}")
    return result.model_copy(update={"figures": figures})


def _asked(
    runs: Sequence[RunLike],
    configs: Sequence[Config] | Mapping[str, Config],
    seeds: Sequence[int] | None,
    baseline: RunLike,
    overrides: Sequence[str | Override],
    margin: float,
    *,
    resume: bool,
) -> Asked | None:
    """What is asked for, checked; None where only a folder to go on with is named."""
    if not runs and not configs:
        if not resume:
            raise UsageError("nothing to compare", Remedy("pass two runs", "name two runs: maml compare RUN RUN"))
        if baseline is not None or seeds is not None or overrides or margin != MARGIN:
            raise UsageError("how runs are compared is said with the runs, and is in the folder of the comparison")
        return None
    check_texts("overrides", overrides, "evaluation.tasks=100")
    if isinstance(margin, bool) or not isinstance(margin, int | float) or not 0 <= margin < math.inf:
        raise UsageError(f"margin: must be a number from 0 on, like 0.05, got {margin!r}")
    if seeds is not None and not configs:
        raise UsageError("seeds are of what is trained; runs are compared on the seeds that they have in common")
    named = dict(configs) if isinstance(configs, Mapping) else _by_name(configs)
    trained = {_checked_name(name): _trained_as(config, seeds, len(named)) for name, config in named.items()}
    base = None if baseline is None else str(path_of(baseline))
    return Asked(tuple(_path(run) for run in runs), trained, base, _texts(overrides), float(margin))


def _texts(overrides: Sequence[str | Override]) -> tuple[str, ...]:
    return tuple(one.text if isinstance(one, Override) else one for one in overrides)


def _path(run: RunLike) -> str:
    path = path_of(run)
    if path is None:
        raise UsageError("a run to compare is named: by its folder, a checkpoint file, or what train returned")
    return str(followed(path))


def _by_name(configs: Sequence[Config]) -> dict[str, Config]:
    named: dict[str, Config] = {}
    for config in configs:
        check_config(config)
        if config.name in named:
            raise UsageError(
                f"two experiments are called {config.name}: pass a mapping that says what each is called, like "
                f"{{'one': config, 'other': config}}"
            )
        named[config.name] = config
    return named


def _checked_name(name: str) -> str:
    """A name that a folder can have."""
    if not NAME.fullmatch(name):
        raise UsageError(f"configs: {name!r} cannot be a folder's name: up to 64 letters, digits, '.', '_' and '-'")
    return name


def _trained_as(config: Config, seeds: Sequence[int] | None, count: int) -> Config:
    """An experiment with these seeds, on one thread where others train beside it."""
    check_config(config)
    update: dict[str, Any] = {"seeds": checked_seeds(seeds, config.seeds)}
    if config.engine.threads == "auto" and count > 1:
        update["engine"] = config.engine.model_copy(update={"threads": 1})
    return config.model_copy(update=update)


def _remedy(folder: RunFolder, jobs: int | None) -> Remedy:
    """How to go on after an interruption."""
    return Remedy(
        f"to go on, pass out={str(folder.path)!r} and resume=True",
        f"to go on: maml compare --resume {shlex.quote(str(folder.path))}{f' --jobs {jobs}' if jobs else ''}"
        f"{typed_options()}",
    )


def _compared(
    contest: Contest, asked: Asked, folder: RunFolder, failed: Mapping[str, str], ranks: Ranks, reporter: Reporter
) -> ComparedRuns:
    losses = measure(contest, ranks, reporter)
    of_baseline, device = contest.of_baseline, resolve_device(contest.of_baseline.config.device)
    runs = [compared_run(contest, name, device, ranks.heard, reporter) for name in contest.entrants]
    diverged_above = of_baseline.config.evaluation.diverged_above
    return ComparedRuns(
        run=folder.path,
        baseline=contest.baseline,
        runs=runs,
        seeds=contest.seeds,
        tasks=of_baseline.num_test_tasks(),
        query=query_protocol(of_baseline),
        margin=asked.margin,
        interval=interval_over(contest.num_tested),
        results=paired_rows(losses, contest.baseline, margin=asked.margin, diverged_above=diverged_above),
        notes=notes_of(contest, runs, failed),
        wall_s=0.0,
        figures=[],
    )
