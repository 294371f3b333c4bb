"""What the shell offers on TAB: names of configs, keys and values of `--set`, rows, run folders.

Typer asks these functions and prints what they say. None loads torch or runs a plugin, and none ever raises: a shell
that gets nothing offers files. Where one key is left, it comes once with and once without a value, since a shell puts a
space after the only word that there is.
"""

import os
import re
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from contextlib import suppress
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import typer

if TYPE_CHECKING:
    from mamlcli.config.experiment import Config

Offer: TypeAlias = tuple[str, str]
"""A word, and what it means; empty where nothing needs to be said."""
_DEEPEST = 5
# Folders that were moved aside or are being made; and those in a run that hold none.
_PASSED_OVER, _OF_A_RUN = re.compile(r"\.|.*\.old-\d{8}T\d{6}"), re.compile("checkpoints$|evaluation")
# What bash has cut off the word that is asked for, since it cuts at "=".
_CUT_OFF = "_MAML_COMPLETE_CUT_OFF"
_LONGEST_MEANING = 60


def _safely(find: Callable[..., Iterable[Offer]]) -> Callable[..., list[Offer]]:
    """Find what is offered, or nothing where that goes wrong."""

    @wraps(find)
    def offered(*arguments: Any, **named: Any) -> list[Offer]:
        with suppress(Exception):
            return list(find(*arguments, **named))
        return []

    return offered


@_safely
def complete_config(incomplete: str) -> Iterator[Offer]:
    """Configs that come along, for a NAME."""
    from mamlcli.config.shipped import described

    yield from ((one.name, _text(one.summary)) for one in described() if one.name.startswith(incomplete))


@_safely
def complete_config_file(incomplete: str) -> Iterator[Offer]:
    """The same, and the YAML files of the working folder, for `--config`."""
    yield from complete_config(incomplete)
    yield from _yaml_files(incomplete)


@_safely
def complete_name(incomplete: str) -> Iterator[Offer]:
    """Configs that come along, and rows: what can be copied."""
    yield from complete_config(incomplete)
    yield from _rows(incomplete)


@_safely
def complete_name_or_file(incomplete: str) -> Iterator[Offer]:
    """The same, and YAML files: what can be shown and checked."""
    yield from complete_name(incomplete)
    yield from _yaml_files(incomplete)


@_safely
def complete_row(incomplete: str) -> Iterator[Offer]:
    """Rows of `maml reproduce`, and YAML files."""
    yield from _rows(incomplete)
    yield from _yaml_files(incomplete)


@_safely
def complete_group(incomplete: str) -> Iterator[Offer]:
    """Groups of rows of `maml reproduce`, and what is in them."""
    from mamlcli.config.shipped import shipped_groups

    yield from (
        (name, _plain(", ".join(rows))) for name, rows in shipped_groups().items() if name.startswith(incomplete)
    )


@_safely
def complete_run(incomplete: str) -> Iterator[Offer]:
    """Run folders, the newest first."""
    yield from ((str(path), "") for path in run_folders() if str(path).startswith(incomplete))


@_safely
def complete_compared(ctx: typer.Context, incomplete: str) -> Iterator[Offer]:
    """What `maml compare` takes: run folders, or after `--configs` experiments."""
    yield from complete_config_file(incomplete) if ctx.params.get("configs") else complete_run(incomplete)


@_safely
def complete_resume(incomplete: str) -> Iterator[Offer]:
    """Run folders, and `auto`."""
    yield from complete_run(incomplete)
    if "auto".startswith(incomplete):
        yield "auto", "the run in --out if it is there"


@_safely
def complete_set(ctx: typer.Context, incomplete: str) -> Iterator[Offer]:
    """Keys of `--set`, with those of the family, model and method that the config has chosen; and their values."""
    cut_off = os.environ.get(_CUT_OFF, "")
    key, equals, _ = (cut_off + incomplete).partition("=")
    keys = _keys(_config_of(ctx))
    if equals:
        found = [f"{key}={value}" for value in keys.get(key, ("", []))[1]]
        yield from ((word.removeprefix(cut_off), "") for word in found)
        return
    near = {name: said for name, said in keys.items() if name.startswith(key)}
    for name, (meaning, values) in near.items():
        yield f"{name}=", _plain(meaning)
        if len(near) == 1:
            yield from ((f"{name}={value}", "") for value in values or ["VALUE"])


def complete_device() -> list[str]:
    """Devices."""
    return ["auto", "cpu", "cuda", "mps"]


def run_folders(root: Path | None = None) -> list[Path]:
    """Find the folders with a run.json under a root, the one that was written last first; reads none of them."""
    from mamlcli.runs.info import OUTPUTS

    root, found = root or OUTPUTS, dict[Path, float]()
    for folder, inside, files in os.walk(root):
        path = Path(folder)
        inside[:] = [name for name in inside if not _PASSED_OVER.match(name)]
        if len(path.relative_to(root).parts) >= _DEEPEST:
            inside.clear()
        if "run.json" in files:
            inside[:] = [name for name in inside if not _OF_A_RUN.match(name)]
            with suppress(OSError):  # it may just have been moved
                found[path] = (path / "run.json").stat().st_mtime
    return sorted(found, key=lambda path: found[path], reverse=True)


def join_words(environment: MutableMapping[str, str]) -> None:
    """Put together what bash takes apart: `--set outer.lr=1` are four words to it, and to Typer they must be two.

    Of the word under way, bash wants what follows the last "=" alone; what stands before it is kept in the environment.
    """
    environment.pop(_CUT_OFF, None)
    if environment.get("_MAML_COMPLETE") != "complete_bash" or "COMP_WORDS" not in environment:
        return
    with suppress(ValueError):
        words, at = environment["COMP_WORDS"].split("\n"), int(environment.get("COMP_CWORD", ""))
        before = _joined(words[:at])
        current = words[at] if at < len(words) else ""
        if "=" in (current[:1], words[at - 1][-1:] if current else ""):
            cut_off = (before.pop() if before else "") + ("=" if current[:1] == "=" else "")
            option, equals, rest = cut_off.partition("=")
            if option.startswith("-") and equals:  # --set=outer.lr=1
                before.append(option)
                cut_off = rest
            environment[_CUT_OFF], current = cut_off, current.removeprefix("=")
        environment["COMP_WORDS"] = "\n".join([*before, current])
        environment["COMP_CWORD"] = str(len(before))


def _joined(words: list[str]) -> list[str]:
    joined: list[str] = []
    for word in words:
        if joined and word and (word == "=" or joined[-1].endswith("=")):
            joined[-1] += word
        else:
            joined.append(word)
    return joined


def _config_of(ctx: typer.Context) -> "Config | None":
    """The config that the words before have named, with what they set of it; None if they have not, or it is wrong."""
    from mamlcli.config.file import load_config
    from mamlcli.config.shipped import shipped_configs

    # A command line that ends with an option without its value is not read to its end: words stay where they were.
    words = [word for word in ctx.args if word in shipped_configs()]
    named = next(iter(words), ctx.params.get("name") or ctx.params.get("config"))
    with suppress(Exception):
        return load_config(named, [text for text in ctx.params.get("set_") or [] if "=" in text]) if named else None
    return None


def _keys(config: "Config | None") -> dict[str, tuple[str, list[str]]]:
    """Each key that can be set, with its meaning and its values."""
    from mamlcli.config.experiment import Config
    from mamlcli.config.reference import sections
    from mamlcli.registry import CHOICES, entries

    found: dict[str, tuple[str, list[str]]] = {}
    for name, classes in sections(config).items():
        if not classes:
            found[name] = _described(Config.model_fields[name])
        for section in classes:
            found |= {f"{name}.{key}": _described(field) for key, field in section.model_fields.items()}
    for kind, choice in CHOICES.items():
        key = f"{kind}.{choice.key}"
        found[key] = (found[key][0], list(entries(kind)))
    return found


def _described(field: Any) -> tuple[str, list[str]]:
    """The meaning of a key, and words that are values of it: its default first."""
    values = [*([] if field.is_required() else [_word(field.default)]), *_words(field.annotation)]
    return field.description or "", [value for value in dict.fromkeys(values) if re.fullmatch(r"[\w.+-]+", value)]


def _word(value: Any) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _words(annotation: Any) -> Iterator[str]:
    """Words that a type allows."""
    from typing import Literal, get_args, get_origin

    if annotation is bool:
        yield from ("true", "false")
    elif annotation is type(None):
        yield "null"
    elif get_origin(annotation) is Literal:
        yield from map(str, get_args(annotation))
    else:
        for part in get_args(annotation):
            yield from _words(part)


def _yaml_files(incomplete: str) -> Iterator[Offer]:
    """YAML files of the working folder; those of others the shell finds by itself."""
    for path in sorted(Path().glob("*.y*ml")):
        if path.name.startswith(incomplete) and path.suffix in (".yaml", ".yml"):
            yield path.name, ""


def _rows(incomplete: str) -> Iterator[Offer]:
    from mamlcli.config.shipped import shipped_rows

    yield from ((name, "") for name in shipped_rows() if name.startswith(incomplete))


def _plain(meaning: str) -> str:
    """A first sentence without what a shell may read otherwise than as text."""
    text = _text(" ".join(meaning.split()).partition(". ")[0].partition("; ")[0]).rstrip(".")
    return text if len(text) <= _LONGEST_MEANING else text[:_LONGEST_MEANING].rsplit(" ", 1)[0]


def _text(said: str) -> str:
    return re.sub(r"[^\w ,.=+-]", "", said)
