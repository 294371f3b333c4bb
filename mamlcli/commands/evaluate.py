"""`maml eval`: a run or a checkpoint on the fixed meta-test tasks."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from mamlcli.best import Chosen
from mamlcli.config.experiment import Config
from mamlcli.config.file import Override
from mamlcli.errors import Remedy, UsageError
from mamlcli.experiment import make_experiment
from mamlcli.interrupts import StopRequest
from mamlcli.memory_check import check_meta_test
from mamlcli.meta_test.described import can_be_described
from mamlcli.meta_test.figures import draw_adaptation, draw_fits
from mamlcli.meta_test.kinds import rows_by_kind
from mamlcli.meta_test.measure import query_protocol, rows_of
from mamlcli.meta_test.protocol import (
    chosen_params,
    protocol,
    results_folder,
    seed_steps,
    steps_in_words,
    tested_config,
)
from mamlcli.meta_test.together import meta_test_together
from mamlcli.ranks import Ranks, led
from mamlcli.reporting import Reporter, Silent
from mamlcli.results import EvalResult
from mamlcli.runs.checkpoints import Checkpoint, check_fits, check_size
from mamlcli.runs.choosing import Purpose
from mamlcli.runs.data_record import check_same_data
from mamlcli.runs.files import csv_text, json_text
from mamlcli.runs.folder import RunFolder, make_folder
from mamlcli.runs.located import RunLike, locate
from mamlcli.trackers.group import mirror
from mamlcli.trainings.start import announce_device

EVALUATING = Purpose("evaluating", Remedy("mamlcli.evaluate({run!r})", "maml eval {run}"))


def evaluate(
    target: RunLike = None,
    *,
    overrides: Sequence[str | Override] = (),
    random_init: bool = False,
    out: str | Path | None = None,
    reporter: Reporter | None = None,
    stop: StopRequest | None = None,
) -> EvalResult:
    """Evaluate a run or a checkpoint, and write tables and figures.

    Args:
        target: A run folder (its newest whole checkpoint is used), a checkpoint file, what `train` returned, or None
            for the run that finished last under `outputs/`, outside comparisons and reproductions.
        overrides: `key.path=value` texts that change how the run is tested, like `evaluation.tasks=100`.
        random_init: Evaluate the parameters that training began with, a baseline for the trained ones.
        out: Where to write. None is the run folder for a run as it says itself that it is tested, and else a folder
            of its own: for other settings, for a checkpoint file, and for `random_init`.
        reporter: Hears of progress.
        stop: Asked between steps whether to end early; None goes on to the end.

    Raises:
        ConfigError: If an override is wrong.
        UsageError: If one changes what was trained, or would change nothing.
        CheckpointError: If the target is no run or checkpoint, or does not fit the config.
        DeviceError: If the device is not there, or the meta-test does not fit into memory.
        InterruptedRunError: If `stop` was asked to.
    """
    asked = _Asked(overrides, random_init, out)
    return led(lambda ranks: _evaluate(target, asked, ranks, reporter or Silent()), stop)


class _Asked(NamedTuple):
    """Arguments of `evaluate` that are not what is evaluated."""

    overrides: Sequence[str | Override]
    random_init: bool
    out: str | Path | None


def _evaluate(target: RunLike, asked: _Asked, ranks: Ranks, reporter: Reporter) -> EvalResult:
    """Do it as the first of the processes that share the work."""
    overrides, random_init, out = asked
    reporter.progress("reading the run", 0, 1)
    with ranks.heard as stop:
        checkpoint, own, run_folder = locate(target, reporter.note, EVALUATING)
        home = _home(checkpoint, run_folder, random_init=random_init)
        config = tested_config(own, overrides)
        if random_init and config.run.keep != own.run.keep:
            raise UsageError("run.keep would change nothing: the parameters that training began with are evaluated")
        experiment = make_experiment(config)
        check_same_data(checkpoint.record, experiment.family.record)
        check_size(checkpoint, experiment.method.num_params * len(config.seeds))
        device = announce_device(config, reporter)
        check_meta_test(experiment, device)
        begun = experiment.initial_state(torch.device("cpu")).params
        check_fits(checkpoint, begun)
        chosen = chosen_params(checkpoint, config, begun, random_init=random_init)
        _say_which(chosen, config, reporter)
        params = {name: theta.to(device) for name, theta in chosen.params.items()}
        # What training began with is a baseline itself.
        is_described = can_be_described(experiment.family) and not random_init
        losses, found, threads = meta_test_together(
            experiment, params, device, ranks, reporter, is_described=is_described
        )
        frozen = {} if random_init else checkpoint.frozen
        results, by_kind = rows_of(experiment, losses, frozen), rows_by_kind(experiment, losses, frozen)
        folder = results_folder(home, own, config) if out is None else Path(out)
        run = make_folder(folder, may_exist=out is None)
        learned = experiment.method.learned(params, config.seeds)
        result = EvalResult(
            run=run.path,
            checkpoint=checkpoint.path,
            outer_steps=0 if random_init else checkpoint.step,
            start="random-init" if random_init else "trained",
            tasks=experiment.num_test_tasks(),
            query=query_protocol(experiment),
            protocol=protocol(config, overrides, checkpoint, chosen, device) | {"threads": threads},
            results=results,
            units=found and found.units,
            worst=found and found.worst,
            summary=found and found.summary,
            kinds=by_kind or None,
            figures=[],
            learned=learned,
            **({} if learned is None else {learned.field: learned.value}),  # type: ignore[arg-type]
        )
        run.write_text("evaluation.json", json_text(result.as_json(without=("figures",))))
        run.write_text("evaluation.csv", csv_text(results))
        if by_kind:
            run.write_text("kinds.csv", csv_text(by_kind))
        if found:
            run.write_text("baselines.csv", csv_text(found.units))
            run.write_text("worst-tasks.csv", csv_text(found.worst))
        stop.raise_if_asked(f"interrupted before all figures were drawn; the tables are in {run.path}")
        figures = [draw_adaptation(run, experiment, results, reporter)]
        stop.raise_if_asked(f"interrupted before all figures were drawn; the tables are in {run.path}")
        figures.append(draw_fits(run, experiment, params, reporter))
        if run_folder is not None and run.path == run_folder.path:
            mirror(run_folder, reporter)
        stop.raise_if_asked(f"interrupted after the evaluation; it is complete: {run.path}")
    return result.model_copy(update={"figures": [figure for figure in figures if figure]})


def _home(checkpoint: Checkpoint, run: RunFolder | None, *, random_init: bool) -> Path:
    """The folder for what comes out of a test by the run's own settings."""
    if run is not None:
        return run.path / "evaluation-random-init" if random_init else run.path
    path = checkpoint.path
    in_run = path.parent.name == "checkpoints" and (path.parent.parent / "run.json").exists()
    folder = path.parent.parent if in_run else path.parent
    return folder / f"evaluation-{path.stem}{'-random-init' * random_init}"


def _say_which(chosen: Chosen, config: Config, reporter: Reporter) -> None:
    """Say which parameters are evaluated, where they are not the newest or were to be others."""
    if chosen.which == "best":
        where = steps_in_words(seed_steps(config.seeds, chosen))
        reporter.note(f"evaluating each seed where its meta-validation loss was least: {where}")
    elif config.run.keep == "best" and chosen.which == "newest":
        reporter.note("no meta-validation loss was measured yet: evaluating the newest parameters")
