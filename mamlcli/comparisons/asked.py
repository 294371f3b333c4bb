"""What a comparison was asked for, as its folder keeps it: so that it can be gone on with by its folder alone."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from mamlcli.config.experiment import Config
from mamlcli.config.file import dump_config, load_config
from mamlcli.errors import CheckpointError, ConfigError, RunFolderError, UsageError
from mamlcli.plugins import loaded_plugins
from mamlcli.runs.folder import RunFolder, default_path, make_folder
from mamlcli.runs.link import followed
from mamlcli.runs.loose import listing, text
from mamlcli.runs.provenance import new_session, utc_now

KIND = "compare"


class Asked(NamedTuple):
    """What is to be compared, and how."""

    runs: tuple[str, ...]
    """Folders or checkpoint files of runs that are there."""
    configs: Mapping[str, Config]
    """Experiments to train, by what each is called."""
    baseline: str | None
    """What the others are compared with: the name of an experiment or the path of a run; None for the first."""
    overrides: tuple[str, ...]
    """What is changed of how the runs that are there are tested."""
    margin: float
    """The largest difference that does not matter, as a part of the baseline's mean."""

    def as_info(self) -> dict[str, Any]:
        """As it stands in run.json; the experiments lie in `configs/`."""
        return self._asdict() | {"runs": list(self.runs), "configs": list(self.configs), "overrides": [*self.overrides]}


def open_folder(asked: Asked | None, out: Path | None, *, resume: bool) -> tuple[RunFolder, Asked]:
    """The folder of a comparison, new or to be gone on with, and what it is of.

    Args:
        asked: What is to be compared; None for what the folder says.
        out: The folder; a new one under `outputs/compare/` if None.
        resume: Whether it may be there already.

    Raises:
        UsageError: If it is of something else than what is asked for.
        CheckpointError: If it is no comparison.
        RunFolderError: If it may not be there, or cannot be made.
    """
    path = default_path(KIND) if out is None else followed(out)
    if resume and path.exists():
        folder = RunFolder(path)
        kept = _read(folder)
        if asked is not None and asked != kept:
            raise UsageError(f"{path} is a comparison of something else: leave out what is to be compared, it says so")
        return folder, kept
    if asked is None:
        raise CheckpointError(f"{path}: no such folder of a comparison")
    if path.exists():
        raise RunFolderError(f"{path} exists already; name a new folder")
    folder = make_folder(path, may_exist=False)
    make_folder(path / "configs", may_exist=True)
    for name, config in asked.configs.items():
        folder.write_text(f"configs/{name}.yaml", dump_config(config))
    folder.write_info({"schema": "mamlcli.run/1", "kind": KIND, "started": utc_now(), "asked": asked.as_info()})
    return folder, asked


def begin_session(folder: RunFolder) -> None:
    """Say in run.json that this process works on it from now on."""
    info = folder.read_info()
    session = new_session(torch.device("cpu"), 0)
    folder.write_info(info | {"plugins": loaded_plugins(), "sessions": [*info.get("sessions", []), session]})


def _read(folder: RunFolder) -> Asked:
    """What a folder was made for."""
    info = folder.read_info()
    asked = info.get("asked")
    if info.get("kind") != KIND or not isinstance(asked, dict):
        raise CheckpointError(f"{folder.path}: not a folder of maml {KIND}")
    try:
        configs = {str(name): load_config(folder.path / "configs" / f"{name}.yaml") for name in asked["configs"]}
        return Asked(
            tuple(map(str, listing(asked["runs"]))),
            configs,
            text(asked["baseline"]),
            tuple(map(str, listing(asked["overrides"]))),
            float(asked["margin"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, ConfigError):
            raise CheckpointError(f"{folder.path}: cannot be gone on with:\n{error}", error.remedy) from None
        raise CheckpointError(f"{folder.path}: run.json does not say what is compared") from None


def chosen_baseline(baseline: str | None, names: Sequence[str], paths: Sequence[Path]) -> int | None:
    """Which of the runs is the baseline: the first if none is named; None if the one that is named is not among them.

    Args:
        baseline: The name or the path of one.
        names: Of the runs.
        paths: Of the same.
    """
    if baseline is None:
        return 0
    if baseline in names:
        return names.index(baseline)
    resolved = [path.resolve() for path in paths]
    wanted = followed(Path(baseline)).resolve()
    return resolved.index(wanted) if wanted in resolved else None
