"""MAML experiments on few-shot regression: many seeds at once, first and second order.

>>> import mamlcli
>>> config = mamlcli.parse_config("name: demo")
>>> config.algorithm.order
'second'
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mamlcli.algorithms.maml import adapt
    from mamlcli.commands.compare_orders import compare_orders
    from mamlcli.commands.evaluate import evaluate
    from mamlcli.commands.train import train
    from mamlcli.config.experiment import Config
    from mamlcli.config.file import dump_config, load_config, parse_config

__all__ = [
    "Config",
    "adapt",
    "compare_orders",
    "dump_config",
    "evaluate",
    "load_config",
    "parse_config",
    "train",
]

_HOMES = {
    "Config": "config.experiment",
    "adapt": "algorithms.maml",
    "compare_orders": "commands.compare_orders",
    "dump_config": "config.file",
    "evaluate": "commands.evaluate",
    "load_config": "config.file",
    "parse_config": "config.file",
    "train": "commands.train",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that `maml --help` need not load torch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'mamlcli' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"mamlcli.{_HOMES[name]}"), name)
