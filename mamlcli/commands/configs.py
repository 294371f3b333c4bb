"""`maml configs`: the experiments that come along, and files of a user's own. Loads no torch.

What is found is plain rows and values; `results` has their shapes.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mamlcli.config.copying import Copy, copy_of
from mamlcli.config.experiment import Config
from mamlcli.config.file import Override, dump_config, is_published, load_config, load_published, parse_config
from mamlcli.config.shipped import config_path, described, shipped_rows
from mamlcli.errors import ConfigError, RunFolderError
from mamlcli.escaping import visible
from mamlcli.runs.files import write_atomic

if TYPE_CHECKING:  # they would load torch
    from mamlcli.rows import CheckedFile, ConfigRow


def list_configs() -> "list[ConfigRow]":
    """List the experiments that come along."""
    return [
        {"name": one.name, "summary": one.summary, "time": one.time, "command": one.command, "path": str(one.path)}
        for one in described()
    ]


def show_config(named: str | Path, overrides: Sequence[str | Override] = ()) -> Config:
    """Resolve an experiment: that of a config, or the one in a published result.

    Args:
        named: A name, or a file.
        overrides: As for `load_config`.

    Raises:
        ConfigError: If it cannot be read, or anything in it is wrong.
    """
    file = _file(named)
    if not is_published(file):
        return load_config(named, overrides)
    return parse_config(dump_config(load_published(file).config), source=visible(str(named)), overrides=overrides)


def copy_config(name: str, file: Path) -> tuple[Path, Copy]:
    """Copy an experiment that comes along to a new file.

    Args:
        name: Of a config, or of a row of published results.
        file: A folder, in which the copy has its name; or a file, which ends with .yaml if it ends with nothing.

    Returns:
        The new file, and what stands in it.

    Raises:
        UsageError: If nothing of that name comes along.
        RunFolderError: If the file is there, or its folder is not.
    """
    path = file / f"{name}.yaml" if file.is_dir() else file if file.suffix else file.with_name(f"{file.name}.yaml")
    copy = copy_of(name, path)
    if path.exists() or path.is_symlink():
        raise RunFolderError(f"{path} exists already; name another file")
    if not path.parent.is_dir():
        raise RunFolderError(f"{path}: cannot make it: there is no folder {path.parent}")
    write_atomic(path, copy.text.encode("utf-8"))
    return path, copy


def check_config(named: str | Path) -> "CheckedFile":
    """Check a file: a config, or a published result and its experiment; also that the data that it names are there."""
    file = _file(named)
    is_row, problems = is_published(file), list[str]()
    try:
        config = load_published(file).config if is_row else load_config(named)
        problems = [f"{visible(str(named))}: {problem}" for problem in _missing_data(config)]
    except ConfigError as error:
        problems = error.command_line.splitlines()
    return {"file": str(named), "kind": "row" if is_row else "config", "passed": not problems, "problems": problems}


def _file(named: str | Path) -> Path:
    path = config_path(named)
    return path if path.exists() else shipped_rows().get(str(named), path)


def _missing_data(config: Config) -> list[str]:
    paths = {key: Path(getattr(config.tasks, key)) for key in config.tasks.place_keys}
    return [
        f"tasks.{key}: there is no such file: {visible(str(path))}" for key, path in paths.items() if not path.exists()
    ]
