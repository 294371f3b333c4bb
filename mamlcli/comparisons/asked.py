"""What a comparison was asked for, as its folder keeps it: so that it can be gone on with by its folder alone."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from mamlcli.config.experiment import Config
from mamlcli.config.file import dump_config, load_config
from mamlcli.errors import CheckpointError, ConfigError, UsageError
from mamlcli.runs.folder import RunFolder, make_folder
from mamlcli.runs.loose import listing, text
from mamlcli.runs.provenance import utc_now

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


def kept_in(path: Path, asked: Asked | None) -> Asked:
    """What the folder of a comparison was made for, which must be what is asked for, if anything is.

    Raises:
        UsageError: If it is of something else.
        CheckpointError: If it is no comparison.
    """
    kept = _read(RunFolder(path))
    if asked is not None and asked != kept:
        raise UsageError(f"{path} is a comparison of something else: leave out what is to be compared, it says so")
    return kept


def new_folder(path: Path, asked: Asked) -> RunFolder:
    """Make the folder of a comparison, which says what it is of.

    Raises:
        RunFolderError: If it is there, or cannot be made.
    """
    folder = make_folder(path, may_exist=False)
    make_folder(path / "configs", may_exist=True)
    for name, config in asked.configs.items():
        folder.write_text(f"configs/{name}.yaml", dump_config(config))
    folder.write_info({"schema": "mamlcli.run/1", "kind": KIND, "started": utc_now(), "asked": asked.as_info()})
    return folder


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
