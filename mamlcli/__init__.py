"""MAML experiments on few-shot regression: many seeds at once, first and second order.

    import mamlcli as m

    config = m.load_config("quickstart")
    run = m.train(config)
    m.evaluate(run).table()

An experiment
    load_config, parse_config, dump_config    a `Config` from a file, a name or a text, and back
    train                                     a config to a run: TrainResult
    evaluate                                  a run on the meta-test tasks: EvalResult
    compare                                   runs of any methods, paired on the same tasks: ComparedRuns
    compare_orders                            first against second order, paired: Comparison
    check_grads                               a proof of the meta-gradient: GradientReport
    reproduce                                 published results beside what is found here: Reproduction
    sweep                                     a grid of settings trained side by side, ranked: Sweep
    load                                      a run as a TrainedModel, which adapts to your tasks: Predictor
    predict                                   the same from files: PredictResult

What there is
    list_runs, show_run, diff_runs            the runs in a folder, one of them, and what two differ in
    plot                                      a figure of a run, drawn again
    report                                    runs as a page, HTML and Markdown

Around it
    RunLike                                   what says which run: its folder, its TrainResult, None for the last
    Table                                     rows that show themselves; `to_pandas()`
    LoggedStep                                what `train(on_step=...)` hears
    StopRequest                               `train(stop=...)`: asked, it ends where everything is saved
    Reporter                                  who hears how work goes
    MamlError                                 of every error: UsageError, ConfigError, DataError, RunFolderError,
                                              CheckpointError, DivergedError, DeviceError, InterruptedRunError

Families of tasks, models and methods of your own (docs/extending.md)
    load_plugins                              imports the files that hold them
    register_family, register_model, register_method
    TasksSection, FunctionTasksSection, ModelSection, AlgorithmSection, OrderedSection
    Count, CountOrZero, Positive, NonNegative, Interval
    TaskFamily, Request, function_family, Samples, Task
    Model, module_model
    Method, InnerLoop, Bench, adapt, descend, gradient_descent, constant_rate, unrolled

Nothing prints, exits or handles signals. What goes wrong is raised, and says what to do about it.
"""

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mamlcli.commands.check_grads import check_grads as check_grads
    from mamlcli.commands.compare import compare as compare
    from mamlcli.commands.compare_orders import compare_orders as compare_orders
    from mamlcli.commands.evaluate import evaluate as evaluate
    from mamlcli.commands.plot import plot as plot
    from mamlcli.commands.predict import predict as predict
    from mamlcli.commands.report import report as report
    from mamlcli.commands.reproduce import reproduce as reproduce
    from mamlcli.commands.runs import diff_runs as diff_runs
    from mamlcli.commands.runs import list_runs as list_runs
    from mamlcli.commands.runs import show_run as show_run
    from mamlcli.commands.sweep import sweep as sweep
    from mamlcli.commands.train import train as train
    from mamlcli.config.experiment import Config as Config
    from mamlcli.config.file import dump_config as dump_config
    from mamlcli.config.file import load_config as load_config
    from mamlcli.config.file import parse_config as parse_config
    from mamlcli.errors import CheckpointError as CheckpointError
    from mamlcli.errors import ConfigError as ConfigError
    from mamlcli.errors import DataError as DataError
    from mamlcli.errors import DeviceError as DeviceError
    from mamlcli.errors import DivergedError as DivergedError
    from mamlcli.errors import InterruptedRunError as InterruptedRunError
    from mamlcli.errors import MamlError as MamlError
    from mamlcli.errors import RunFolderError as RunFolderError
    from mamlcli.errors import UsageError as UsageError
    from mamlcli.interrupts import StopRequest as StopRequest
    from mamlcli.methods.inner_loops import adapt as adapt
    from mamlcli.methods.inner_loops import constant_rate as constant_rate
    from mamlcli.methods.inner_loops import descend as descend
    from mamlcli.methods.inner_loops import gradient_descent as gradient_descent
    from mamlcli.methods.meta_gradients import unrolled as unrolled
    from mamlcli.methods.method import Bench as Bench
    from mamlcli.methods.method import InnerLoop as InnerLoop
    from mamlcli.methods.method import Method as Method
    from mamlcli.models.model import Model as Model
    from mamlcli.models.module import module_model as module_model
    from mamlcli.plugins import load_plugins as load_plugins
    from mamlcli.registry import register_family as register_family
    from mamlcli.registry import register_method as register_method
    from mamlcli.registry import register_model as register_model
    from mamlcli.reporting import Reporter as Reporter
    from mamlcli.results import ComparedRuns as ComparedRuns
    from mamlcli.results import Comparison as Comparison
    from mamlcli.results import EvalResult as EvalResult
    from mamlcli.results import GradientReport as GradientReport
    from mamlcli.results import PredictResult as PredictResult
    from mamlcli.results import Reproduction as Reproduction
    from mamlcli.results import Sweep as Sweep
    from mamlcli.results import TrainResult as TrainResult
    from mamlcli.runs.located import RunLike as RunLike
    from mamlcli.section import AlgorithmSection as AlgorithmSection
    from mamlcli.section import Count as Count
    from mamlcli.section import CountOrZero as CountOrZero
    from mamlcli.section import FunctionTasksSection as FunctionTasksSection
    from mamlcli.section import Interval as Interval
    from mamlcli.section import ModelSection as ModelSection
    from mamlcli.section import NonNegative as NonNegative
    from mamlcli.section import OrderedSection as OrderedSection
    from mamlcli.section import Positive as Positive
    from mamlcli.section import TasksSection as TasksSection
    from mamlcli.tables.table import Table as Table
    from mamlcli.tasks.family import Request as Request
    from mamlcli.tasks.family import TaskFamily as TaskFamily
    from mamlcli.tasks.family import function_family as function_family
    from mamlcli.tasks.samples import Samples as Samples
    from mamlcli.tasks.samples import Task as Task
    from mamlcli.trained.loading import load as load
    from mamlcli.trained.model import Predictor as Predictor
    from mamlcli.trained.model import TrainedModel as TrainedModel
    from mamlcli.trainings.training import LoggedStep as LoggedStep

    __version__: str

# What type checkers read above, by home. Imported when it is first used, so that `maml --help` loads no torch; a test
# holds the two lists together.
_NAMES: dict[str, tuple[str, ...]] = {
    "config.file": ("load_config", "parse_config", "dump_config"),
    "config.experiment": ("Config",),
    "commands.train": ("train",),
    "commands.evaluate": ("evaluate",),
    "commands.predict": ("predict",),
    "commands.compare": ("compare",),
    "commands.compare_orders": ("compare_orders",),
    "commands.check_grads": ("check_grads",),
    "commands.reproduce": ("reproduce",),
    "commands.sweep": ("sweep",),
    "commands.plot": ("plot",),
    "commands.report": ("report",),
    "commands.runs": ("list_runs", "show_run", "diff_runs"),
    "trained.loading": ("load",),
    "trained.model": ("TrainedModel", "Predictor"),
    "results": (
        "TrainResult",
        "EvalResult",
        "PredictResult",
        "Comparison",
        "ComparedRuns",
        "GradientReport",
        "Reproduction",
        "Sweep",
    ),
    "tables.table": ("Table",),
    "runs.located": ("RunLike",),
    "trainings.training": ("LoggedStep",),
    "interrupts": ("StopRequest",),
    "reporting": ("Reporter",),
    "errors": (
        "MamlError",
        "UsageError",
        "ConfigError",
        "DataError",
        "RunFolderError",
        "CheckpointError",
        "DivergedError",
        "DeviceError",
        "InterruptedRunError",
    ),
    "plugins": ("load_plugins",),
    "registry": ("register_family", "register_model", "register_method"),
    "section": (
        "AlgorithmSection",
        "ModelSection",
        "TasksSection",
        "FunctionTasksSection",
        "Count",
        "CountOrZero",
        "Positive",
        "NonNegative",
        "Interval",
        "OrderedSection",
    ),
    "tasks.family": ("TaskFamily", "Request", "function_family"),
    "tasks.samples": ("Samples", "Task"),
    "models.model": ("Model",),
    "models.module": ("module_model",),
    "methods.method": ("Method", "InnerLoop", "Bench"),
    "methods.inner_loops": ("adapt", "descend", "gradient_descent", "constant_rate"),
    "methods.meta_gradients": ("unrolled",),
}
_HOMES = {name: home for home, names in _NAMES.items() for name in names}

__all__ = sorted(_HOMES)


# Out of sight of type checkers, which would take any name for one that there is.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Import a public name when it is first used."""
        if name == "__version__":
            from importlib.metadata import version

            return version("mamlcli")
        if name not in _HOMES:
            module = sys.modules[__name__]
            raise AttributeError(f"module 'mamlcli' has no attribute {name!r}", name=name, obj=module)
        from importlib import import_module

        return getattr(import_module(f"mamlcli.{_HOMES[name]}"), name)

    def __dir__() -> list[str]:
        """What is public, and what every module has."""
        return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
