"""`maml check-grads`: a proof, on the user's own config, that the meta-gradient is what it says."""

from collections.abc import Callable, Iterable
from pathlib import Path

import torch

from mamlcli.compute.plan import make_plan, uncompiled_gradient
from mamlcli.config.arguments import check_config
from mamlcli.config.experiment import Config
from mamlcli.config.file import dump_config
from mamlcli.drawing import save_or_warn
from mamlcli.engine_checks import engine_checks
from mamlcli.experiment import Experiment, in_order, make_experiment
from mamlcli.figures.drawing import Drawing
from mamlcli.float32_checks import float32_checks
from mamlcli.memory_check import check_checks
from mamlcli.methods.method import MetaGradient, Method, Panel
from mamlcli.proofs.checks import VERDICTS, Case, Check, cosine, left_out, norm
from mamlcli.proofs.differences import slope_check
from mamlcli.reporting import Reporter, Silent
from mamlcli.results import GradientReport
from mamlcli.rows import CheckRow, Info
from mamlcli.runs.files import json_text
from mamlcli.runs.folder import check_new, make_folder
from mamlcli.tasks.samples import Task
from mamlcli.types import ORDERS, Order, Params, finite_or_none

# A check that takes seconds looks at a part of a large experiment; the kernel is faster than what it is compared with.
_MAX_SEEDS = 3
MAX_TASKS = 10
_MAX_FLOAT32_TASKS = 40
_CPU = torch.device("cpu")


@torch.random.fork_rng(devices=[])  # a derivative of torch.func takes a number of torch's own generator
def check_grads(config: Config, *, out: str | Path | None = None, reporter: Reporter | None = None) -> GradientReport:
    """Check the meta-gradient of a config in float64, on its initial parameters and its first meta-batch.

    At most 3 seeds and 10 tasks are used, on the CPU; the kernel in float32 computes up to 40 tasks.

    Args:
        config: The experiment.
        out: A new folder for the report, gradients.json, and for figures of what a method shows of its gradient, each
            as PNG and SVG with its data as CSV; None writes nothing.
        reporter: Hears which kinds of checks are made.

    Raises:
        DeviceError: If the checks do not fit into memory.
        RunFolderError: If the folder exists, or cannot be made.
    """
    check_config(config)
    if out is not None:
        check_new(Path(out))
    reporter = reporter or Silent()
    reporter.progress("setting up the checks", 0, 1)
    whole, for_kernel, config = config, part_of(config, _MAX_FLOAT32_TASKS), part_of(config, MAX_TASKS)
    experiment = make_experiment(config)
    check_checks(experiment, make_experiment(for_kernel))
    plan = make_plan(experiment, _CPU)
    params, tasks = _inputs(experiment)
    case, method = Case(_gradients(experiment), params, tasks), experiment.method
    checks = _made(
        reporter,
        lambda: _slopes(experiment, case),
        lambda: method.proofs(case),
        lambda: engine_checks(experiment, plan, params, tasks, reporter.note),
        lambda: float32_checks(for_kernel),
    )
    panels = _panels(method, case, reporter)
    report = GradientReport(
        passed=all(check.passed for check in checks),
        method=method.title,
        inner_steps=method.inner_steps,
        checks=[_row(check) for check in sorted(checks, key=lambda check: VERDICTS.index(check.verdict))],
        seeds=config.seeds,
        tasks=config.outer.meta_batch_size,
        info=_info(case),
        approximation=method.asides(case),  # type: ignore[arg-type]
        notes=[note for note in (method.no_slope, *(panel.said for panel in panels)) if note],
    )
    return report if out is None else _written(report, Path(out), whole, panels, reporter)


def _panels(method: Method, case: Case, reporter: Reporter) -> list[Panel]:
    """What the method measures of its gradient beside the checks, which have said already what cannot be computed."""
    reporter.progress("measuring the meta-gradient", 0, 1)
    try:
        return method.proof_panels(case)
    except RuntimeError as error:
        reporter.note(f"warning: what {method.title} shows of its gradient could not be measured: {error}")
        return []


def _written(
    report: GradientReport, out: Path, config: Config, panels: list[Panel], reporter: Reporter
) -> GradientReport:
    """Write the report, the config that it is of, and the figures."""
    folder = make_folder(out, may_exist=False)
    report = report.model_copy(update={"run": folder.path})
    folder.write_text("config.yaml", dump_config(config))
    folder.write_text("gradients.json", json_text(report.as_json(without=("figures",))))
    figures = []
    for panel in panels:
        labels = {"title": f"{config.name}: {panel.what}", **panel.labels}
        figures.append(save_or_warn(folder, panel.stem, Drawing(panel.figure, panel.rows, labels), reporter))
    return report.model_copy(update={"figures": [figure for figure in figures if figure]})


def _made(reporter: Reporter, *kinds: Callable[[], Iterable[Check]]) -> list[Check]:
    """Make the checks of each kind in turn."""
    checks: list[Check] = []
    for number, kind in enumerate(kinds):
        reporter.progress("checking the meta-gradient", number, len(kinds))
        checks += kind()
    return checks


def part_of(config: Config, max_tasks: int) -> Config:
    """The experiment with as many seeds and tasks as a check of seconds can take."""
    size = min(config.outer.meta_batch_size, max_tasks)
    outer = config.outer.model_copy(update={"meta_batch_size": size, "max_grad_norm": None, "max_task_grad": None})
    return config.model_copy(update={"seeds": config.seeds[:_MAX_SEEDS], "outer": outer})


def _inputs(experiment: Experiment) -> tuple[Params, Task]:
    """Initial parameters and the first meta-batch, in float64."""
    params = experiment.initial_state(_CPU).params
    return {name: value.double() for name, value in params.items()}, experiment.stream().batch(0).map(
        torch.Tensor.double
    )


def _gradients(experiment: Experiment) -> dict[Order, MetaGradient]:
    """The code under test: what training with each order uses, before it is compiled."""
    if experiment.method.order is None:
        return {"second": uncompiled_gradient(experiment, make_plan(experiment, _CPU))}
    both = {order: make_experiment(in_order(experiment.config, order)) for order in ORDERS}
    return {order: uncompiled_gradient(one, make_plan(one, _CPU)) for order, one in both.items()}


def _slopes(experiment: Experiment, case: Case) -> list[Check]:
    """The check that every method has, whatever else it shows: of its order, or where that says nothing of itself."""
    gradient, checks = case.gradients["second"], []
    if experiment.method.no_slope is not None:
        return []
    if experiment.method.order is not None:
        name, first = "second order: slope of the meta-loss", case.gradients["first"]
        checks.append(slope_check(gradient, case.params, case.tasks, mistaken=first, name=name))
    if not checks or checks[0].verdict == "says nothing here":
        checks.append(slope_check(gradient, case.params, case.tasks, mistaken=left_out(gradient)))
    return checks


def _row(check: Check) -> CheckRow:
    """A check as it is printed; those that fail come first."""
    return {
        "name": check.name,
        "compared_with": check.compared_with,
        "relative_error": finite_or_none(check.relative_error),
        "tolerance": check.tolerance,
        "verdict": check.verdict,
        "passed": check.passed,
    }


def _info(case: Case) -> Info:
    """Norms of both meta-gradients, and how they relate.

    Null where there is no order, and where a meta-gradient could not be computed or is zero.
    """
    unknown: Info = {"first_norm": None, "second_norm": None, "second_order_share": None, "cosine": None}
    try:
        if "first" not in case.gradients:
            grads, _ = case.gradients["second"](case.params, case.tasks)
            return {**unknown, "second_norm": finite_or_none(norm(grads))}
        first, second = (case.gradients[order](case.params, case.tasks)[0] for order in ORDERS)
    except RuntimeError:  # the checks say what failed
        return unknown
    difference = norm({name: second[name] - first[name] for name in second})
    return {
        "first_norm": finite_or_none(norm(first)),
        "second_norm": finite_or_none(norm(second)),
        "second_order_share": finite_or_none(difference / norm(second)) if norm(second) else None,
        "cosine": finite_or_none(cosine(first, second)) if norm(first) and norm(second) else None,
    }
