"""What a program passes, checked where Python would go on with it and fail somewhere else."""

from collections.abc import Mapping, Sequence
from typing import Any

from mamlcli.config.experiment import Config
from mamlcli.errors import UsageError
from mamlcli.escaping import shorten

_LARGEST_SEED = 2**32 - 1


def check_config(config: Any) -> None:
    """Raise UsageError unless it is an experiment, and no name, file or mapping of one."""
    if not isinstance(config, Config):
        raise UsageError(f"config: must be a Config, as load_config('quickstart') gives one, got {_described(config)}")


def check_text(name: str, text: Any, example: str) -> None:
    """Raise UsageError unless it is one text."""
    if not isinstance(text, str):
        raise UsageError(f"{name}: must be a text, like {example!r}, got {_described(text)}")


def check_texts(name: str, texts: Any, example: str) -> None:
    """Raise UsageError unless it is several texts, and no text: the letters of one are texts as well."""
    if isinstance(texts, str | Mapping) or not all(isinstance(text, str | tuple) for text in texts):
        raise UsageError(f"{name}: must be a list of texts, like [{example!r}], got {_described(texts)}")


def checked_seeds(seeds: Sequence[int] | None, otherwise: tuple[int, ...]) -> tuple[int, ...]:
    """The seeds that are meant, or others where None are named.

    Raises:
        UsageError: If they are no list of different whole numbers from 0 on.
    """
    if seeds is None:
        return otherwise
    found = () if isinstance(seeds, str) else tuple(seeds)
    are_seeds = all(type(seed) is int and 0 <= seed <= _LARGEST_SEED for seed in found)
    if not found or not are_seeds or len(set(found)) < len(found):
        allowed = f"different whole numbers from 0 to {_LARGEST_SEED}"
        raise UsageError(f"seeds: must be a list of {allowed}, like [0, 1, 2], got {_described(seeds)}")
    return found


def check_count(name: str, count: int | None) -> None:
    """Raise UsageError unless it is None or a whole number from 1 on."""
    if count is not None and (type(count) is not int or count < 1):
        raise UsageError(f"{name}: must be a whole number from 1 on, got {_described(count)}")


def _described(value: Any) -> str:
    return shorten(repr(value))
