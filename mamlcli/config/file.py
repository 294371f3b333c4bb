"""A config from a YAML file and `--set` overrides, with the place of everything that is wrong."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError

from mamlcli.config.arguments import check_text, check_texts
from mamlcli.config.experiment import Config
from mamlcli.config.problems import explain, is_foreign
from mamlcli.config.published import PublishedRow
from mamlcli.config.shipped import as_config, as_row, config_path, not_there
from mamlcli.config.yaml_text import MAX_DEPTH, Document, KeyPath, dotted, dump_yaml, read_yaml
from mamlcli.errors import ConfigError, Remedy, UsageError
from mamlcli.escaping import shorten, visible
from mamlcli.reading import read_file

# Room for 10,000 seeds of ten digits, which a run writes back.
MAX_BYTES = 256 * 1024
# What is said of a config that is wrong all over.
_MAX_PROBLEMS, _MAX_LETTERS = 20, 600
_MAX_SEEDS = 10_000
_PLUGIN = Remedy(
    "a family, model or method of your own is there once load_plugins([FILE]) has brought it",
    "a family, model or method of your own needs its --plugin FILE",
)

Model = TypeVar("Model", bound=BaseModel)


class Override(NamedTuple):
    """A change of one key, and what messages call the place where it was asked for."""

    text: str
    """`key.path=value`."""
    place: str
    """As its writer knows it, like `--set outer.lr=1` or `--seeds 0-4`."""
    says_key: bool = False
    """Whether the place names the key and its value so plainly that a message need not: `--device gpu`."""


def load_config(path: str | Path, overrides: Sequence[str | Override] = ()) -> Config:
    """Read an experiment from a YAML file.

    Args:
        path: The file; UTF-8, at most 256 KiB. A pipe is read only as `/dev/stdin` or `/dev/fd/N`. Where there is no
            such file, the name of an experiment that comes along, like "quickstart".
        overrides: `key.path=value` texts, applied in order; values follow the rules of the file.

    Returns:
        The checked config with every default filled in.

    Raises:
        ConfigError: If the file cannot be read or anything in it is wrong; all problems at once, up to 20.
    """
    file = config_path(path)
    return parse_config(
        _read(file, lambda: not_there(path)), source=visible(str(path)), overrides=overrides, folder=file.parent
    )


def load_published(path: str | Path) -> PublishedRow:
    """Read a published result and its experiment from a YAML file; see `load_config`."""
    document = _document(_read(Path(path)), visible(str(path)), "title: a line")
    if "name" in document.data and not {"published", "config"} & document.data.keys():
        raise ConfigError([f"{visible(str(path))}: a config, not a row of published results"], as_config(path))
    return _validated(PublishedRow, document)


def is_published(path: str | Path) -> bool:
    """Whether a file holds a published result and its experiment, right or wrong, and no config by itself."""
    try:
        return _is_row(read_yaml(_read(Path(path)), "").data)
    except ConfigError:
        return False


def _is_row(data: Any) -> bool:
    return isinstance(data, dict) and {"published", "config"} <= data.keys()


def _read(path: Path, if_absent: Callable[[], Remedy] | None = None) -> str:
    """Read a short text file; `if_absent` says what to do where there is none."""
    named = visible(str(path))
    try:
        raw = read_file(path, MAX_BYTES)
    except (OSError, ValueError) as error:  # a ValueError for a name with a null character
        reason = error.strerror if isinstance(error, OSError) else error
        remedy = if_absent() if if_absent and isinstance(error, FileNotFoundError) else None
        raise ConfigError([f"{named}: cannot read the config: {reason}"], remedy) from None
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise ConfigError([f"{named}:{line}: not a text file: byte {error.start} is not UTF-8"]) from None


def parse_config(
    text: str,
    *,
    source: str = "<text>",
    overrides: Sequence[str | Override] = (),
    folder: str | Path = "",
) -> Config:
    """Turn YAML text into a checked config; see `load_config`.

    Args:
        text: The YAML text.
        source: What messages call it.
        overrides: As for `load_config`.
        folder: Where names of files in it start from; the working folder if empty.
    """
    check_text("text", text, "name: demo")
    check_texts("overrides", overrides, "outer.lr=1e-3")
    document = _document(text, source, "name: <word>")
    if _is_row(document.data):
        raise ConfigError([f"{source}: a row of published results, not a config"], as_row(source))
    for override in overrides:
        named = override if isinstance(override, Override) else Override(override, f"override {override}")
        try:
            _override(document, named.text, visible(shorten(named.place)))
        except UsageError as error:
            document.problems.append(str(error))
    plain = [visible(shorten(one.place)) for one in overrides if isinstance(one, Override) and one.says_key]
    return _validated(Config, document, folder, plain)


def _document(text: str, source: str, example: str) -> Document:
    """Read YAML text that must be a mapping."""
    if len(text) > MAX_BYTES:
        raise ConfigError([f"{source}: larger than {MAX_BYTES // 1024} KiB; a config is a few lines of YAML"])
    document = read_yaml(text, source)
    if document.data is None:
        raise ConfigError([f"{source}:1:1: the config is empty; it needs at least '{example}'"])
    if not isinstance(document.data, dict):
        raise ConfigError([f"{document.values[()]}: a config is a mapping of keys to values, like '{example}'"])
    return document


def _validated(model: type[Model], document: Document, folder: str | Path = "", plain: Sequence[str] = ()) -> Model:
    """Check data against a model; all problems at once, each with its place, of which some are plain by themselves."""
    problems, count = document.problems[:_MAX_PROBLEMS], len(document.problems)
    shown: list[dict[str, Any]] = []
    try:
        checked = model.model_validate(document.data, context={"folder": folder})
        if not count:
            return checked
    except ValidationError as error:
        count += error.error_count()
        shown = [dict(item) for item in error.errors(include_url=False)[: _MAX_PROBLEMS - len(problems)]]
    problems += [explain(item, document, plain) for item in shown]
    more = [f"and {count - len(problems)} more"] if count > len(problems) else []
    raise ConfigError(
        [shorten(problem, _MAX_LETTERS) for problem in problems] + more,
        next((_PLUGIN for item in shown if item["type"] == "unknown_choice"), None),
        has_foreign_keys=any(is_foreign(item, document) for item in shown),
    )


def dump_config(config: Config) -> str:
    """Write a config as YAML; reading it back gives an equal config."""
    return dump_yaml(config.model_dump(mode="json"))


def parse_seeds(text: str, place: str = "seeds") -> list[int]:
    """Read a list of seeds; `place` is what messages call it.

    >>> parse_seeds("0-2,7")
    [0, 1, 2, 7]

    Raises:
        UsageError: If the text is no such list.
    """
    shown, seeds = visible(shorten(text)), list[int]()
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,18})(?:-(\d{1,18}))?\s*", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if not first <= last or len(seeds) + last - first >= _MAX_SEEDS:
            raise UsageError(f"{place} {shown}: write seeds as 0-4 or 0,3,7 (at most {_MAX_SEEDS:,} of them)")
        seeds += range(first, last + 1)
    if len(set(seeds)) < len(seeds):
        raise UsageError(f"{place} {shown}: name each seed once")
    return seeds


def _override(document: Document, text: str, source: str) -> None:
    """Write `key.path=value` into the document, as if the value stood in the file."""
    if len(text) > MAX_BYTES:
        raise ConfigError([f"{source}: larger than {MAX_BYTES // 1024} KiB"])
    key, equals, value = text.partition("=")
    # `families.1.slope` and `families[1].slope`, as messages write it, are the same.
    parts = re.sub(r"\[(\d+)\]", r".\1", key.strip()).split(".")
    if len(parts) > MAX_DEPTH:
        raise ConfigError([f"{source}: a key of more than {MAX_DEPTH} levels"])
    if not equals or not all(parts):
        raise UsageError(f"{source}: write it as key.path=value, like outer.lr=1e-3")
    section: Any = document.data
    path: KeyPath = ()
    for part, last in zip(parts, [False] * (len(parts) - 1) + [True], strict=True):
        place = _place_in(section, part, path, source)
        path = (*path, place)
        if last:
            section[place] = override_value(value, source)
        elif isinstance(section, dict) and section.get(part) is None:
            section[place] = {}
        section = section[place]
    for places in (document.keys, document.values):
        for old in [old for old in places if old[: len(path)] == path]:
            del places[old]
        places.update({path[:length]: source for length in range(1, len(path) + 1) if path[:length] not in places})


def _place_in(section: Any, part: str, path: KeyPath, source: str) -> str | int:
    """The key or the number of a part of a path, in what stands there."""
    if isinstance(section, dict):
        return part
    if not isinstance(section, list):
        raise ConfigError([f"{source}: {dotted(path)} holds a value, not keys"])
    if not part.isdecimal() or int(part) >= len(section):
        raise ConfigError([f"{source}: {dotted(path)} holds {len(section)} entries, which are counted from 0"])
    return int(part)


def override_value(text: str, source: str) -> Any:
    """Read a value as the file would, after its key and on one line."""
    if len(text.splitlines()) > 1:
        raise ConfigError([f"{source}: a value stands on one line"])
    try:
        read = read_yaml(f"key: {text}", source)
    except ConfigError as error:
        # Where on its one line it is wrong needs no line number.
        message = re.sub(r"^:\d+(:\d+)?", "", error.problems[-1].removeprefix(source))
        raise ConfigError([source + message]) from None
    if read.problems:
        raise ConfigError([f"{source}: the same key twice"])
    return read.data["key"]
