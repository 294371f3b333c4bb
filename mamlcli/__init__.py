"""MAML experiments on few-shot regression: many seeds at once, first and second order.

>>> import mamlcli
>>> config = mamlcli.parse_config("name: demo")
>>> config.algorithm.name
'maml'

A plugin, a file with a family of tasks, a model or a method of one's own, is written with the same names; see
docs/extending.md.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mamlcli.commands.compare_orders import compare_orders
    from mamlcli.commands.evaluate import evaluate
    from mamlcli.commands.predict import predict
    from mamlcli.commands.report import report
    from mamlcli.commands.train import train
    from mamlcli.config.experiment import Config
    from mamlcli.config.file import dump_config, load_config, parse_config
    from mamlcli.methods.inner_loops import adapt, constant_rate, descend, gradient_descent
    from mamlcli.methods.meta_gradients import unrolled
    from mamlcli.methods.method import Bench, InnerLoop, Method
    from mamlcli.models.model import Model
    from mamlcli.models.module import module_model
    from mamlcli.plugins import load_plugins
    from mamlcli.registry import register_family, register_method, register_model
    from mamlcli.section import (
        AlgorithmSection,
        Count,
        CountOrZero,
        FunctionTasksSection,
        Interval,
        ModelSection,
        NonNegative,
        OrderedSection,
        Positive,
        TasksSection,
    )
    from mamlcli.tasks.family import Request, TaskFamily, function_family
    from mamlcli.tasks.samples import Samples, Task
    from mamlcli.trained.loading import load
    from mamlcli.trained.model import Predictor, TrainedModel

__all__ = [
    "AlgorithmSection",
    "Bench",
    "Config",
    "Count",
    "CountOrZero",
    "FunctionTasksSection",
    "InnerLoop",
    "Interval",
    "Method",
    "Model",
    "ModelSection",
    "NonNegative",
    "OrderedSection",
    "Positive",
    "Predictor",
    "Request",
    "Samples",
    "Task",
    "TaskFamily",
    "TasksSection",
    "TrainedModel",
    "adapt",
    "compare_orders",
    "constant_rate",
    "descend",
    "dump_config",
    "evaluate",
    "function_family",
    "gradient_descent",
    "load",
    "load_config",
    "load_plugins",
    "module_model",
    "parse_config",
    "predict",
    "register_family",
    "register_method",
    "register_model",
    "report",
    "train",
    "unrolled",
]

_HOMES = {
    "AlgorithmSection": "section",
    "Bench": "methods.method",
    "Config": "config.experiment",
    "Count": "section",
    "CountOrZero": "section",
    "FunctionTasksSection": "section",
    "InnerLoop": "methods.method",
    "Interval": "section",
    "Method": "methods.method",
    "Model": "models.model",
    "ModelSection": "section",
    "NonNegative": "section",
    "OrderedSection": "section",
    "Positive": "section",
    "Predictor": "trained.model",
    "Request": "tasks.family",
    "Samples": "tasks.samples",
    "Task": "tasks.samples",
    "TaskFamily": "tasks.family",
    "TasksSection": "section",
    "TrainedModel": "trained.model",
    "adapt": "methods.inner_loops",
    "compare_orders": "commands.compare_orders",
    "constant_rate": "methods.inner_loops",
    "descend": "methods.inner_loops",
    "dump_config": "config.file",
    "evaluate": "commands.evaluate",
    "function_family": "tasks.family",
    "gradient_descent": "methods.inner_loops",
    "load": "trained.loading",
    "load_config": "config.file",
    "load_plugins": "plugins",
    "module_model": "models.module",
    "parse_config": "config.file",
    "predict": "commands.predict",
    "register_family": "registry",
    "register_method": "registry",
    "register_model": "registry",
    "report": "commands.report",
    "train": "commands.train",
    "unrolled": "methods.meta_gradients",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that `maml --help` need not load torch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'mamlcli' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"mamlcli.{_HOMES[name]}"), name)
