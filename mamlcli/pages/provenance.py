"""Config, code, machine, data and files of a run, as parts of a page."""

import shlex
from collections.abc import Sequence
from pathlib import PurePath
from typing import Any

from pydantic import BaseModel

from mamlcli.config.experiment import Config
from mamlcli.config.reference import sections
from mamlcli.pages.again import PROGRAM, command, sessions_of
from mamlcli.pages.blocks import Block, Cell, Code, Column, Details, Facts, Section, Table, Text
from mamlcli.pages.cells import duration, moment, plain, seeds_in_words, size, word
from mamlcli.registry import CHOICES
from mamlcli.runs.contents import Contents

_SHOWN_SESSIONS = 3
_NAMED_TASKS = 60
# What is chosen where a config says nothing.
_CHOSEN = {f"{kind}.{choice.key}": choice.default for kind, choice in CHOICES.items()}
_CONFIG_COLUMNS = ("key", "value", "default", "meaning")


def config_blocks(contents: Contents) -> list[Block]:
    """What differs from the defaults, and the config whole."""
    blocks: list[Block] = []
    if contents.config is not None:
        rows = differing(contents.config)
        columns = [Column(name, is_number=False, is_long=name == "meaning") for name in _CONFIG_COLUMNS]
        blocks.append(
            Table(columns, [[word(cell) for cell in row] for row in rows], "What differs from the defaults")
            if rows
            else Text("Every key has its default.")
        )
    if contents.config_text:
        blocks.append(Details("The whole config", [Code(contents.config_text.rstrip(), "yaml")]))
    return blocks


def differing(config: Config) -> list[tuple[str, str, str, str]]:
    """The keys that have not their default: each with its value, its default and its meaning."""
    rows = []
    for name, classes in sections(config).items():
        value = getattr(config, name)
        if not classes:
            rows += _unlike(Config, name, value, name)
            continue
        for field in type(value).model_fields:
            default = _CHOSEN.get(f"{name}.{field}")
            rows += _unlike(type(value), field, getattr(value, field), f"{name}.{field}", default)
    return rows


def _unlike(
    section: type[BaseModel], field: str, value: Any, key: str, default: Any = None
) -> list[tuple[str, str, str, str]]:
    info = section.model_fields[field]
    usual = info.get_default(call_default_factory=True) if default is None and not info.is_required() else default
    if value == usual and not info.is_required():
        return []
    shown = "required" if info.is_required() else plain(_dumped(usual))
    return [(key, plain(_dumped(value)), shown, " ".join((info.description or "").replace("`", "").split()))]


def _dumped(value: Any) -> Any:
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else value


def provenance_blocks(contents: Contents) -> list[Block]:
    """The processes that worked on a run: command, code, machine and times."""
    if contents.kind == "compare-orders":
        return [Section(f"{order.capitalize()} order", provenance_blocks(one)) for order, one in contents.parts.items()]
    own = _processes(sessions_of(contents))
    return [*own, *(Section(name, provenance_blocks(one)) for name, one in contents.parts.items())]


def _processes(sessions: Sequence[dict[str, Any]]) -> list[Block]:
    blocks: list[Block] = []
    for index, session in enumerate(sessions):
        blocks.append(Section(f"Process {index + 1} of {len(sessions)}", _session(session)))
    if not sessions:
        return [Text("No process has worked on it yet.")]
    if len(sessions) == 1:
        return _session(sessions[0])
    if len(sessions) > _SHOWN_SESSIONS:
        return [Details(f"{len(sessions)} processes", blocks)]
    return blocks


def _session(session: dict[str, Any]) -> list[Block]:
    git, versions = session.get("git"), session.get("versions") or {}
    steps = f"{session.get('from_step', 0):,} to {session['to_step']:,}" if "to_step" in session else ""
    engine = [f"{name.replace('_', ' ')} {plain(session[name])}" for name in _ENGINE if name in session]
    device = " ".join(dict.fromkeys(str(session.get(name, "")) for name in ("device", "device_name")))
    facts = [
        ("started", moment(session.get("started"))),
        ("ended", moment(session.get("ended"))),
        ("steps", steps),
        ("training", duration(session["train_s"]) if "train_s" in session else ""),
        ("device", device),
        ("CPU threads", f"{session.get('threads')} (of {session.get('cpus')} cores)"),
        ("engine", ", ".join(engine)),
        ("commit", commit(git)),
        ("versions", ", ".join(f"{name} {version}" for name, version in versions.items())),
    ]
    argv = session.get("argv") or []
    called = [Code(as_typed(argv))] if argv else []
    return [*called, Facts([(name, value) for name, value in facts if value])]


_ENGINE = ("compiled", "inner_update", "task_chunk")


def commit(git: dict[str, Any] | None) -> str:
    """Which commit the working folder was at."""
    if not git or not git.get("commit"):
        return "no repository"
    return f"{git['commit']}{', with changes that were not committed' * bool(git.get('dirty'))}"


def as_typed(argv: Sequence[str]) -> str:
    """A command line as it was typed, without where the program lies.

    >>> as_typed(["/usr/bin/maml", "eval", "my run"])
    "maml eval 'my run'"
    """
    first = PurePath(str(argv[0]))
    if first.name in (PROGRAM.strip(), "__main__.py"):
        return command(*argv[1:])
    return shlex.join(map(str, argv))


def data_blocks(tasks: dict[str, Any]) -> list[Block]:
    """What is known of the data that the tasks were made from."""
    plain_values = [
        (key.replace("_", " "), plain(value))
        for key, value in tasks.items()
        if key != "schema" and isinstance(value, str | int | float)
    ]
    splits = tasks.get("splits")
    blocks: list[Block] = [Facts(plain_values)]
    if isinstance(splits, dict):
        columns = [Column("split", is_number=False), Column("tasks"), Column("names", is_number=False, is_long=True)]
        lines = [
            [word(split), word(len(names)), Cell(_named(names))]
            for split, names in splits.items()
            if isinstance(names, list)
        ]
        blocks.append(Table(columns, lines))
    return blocks


def _named(names: Sequence[Any]) -> str:
    more = f" and {len(names) - _NAMED_TASKS} more" if len(names) > _NAMED_TASKS else ""
    return ", ".join(map(str, names[:_NAMED_TASKS])) + more


def file_blocks(contents: Contents) -> list[Block]:
    """The files of a run."""
    lines = [
        [word(entry.name), word(entry.files), Cell(size(entry.size), float(entry.size))] for entry in contents.entries
    ]
    table = Table([Column("name", is_number=False), Column("files"), Column("size")], lines)
    return [Details(f"{contents.path}: {size(sum(entry.size for entry in contents.entries))}", [table])]


def seeds_tile(seeds: Sequence[int]) -> str:
    """How many seeds, and which."""
    return f"{len(seeds)} ({seeds_in_words(seeds)})"
