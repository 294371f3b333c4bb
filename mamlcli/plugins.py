"""Families, models and methods of a user's own: Python files and modules that register them when they are imported.

Nothing but `--plugin` (or an import of the user's own) ever brings one in: a run folder or a checkpoint names what it
needs, and causes no import.
"""

import hashlib
import importlib
import importlib.util
import shlex
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from mamlcli.errors import UsageError

_LOADED: dict[str, ModuleType] = {}


class PluginError(UsageError):
    """A plugin cannot be imported; its message is the user's own line and what happened there."""


def load_plugins(names: Sequence[str]) -> None:
    """Import plugins, each once.

    Args:
        names: Paths of Python files, or names of importable modules.

    Raises:
        PluginError: If one is not there, or raises when it is imported.
    """
    for name in names:
        if name not in _LOADED:
            _LOADED[name] = _from_file(Path(name)) if _is_path(name) else _from_name(name)


def loaded_plugins() -> list[dict[str, str | None]]:
    """What is loaded, for run.json: the name, and the SHA-256 of its file."""
    return [{"name": name, "sha256": _hash(module)} for name, module in _LOADED.items()]


def plugin_options() -> list[str]:
    """The words of a command line that load them in another process."""
    return [word for name in _LOADED for word in ("--plugin", name)]


def typed_options() -> str:
    """The same as they are typed after a command, a space before each."""
    return "".join(f" {shlex.quote(word)}" for word in plugin_options())


def users_lines(error: BaseException) -> str | None:
    """What a plugin's exception says to its author: from the plugin's own first line down, and none of ours above it.

    Returns:
        None if no plugin was under way.
    """
    frames = traceback.extract_tb(error.__traceback__)
    files = {module.__file__ for module in _LOADED.values()}
    first = next((index for index, frame in enumerate(frames) if frame.filename in files), None)
    if first is None:
        return None
    return "".join([*traceback.format_list(frames[first:]), *traceback.format_exception_only(error)]).rstrip()


def _is_path(name: str) -> bool:
    return name.endswith(".py") or "/" in name or "\\" in name


def _from_file(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"mamlcli_plugin_{path.stem}", path.resolve())
    if not path.is_file() or spec is None or spec.loader is None:
        raise PluginError(f"plugin {path}: no such Python file")
    module = importlib.util.module_from_spec(spec)
    # Annotations of its config classes are looked up there.
    sys.modules[spec.name] = _LOADED[str(path)] = module
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        said = users_lines(error) or "".join(traceback.format_exception_only(error)).rstrip()
        del sys.modules[spec.name], _LOADED[str(path)]
        if isinstance(error, UsageError) or not isinstance(error, Exception):
            raise
        raise PluginError(f"plugin {path} cannot be imported:\n{_indented(said)}") from None
    return module


def _from_name(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise PluginError(
                f"plugin {name}: no module of that name can be imported; a file is named with its .py"
            ) from None
        raise PluginError(f"plugin {name} cannot be imported: {error}") from None
    except Exception as error:
        said = "".join(traceback.format_exception_only(error)).rstrip()
        raise PluginError(f"plugin {name} cannot be imported:\n{_indented(said)}") from None


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())


def _hash(module: ModuleType) -> str | None:
    try:
        return hashlib.sha256(Path(module.__file__ or "").read_bytes()).hexdigest()
    except OSError:
        return None
