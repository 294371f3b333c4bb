"""The experiments that come along: configs by name, those of `methods/` too, and the rows of `maml reproduce`.

The file of a config opens with four lines, which `described` reads:

    # yaml-language-server: $schema=schemas/config-1.json   by what editors complete and check it
    # maml train quickstart                                 the command that runs it
    # A first look at the sinusoids                         what it is, in at most 42 letters
    # Time: 5 to 7 s on two cores                           how long that takes, as measured

In `methods/` the schema is that of the folder above. That of a row has the first two; its title says what it is.
"""

import re
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple

from mamlcli.errors import Remedy

FOLDER = Path(__file__).parent.parent / "configs"
SCHEMA_LINE = "# yaml-language-server: $schema="
_TIME = "# Time: "


class Shipped(NamedTuple):
    """What the head of a config says."""

    name: str
    summary: str
    time: str
    command: str
    """Which command runs it."""
    path: Path


def shipped_configs() -> dict[str, Path]:
    """The files of the experiments that come along, by name; those of methods after all others."""
    return _by_name(FOLDER) | shipped_methods()


def shipped_methods() -> dict[str, Path]:
    """Those of them that show a method each, with one protocol for all."""
    return dict(sorted(_by_name(FOLDER / "methods").items()))


def shipped_rows() -> dict[str, Path]:
    """The files of the published results that come along, by name."""
    return _by_name(FOLDER / "reproduce")


def shipped_groups() -> dict[str, list[str]]:
    """The names of the rows of each group, by the group's name."""
    groups: dict[str, list[str]] = {}
    for name, said in _said_by_rows("group").items():
        for group in said.strip("[]").split(", "):
            groups.setdefault(group, []).append(name)
    return dict(sorted(groups.items()))


def shipped_curves() -> list[str]:
    """What the curves of all rows that come along are called, in an order of their own."""
    return list(dict.fromkeys(_said_by_rows("curve").values()))


def _said_by_rows(key: str) -> dict[str, str]:
    """What rows say on a line of their own, where they do; the rest is not read, which takes far longer."""
    line = re.compile(rf"^{key}: (.+)$", re.MULTILINE)
    found = {name: line.search(path.read_text("utf-8")) for name, path in shipped_rows().items()}
    return {name: said[1].strip() for name, said in found.items() if said}


def config_path(named: str | Path) -> Path:
    """The file that is meant: the one of this path, or else the one that comes along under this name."""
    path, shipped = Path(named), shipped_configs().get(str(named))
    # A folder may well be called as what it came from: `--out quickstart`.
    return path if shipped is None or path.is_file() else shipped


def described() -> list[Shipped]:
    """What comes along, from the heads of its files; the shortest way in comes first."""
    heads = {name: (path, path.read_text("utf-8").splitlines()[1:4]) for name, path in shipped_configs().items()}
    found = [
        Shipped(name, summary.removeprefix("# "), time.removeprefix(_TIME), command.removeprefix("# "), path)
        for name, (path, (command, summary, time)) in heads.items()
    ]
    return sorted(found, key=lambda one: _FIRST.index(one.name) if one.name in _FIRST else len(_FIRST))


# Where a reader begins; the others follow by name.
_FIRST = ("quickstart", "smoke")


def row_named(named: str | Path) -> str | None:
    """The name of the row that is meant by its name or by its file; None if none is."""
    rows = shipped_rows()
    if str(named) in rows:
        return str(named)
    file = Path(named).resolve()
    return next((name for name, path in rows.items() if path.resolve() == file), None)


def near(named: str | Path, known: Iterable[str]) -> str | None:
    """Which of the known names was probably meant, by its name or by a file of that name: `configs/smoke.yaml`."""
    # At Python's own 0.6, a file called `mine` is taken for `mt-net`.
    close = get_close_matches(Path(named).stem.lower(), known, n=1, cutoff=0.65)
    return close[0] if close else None


def unknown_row(named: str) -> Remedy:
    """What to do about a name that is of no row."""
    if named in shipped_configs():
        return Remedy(*(f"it is a config: {said}" for said in as_config(named)))
    hint, known = _did_you_mean(named, shipped_rows()), ", ".join(shipped_rows())
    return Remedy(f"{hint}known: {known}", f"{hint}maml reproduce --list lists what there is")


def unknown_group(named: str) -> Remedy:
    """What to do about a name that is of no group."""
    hint, known = _did_you_mean(named, shipped_groups()), ", ".join(shipped_groups())
    return Remedy(f"{hint}known: {known}", f"{hint}known: {known}")


def unknown_name(named: str) -> Remedy:
    """What to do about a name of nothing that comes along."""
    known = [*shipped_configs(), *shipped_rows()]
    hint = _did_you_mean(named, known)
    return Remedy(f"{hint}known: {', '.join(known)}", f"{hint}maml configs ls lists what there is")


def _did_you_mean(named: str, known: Iterable[str]) -> str:
    close = near(named, known)
    return f"did you mean {close!r}? " if close else ""


def not_there(named: str | Path) -> Remedy:
    """What to do about a file that is not there."""
    if str(named) in shipped_rows():
        row = as_row(named)
        return Remedy(*(f"it is a row of published results: {said}" for said in row))
    close = near(named, shipped_configs())
    if close is None:
        known = ", ".join(shipped_configs())
        return Remedy(f"these come along by name: {known}", "maml configs ls lists what comes along")
    return Remedy(
        f"did you mean load_config({close!r}), which comes along?",
        f"did you mean --config {close}, which comes along? maml configs ls lists them all",
    )


def as_row(named: str | Path) -> Remedy:
    """What to do with a row where a config was wanted."""
    row = row_named(named) or str(named)
    return Remedy(f"reproduce([{row!r}]) runs it", f"to run it: maml reproduce {row}")


def as_config(named: str | Path) -> Remedy:
    """What to do with a config where a row was wanted."""
    python = f"train(load_config({str(named)!r})) runs it"
    if str(named) in shipped_configs():
        return Remedy(python, f"to run it: maml train {named}")
    return Remedy(python, f"to run it: maml train --config {named}")


def _by_name(folder: Path) -> dict[str, Path]:
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}
