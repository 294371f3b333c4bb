"""`maml eval`: a run or a checkpoint on the fixed meta-test tasks."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch

from mamlcli.algorithms.chain import SLOT_WEIGHTS
from mamlcli.commands.train import announce_device
from mamlcli.compute.engine import resolve_threads
from mamlcli.config.experiment import Config
from mamlcli.config.file import Override
from mamlcli.errors import CheckpointError
from mamlcli.interrupts import StopRequest
from mamlcli.meta_test.chain import chain_test_losses
from mamlcli.meta_test.figures import NUM_FITS, draw_adaptation, draw_fits
from mamlcli.meta_test.losses import adaptation_losses, summarise
from mamlcli.meta_test.protocol import protocol, results_folder, tested_config
from mamlcli.runs.checkpoints import (
    Checkpoint,
    check_experiment,
    check_fits,
    check_size,
    load_checkpoint,
    use_newest,
)
from mamlcli.runs.files import csv_text, json_text
from mamlcli.runs.folder import RunFolder, make_folder, open_run
from mamlcli.runs.latest import latest_run
from mamlcli.setup import (
    Reporter,
    Silent,
    make_adapt_step,
    make_family,
    make_loss_fn,
    make_state,
    num_params,
    unlabelled_inputs,
)
from mamlcli.tasks import Task, TaskList
from mamlcli.threads import Threads
from mamlcli.types import Params, Row

# Between them a signal is heard, and the memory of one part is free for the next.
_TASKS_AT_A_TIME = 2000


class EvalResult(NamedTuple):
    """What the meta-test found."""

    run: Path
    """The folder that holds the result."""
    checkpoint: Path
    step: int
    start: Literal["trained", "random-init"]
    """Whether the parameters are those of the checkpoint, or those that training began with."""
    tasks: int
    query: dict[str, Any]
    protocol: Row
    """All that the numbers depend on; see `mamlcli.meta_test.protocol.protocol`."""
    results: list[Row]
    """See `summarise_all`."""
    figures: list[Path]
    slot_weights: Row | None = None
    """Of a chain: the number of corrupted slots, which come first, and the weights of each seed."""

    def as_json(self) -> dict[str, Any]:
        """The object of `maml eval --json` and of evaluation.json."""
        return {
            "schema": "mamlcli.eval/1",
            "run": str(self.run),
            "checkpoint": str(self.checkpoint),
            "outer_steps": self.step,
            "start": self.start,
            "tasks": self.tasks,
            "query": self.query,
            "protocol": self.protocol,
            "results": self.results,
        } | ({} if self.slot_weights is None else {"slot_weights": self.slot_weights})


def evaluate(
    target: str | Path | None = None,
    *,
    overrides: Sequence[str | Override] = (),
    random_init: bool = False,
    out: str | Path | None = None,
    reporter: Reporter | None = None,
) -> EvalResult:
    """Evaluate a run or a checkpoint, and write tables and figures.

    Args:
        target: A run folder (its newest whole checkpoint is used), a checkpoint file, or None for the run
            that finished last under `outputs/`, outside comparisons and reproductions.
        overrides: `key.path=value` texts that change how the run is tested, like `evaluation.tasks=100`.
        random_init: Evaluate the parameters that training began with, a baseline for the trained ones.
        out: Where to write. None is the run folder for a run as it says itself that it is tested, and else a folder
            of its own: for other settings, for a checkpoint file, and for `random_init`.
        reporter: Hears of progress.

    Raises:
        ConfigError: If an override is wrong.
        UsageError: If one changes what was trained, or would change nothing.
        CheckpointError: If the target is no run or checkpoint, or does not fit the config.
        DeviceError: If the device is not there.
        InterruptedRunError: If SIGINT or SIGTERM came.
    """
    reporter = reporter or Silent()
    with StopRequest() as stop:
        checkpoint, own, home = _locate(target, reporter, random_init=random_init)
        config = tested_config(own, overrides)
        check_size(checkpoint, num_params(checkpoint.config) * len(checkpoint.config.seeds))
        begun = make_state(config, torch.device("cpu")).params
        check_fits(checkpoint, begun)
        device = announce_device(config, reporter)
        params = {name: theta.to(device) for name, theta in (begun if random_init else checkpoint.params).items()}
        with Threads(config, threads_of_test(config), reporter) as threads:
            results = _measure(config, params, device, stop, threads, {} if random_init else checkpoint.frozen)
            measured_how = protocol(config, overrides, checkpoint, device)
        folder = results_folder(home, own, config) if out is None else Path(out)
        run = make_folder(folder, may_exist=out is None)
        result = EvalResult(
            run=run.path,
            checkpoint=checkpoint.path,
            step=0 if random_init else checkpoint.step,
            start="random-init" if random_init else "trained",
            tasks=config.evaluation.tasks,
            query=query_protocol(config),
            protocol=measured_how,
            results=results,
            figures=[],
            slot_weights=_slot_weights(config, params),
        )
        run.write_text("evaluation.json", json_text(result.as_json()))
        run.write_text("evaluation.csv", csv_text(results))
        stop.raise_if_asked(f"interrupted before all figures were drawn; the tables are in {run.path}")
        figures = [draw_adaptation(run, config, over_seeds(config, results), reporter)]
        stop.raise_if_asked(f"interrupted before all figures were drawn; the tables are in {run.path}")
        figures.append(_draw_fits(run, config, params, device, reporter))
        stop.raise_if_asked(f"interrupted after the evaluation; it is complete: {run.path}")
    return result._replace(figures=[figure for figure in figures if figure])


def query_protocol(config: Config) -> dict[str, Any]:
    """Say on what the losses are measured."""
    low, high = config.tasks.x
    grid = config.evaluation.grid
    return {
        "points": grid or config.evaluation.query_shots,
        "sampling": f"{'an even grid on' if grid else 'uniform in'} [{low:g}, {high:g}]",
        "test_seed": config.evaluation.seed,
    }


def threads_of_test(config: Config) -> int:
    """How many CPU threads a meta-test uses where all cores are idle."""
    settings = config.evaluation
    samples = min(_TASKS_AT_A_TIME, settings.tasks) * (max(settings.shots) + (settings.grid or settings.query_shots))
    work = num_params(config) * samples * len(config.seeds)
    return resolve_threads(config.engine.threads, multiply_adds=work)


def _measure(
    config: Config,
    params: Params,
    device: torch.device,
    stop: StopRequest,
    threads: Threads,
    frozen: Mapping[int, int],
) -> list[Row]:
    """Make the rows of a meta-test: of a chain, those of its student and then those of its teacher."""
    if config.algorithm.name != "chain":
        return summarise_all(config, meta_test(config, params, device, stop, threads), frozen)
    return [
        {"model": model} | row
        for model in ("student", "teacher")
        for row in summarise_all(config, meta_test(config, params, device, stop, threads, model), frozen)
    ]


def meta_test(
    config: Config,
    params: Params,
    device: torch.device,
    stop: StopRequest,
    threads: Threads,
    model: Literal["student", "teacher"] = "student",
) -> dict[int, torch.Tensor]:
    """Measure the adaptation losses, of shape (S, T, N + 1), for each K of the config; of a chain, those of a model."""
    settings, losses = config.evaluation, {}
    measure: Callable[[Params, Task], torch.Tensor]
    if config.algorithm.name == "chain":
        measure = partial(chain_test_losses, config, model=model)
    else:
        loss_fn = make_loss_fn(config.model)
        adapt_step = make_adapt_step(loss_fn, config.algorithm)
        measure = partial(adaptation_losses, loss_fn, adapt_step, inner_steps=settings.inner_steps)
    for shots in settings.shots:
        parts = []
        for first in range(0, settings.tasks, _TASKS_AT_A_TIME):
            stop.raise_if_asked("interrupted during the evaluation; nothing was written")
            threads.look()
            count = min(_TASKS_AT_A_TIME, settings.tasks - first)
            parts.append(measure(params, _to(meta_test_tasks(config, shots, first, count), device)))
        losses[shots] = torch.cat(parts, dim=1)
    return losses


def _slot_weights(config: Config, params: Params) -> Row | None:
    if SLOT_WEIGHTS not in params:
        return None
    by_seed = zip(config.seeds, params[SLOT_WEIGHTS].tolist(), strict=True)
    return {"corrupted_slots": config.tasks.corrupted_slots, "weights": [{"seed": s, "slots": w} for s, w in by_seed]}


def meta_test_tasks(config: Config, shots: int, first: int = 0, count: int | None = None) -> Task:
    """Draw meta-test tasks; those of a smaller K are the same with fewer support samples."""
    settings = config.evaluation
    return _meta_test_list(config).tasks(
        first,
        count or settings.tasks,
        support_shots=shots,
        query_shots=settings.grid or settings.query_shots,
        query_grid=settings.grid is not None,
        unlabelled_inputs=unlabelled_inputs(config),
    )


def summarise_all(config: Config, losses: dict[int, torch.Tensor], frozen: Mapping[int, int]) -> list[Row]:
    """Summarise the losses of every K; see `mamlcli.meta_test.losses.summarise`.

    A seed that diverged in training is marked with the step in its rows, and counts with the parameters it kept.
    """
    return [
        row
        | {
            "diverged_at_step": frozen.get(row["seed"]),
            "num_diverged_seeds": len(frozen) if row["seed"] == "all" else int(row["seed"] in frozen),
        }
        for shots, values in losses.items()
        for row in summarise(values, seeds=config.seeds, shots=shots, diverged_above=config.evaluation.diverged_above)
    ]


def over_seeds(config: Config, rows: list[Row]) -> list[Row]:
    """Choose the rows that speak for the whole run: over seeds, or those of the only seed."""
    wanted = "all" if len(config.seeds) > 1 else config.seeds[0]
    return [row for row in rows if row["seed"] == wanted]


def _meta_test_list(config: Config) -> TaskList:
    return TaskList(make_family(config.tasks), config.evaluation.seed, "meta-test")


def _locate(target: str | Path | None, reporter: Reporter, *, random_init: bool) -> tuple[Checkpoint, Config, Path]:
    """Find the checkpoint to evaluate, how it is tested by itself, and the folder for what comes out of that."""
    if target is not None and Path(target).is_file():
        path = Path(target)
        stray = load_checkpoint(path)
        in_run = path.parent.name == "checkpoints" and (path.parent.parent / "run.json").exists()
        folder = path.parent.parent if in_run else path.parent
        return stray, stray.config, folder / f"evaluation-{path.stem}{'-random-init' * random_init}"
    run = latest_run() if target is None else open_run(Path(target))
    if target is None:
        reporter.note(f"evaluating the run that finished last: {run.path}")
    own = run.config()

    def load(path: Path) -> Checkpoint:
        checkpoint = load_checkpoint(path)
        check_experiment(checkpoint, own)
        return checkpoint

    found = use_newest(run.checkpoints, load, reporter.note)
    if found is None:
        raise CheckpointError(f"{run.path}: it has no checkpoint yet")
    return found[0], own, run.path / "evaluation-random-init" if random_init else run.path


def _to(task: Task, device: torch.device) -> Task:
    return Task(*(type(side)(*(part.to(device) for part in side)) for side in task))


def _draw_fits(run: RunFolder, config: Config, params: Params, device: torch.device, reporter: Reporter) -> Path | None:
    """Draw the first meta-test tasks as the first seed fits them, with the K in the middle."""
    shots = sorted(config.evaluation.shots)[len(config.evaluation.shots) // 2]
    count = min(NUM_FITS, config.evaluation.tasks)
    functions, tasks = _meta_test_list(config).sinusoids(0, count), meta_test_tasks(config, shots, 0, count)
    first = {name: theta[0] for name, theta in params.items()}
    return draw_fits(run, config, first, _to(tasks, device), functions, reporter)
