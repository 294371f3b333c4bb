"""`maml eval`: a run or a checkpoint on the fixed meta-test tasks."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from mamlcli.algorithms.maml import adapt
from mamlcli.config import Config
from mamlcli.config_file import config_differences, dump_config, parse_config
from mamlcli.errors import CheckpointError, UsageError
from mamlcli.evaluation import adaptation_losses, summarise
from mamlcli.experiments.setup import Reporter, Silent, make_family, make_loss_fn, make_state
from mamlcli.experiments.train import announce_device
from mamlcli.interrupts import StopRequest
from mamlcli.mlp import ACTIVATIONS, forward
from mamlcli.plots import adaptation_figure, fits_figure
from mamlcli.runs.checkpoints import Checkpoint, check_experiment, check_fits, load_checkpoint, use_newest
from mamlcli.runs.files import csv_text, json_text
from mamlcli.runs.folder import RunFolder, latest_run, make_folder, open_run
from mamlcli.tasks import Task, TaskList
from mamlcli.types import Params, Row

_NUM_FITS = 3
_FIT_STEPS = (0, 1, 10)
_GRID_POINTS = 200
# What an override may change: how a run is tested.
_TEST_KEYS = ("evaluation.", "tasks.", "algorithm.inner_lr", "device")


class EvalResult(NamedTuple):
    """What the meta-test found."""

    run: Path
    """The folder that holds the result."""
    checkpoint: Path
    step: int
    tasks: int
    query: dict[str, Any]
    results: list[Row]
    """See `summarise_all`."""
    figures: list[Path]

    def as_json(self) -> dict[str, Any]:
        """The object of `maml eval --json` and of evaluation.json."""
        return {
            "schema": "mamlcli.eval/1",
            "run": str(self.run),
            "checkpoint": str(self.checkpoint),
            "outer_steps": self.step,
            "tasks": self.tasks,
            "query": self.query,
            "results": self.results,
        }


def evaluate(
    target: str | Path | None = None,
    *,
    overrides: tuple[str, ...] = (),
    out: str | Path | None = None,
    reporter: Reporter | None = None,
) -> EvalResult:
    """Evaluate a run or a checkpoint, and write tables and figures.

    Args:
        target: A run folder (its newest whole checkpoint is used), a checkpoint file, or None for the run
            that was started last under `outputs/`.
        overrides: `key.path=value` texts that change the run's config, like `evaluation.tasks=100`.
        out: Where to write. None is the run folder for a run, and a folder of its own for a checkpoint file.
        reporter: Hears of progress.

    Raises:
        ConfigError: If an override is wrong.
        CheckpointError: If the target is no run or checkpoint, or does not fit the config.
        DeviceError: If the device is not there.
        InterruptedRunError: If SIGINT or SIGTERM came.
    """
    reporter = reporter or Silent()
    with StopRequest() as stop:
        checkpoint, folder = _locate(target, reporter)
        config = parse_config(dump_config(checkpoint.config), source="config of the run", overrides=overrides)
        _check_overrides(checkpoint.config, config)
        check_fits(checkpoint, make_state(config, torch.device("cpu")).params)
        device = announce_device(config, reporter)
        params = {name: theta.to(device) for name, theta in checkpoint.params.items()}
        losses = meta_test(config, params, device, stop)
        results = summarise_all(config, losses, checkpoint.frozen)
        run = make_folder(folder if out is None else Path(out), may_exist=out is None)
        result = EvalResult(
            run.path, checkpoint.path, checkpoint.step, config.evaluation.tasks, query_protocol(config), results, []
        )
        run.write_text("evaluation.json", json_text(result.as_json()))
        run.write_text("evaluation.csv", csv_text(results))
        stop.raise_if_asked(f"interrupted before the figures were drawn; the tables are in {run.path}")
        figures = [_draw_adaptation(run, config, results), _draw_fits(run, config, params, device)]
    return result._replace(figures=figures)


def _check_overrides(trained: Config, config: Config) -> None:
    """Raise UsageError where an override changes what was trained, not how it is tested."""
    changed = [line for line in config_differences(trained, config) if not line.startswith(_TEST_KEYS)]
    if changed or trained.outer.steps != config.outer.steps:
        lines = "; ".join(changed) or "outer.steps"
        raise UsageError(
            f"an evaluation cannot change what was trained ({lines}); only {', '.join(_TEST_KEYS)} may differ"
        )


def query_protocol(config: Config) -> dict[str, Any]:
    """Say on what the losses are measured."""
    low, high = config.tasks.x
    return {
        "points": config.evaluation.query_shots,
        "sampling": f"uniform in [{low:g}, {high:g}]",
        "test_seed": config.evaluation.seed,
    }


def meta_test(config: Config, params: Params, device: torch.device, stop: StopRequest) -> dict[int, torch.Tensor]:
    """Measure the adaptation losses, of shape (S, T, N + 1), for each K of the config."""
    settings, losses = config.evaluation, {}
    for shots in settings.shots:
        stop.raise_if_asked("interrupted during the evaluation; nothing was written")
        losses[shots] = adaptation_losses(
            make_loss_fn(config.model),
            params,
            _to(meta_test_tasks(config, shots), device),
            inner_lr=config.algorithm.inner_lr,
            inner_steps=settings.inner_steps,
        )
    return losses


def meta_test_tasks(config: Config, shots: int) -> Task:
    """Draw the meta-test tasks; those of a smaller K are the same with fewer support samples."""
    settings = config.evaluation
    return _meta_test_list(config).tasks(0, settings.tasks, support_shots=shots, query_shots=settings.query_shots)


def summarise_all(config: Config, losses: dict[int, torch.Tensor], frozen: Mapping[int, int]) -> list[Row]:
    """Summarise the losses of every K; see `mamlcli.evaluation.summarise`.

    A seed that diverged in training is marked with the step in its rows, and counts with the parameters it kept.
    """
    return [
        row | {"diverged_at_step": frozen.get(row["seed"])}
        for shots, values in losses.items()
        for row in summarise(values, seeds=config.seeds, shots=shots, diverged_above=config.evaluation.diverged_above)
    ]


def over_seeds(config: Config, rows: list[Row]) -> list[Row]:
    """Choose the rows that speak for the whole run: over seeds, or those of the only seed."""
    wanted = "all" if len(config.seeds) > 1 else config.seeds[0]
    return [row for row in rows if row["seed"] == wanted]


def _meta_test_list(config: Config) -> TaskList:
    return TaskList(make_family(config.tasks), config.evaluation.seed, "meta-test")


def _locate(target: str | Path | None, reporter: Reporter) -> tuple[Checkpoint, Path]:
    """Find the checkpoint to evaluate and the folder for what comes out."""
    if target is not None and Path(target).is_file():
        path = Path(target)
        stray = load_checkpoint(path)
        in_run = path.parent.name == "checkpoints" and (path.parent.parent / "run.json").exists()
        folder = path.parent.parent if in_run else path.parent
        return stray, folder / f"evaluation-{path.stem}"
    run = latest_run() if target is None else open_run(Path(target))
    if target is None:
        reporter.note(f"evaluating the latest run: {run.path}")

    def load(path: Path) -> Checkpoint:
        checkpoint = load_checkpoint(path)
        check_experiment(checkpoint, run.config())
        return checkpoint

    checkpoint = use_newest(run.checkpoints, load, reporter.note)
    if checkpoint is None:
        raise CheckpointError(f"{run.path}: it has no checkpoint yet")
    return checkpoint, run.path


def _to(task: Task, device: torch.device) -> Task:
    return Task(*(type(side)(*(part.to(device) for part in side)) for side in task))


def _draw_adaptation(run: RunFolder, config: Config, results: list[Row]) -> Path:
    rows = over_seeds(config, results)
    title = (
        f"{config.name}: adaptation on {config.evaluation.tasks} meta-test tasks (95% interval {rows[0]['interval']})"
    )
    return run.save_figure("adaptation", adaptation_figure(rows, title=title), rows)


def _draw_fits(run: RunFolder, config: Config, params: Params, device: torch.device) -> Path:
    """Draw the first meta-test tasks as the first seed fits them."""
    shots = sorted(config.evaluation.shots)[len(config.evaluation.shots) // 2]
    support = _to(meta_test_tasks(config, shots), device).support
    x = torch.linspace(*config.tasks.x, _GRID_POINTS, device=device).unsqueeze(-1)
    truths = _meta_test_list(config).sinusoids(0, _NUM_FITS)(x.cpu().double().unsqueeze(0))
    first_seed = {name: theta[0] for name, theta in params.items()}
    curves, points = [], []
    for task in range(min(_NUM_FITS, config.evaluation.tasks)):
        fits = {"truth": truths[task]}
        samples = type(support)(support.x[task], support.y[task])
        for steps in _FIT_STEPS:
            adapted = adapt(
                make_loss_fn(config.model),
                first_seed,
                samples,
                inner_lr=config.algorithm.inner_lr,
                inner_steps=steps,
                order="first",
            )
            prediction = forward(adapted, x, activation=ACTIVATIONS[config.model.activation])
            fits["before adaptation" if steps == 0 else f"after {steps} step{'s' * (steps > 1)}"] = prediction
        curves += [row for name, y in fits.items() for row in _points(x, y, task=task, curve=name)]
        points += _points(samples.x, samples.y, task=task, curve="support")
    title = f"{config.name}: seed {config.seeds[0]} adapts to {shots} support samples"
    return run.save_figure("fits", fits_figure(curves, points, title=title), curves + points)


def _points(x: torch.Tensor, y: torch.Tensor, *, task: int, curve: str) -> list[Row]:
    pairs = zip(x.flatten().tolist(), y.flatten().tolist(), strict=True)
    return [{"task": task, "curve": curve, "x": one, "y": other} for one, other in pairs]
