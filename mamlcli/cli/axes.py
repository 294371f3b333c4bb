"""Which `--set` of a sweep are axes."""

from collections.abc import Iterable
from typing import Any

from mamlcli.config.file import override_value
from mamlcli.errors import ConfigError
from mamlcli.escaping import shorten, visible

_CLOSING = {"[": "]", "{": "}", "(": ")"}


def split_axes(texts: Iterable[str]) -> tuple[list[str], dict[str, list[Any]]]:
    """Tell settings from axes: `key=value` sets, and `key=value,value` is an axis.

    Commas in brackets and quotation marks are part of a value.

    >>> split_axes(["outer.lr=1e-3,3e-4", "evaluation.shots=[5, 10]", "model.hidden_sizes=[40, 40],[80, 80]"])
    (['evaluation.shots=[5, 10]'], {'outer.lr': [0.001, 0.0003], 'model.hidden_sizes': [[40, 40], [80, 80]]})

    Raises:
        ConfigError: If a value of an axis cannot be read, or a key is an axis twice.
    """
    settings: list[str] = []
    axes: dict[str, list[Any]] = {}
    for text in texts:
        key, _, value = text.partition("=")
        parts = _split(value)
        place = visible(shorten(f"--set {text}"))
        if len(parts) == 1:
            settings.append(text)
        elif key.strip() in axes:
            raise ConfigError([f"{place}: {key.strip()} is an axis already; write all of its values at once"])
        elif not all(part.strip() for part in parts):
            raise ConfigError([f"{place}: a value is missing between two commas"])
        else:
            axes[key.strip()] = [override_value(part.strip(), place) for part in parts]
    return settings, axes


def _split(text: str) -> list[str]:
    """Cut at the commas that stand in no bracket and no quotation."""
    parts, closing, quote = [""], list[str](), ""
    for letter in text:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"" and not parts[-1].strip():
            quote = letter
        elif letter in _CLOSING:
            closing.append(_CLOSING[letter])
        elif closing and letter == closing[-1]:
            closing.pop()
        elif letter == "," and not closing:
            parts.append("")
            continue
        parts[-1] += letter
    return parts
