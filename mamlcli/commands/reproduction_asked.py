"""What a reproduction was asked for, as its folder keeps it: so that it can be gone on with by its folder alone."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mamlcli.config.arguments import checked_seeds
from mamlcli.errors import CheckpointError, UsageError
from mamlcli.runs.folder import RunFolder
from mamlcli.runs.loose import flag, listing, mapping

KIND = "reproduce"


class Asked(NamedTuple):
    """Which rows, and how."""

    names: tuple[str, ...]
    """Of rows, or where their files are."""
    groups: tuple[str, ...]
    seeds: tuple[int, ...]
    fast: bool

    def as_info(self) -> dict[str, Any]:
        """As it stands in run.json; a file is found again from any folder."""
        files = (".yaml", ".yml")
        names = [str(Path(name).absolute()) if name.endswith(files) else name for name in self.names]
        return {"names": names, "groups": list(self.groups), "seeds": list(self.seeds), "fast": self.fast}


def asked_for(names: Sequence[str], groups: Sequence[str], seeds: Sequence[int] | None, *, fast: bool) -> Asked:
    """What is asked for.

    Raises:
        UsageError: If the seeds are none.
    """
    return Asked(tuple(names), tuple(groups), checked_seeds(seeds, (0, 1) if fast else (0, 1, 2, 3, 4)), fast)


def kept_in(path: Path) -> Asked | None:
    """What the folder of a reproduction was made for; None where it does not say.

    Raises:
        CheckpointError: If it is no reproduction.
    """
    info = RunFolder(path).read_info()
    if info.get("kind") != KIND:
        raise CheckpointError(f"{path}: not a folder of maml {KIND}")
    if not (said := mapping(info.get("asked"))):
        return None
    names, groups = (tuple(map(str, listing(said.get(key)))) for key in ("names", "groups"))
    try:
        return Asked(names, groups, checked_seeds(listing(said.get("seeds")), ()), bool(flag(said.get("fast"))))
    except UsageError:
        raise CheckpointError(f"{path}: run.json does not say which seeds are reproduced") from None
