"""The experiments that come along: configs by name, and the rows of `maml reproduce`."""

from pathlib import Path

FOLDER = Path(__file__).parent.parent / "configs"


def shipped_configs() -> dict[str, Path]:
    """The files of the experiments that come along, by name."""
    return _by_name(FOLDER)


def shipped_rows() -> dict[str, Path]:
    """The files of the published results that come along, by name."""
    return _by_name(FOLDER / "reproduce")


def config_path(named: str | Path) -> Path:
    """The file that is meant: the one of this path, or else the one that comes along under this name."""
    path = Path(named)
    return path if path.exists() else shipped_configs().get(str(named), path)


def _by_name(folder: Path) -> dict[str, Path]:
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}
