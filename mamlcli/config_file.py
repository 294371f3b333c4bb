"""YAML text to a checked Config, with the place of everything that is wrong.

PyYAML's parser delivers the events; the values are built here, because its constructor reads `1e-3` as
text, `010` as 8, `1:30` as 90 and `no` as false, keeps the last of two equal keys, and expands aliases
without bound.
"""

import re
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import yaml
from pydantic import ValidationError

from mamlcli.config import Config, known_keys
from mamlcli.errors import ConfigError, UsageError

MAX_BYTES = 64 * 1024
MAX_DEPTH = 16
MAX_DIGITS = 400

KeyPath: TypeAlias = tuple[str | int, ...]

# The first pattern that matches a plain (unquoted) scalar decides; what matches none is text.
_SCALARS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("null", re.compile(r"(?:~|null|Null|NULL|)\Z")),
    ("bool", re.compile(r"(?:true|True|TRUE|false|False|FALSE)\Z")),
    ("int", re.compile(r"[-+]?(?:0|[1-9][0-9]*)\Z")),
    ("float", re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?\Z")),
    ("float", re.compile(r"(?:[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))\Z")),
)
# A number with a leading zero is octal to some readers and decimal to others: it stays text, so that a
# field that wants a number refuses it.
_AMBIGUOUS = re.compile(r"[-+]?0[0-9]")


class _Document(NamedTuple):
    """Plain data, where each key and each value stands, and what is wrong with the text."""

    data: Any
    keys: dict[KeyPath, str]
    values: dict[KeyPath, str]
    problems: list[str]


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read an experiment from a YAML file.

    Args:
        path: The file; UTF-8, at most 64 KiB.
        overrides: `key.path=value` texts, applied in order; values follow the rules of the file.

    Returns:
        The checked config with every default filled in.

    Raises:
        ConfigError: If the file cannot be read or anything in it is wrong; all problems at once.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError([f"{path}: cannot read the config: {error.strerror}"]) from None
    if len(raw) > MAX_BYTES:
        raise ConfigError([f"{path}: larger than {MAX_BYTES // 1024} KiB; a config is a few lines of YAML"])
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise ConfigError([f"{path}:{line}: not a text file: byte {error.start} is not UTF-8"]) from None
    return parse_config(text, source=str(path), overrides=overrides)


def parse_config(text: str, *, source: str = "<text>", overrides: Sequence[str] = ()) -> Config:
    """Turn YAML text into a checked config; see `load_config`."""
    document = _read(text, source)
    if document.data is None:
        raise ConfigError([f"{source}:1:1: the config is empty; it needs at least 'name: <word>'"])
    if not isinstance(document.data, dict):
        raise ConfigError([f"{document.values[()]}: a config is a mapping of keys to values, like 'name: x'"])
    for override in overrides:
        _override(document, override)
    try:
        config = Config.model_validate(document.data)
    except ValidationError as error:
        problems = [_explain(dict(item), document) for item in error.errors(include_url=False)]
        raise ConfigError(document.problems + problems) from None
    if document.problems:
        raise ConfigError(document.problems)
    return config


def dump_config(config: Config) -> str:
    """Write a config as YAML; reading it back gives an equal config."""
    data = config.model_dump(mode="json")
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


def parse_seeds(text: str) -> list[int]:
    """Read a list of seeds.

    >>> parse_seeds("0-2,7")
    [0, 1, 2, 7]

    Raises:
        UsageError: If the text is no such list.
    """
    seeds: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,18})(?:-(\d{1,18}))?\s*", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if not first <= last or last - first >= 10_000:
            raise UsageError(f"--seeds {text}: write seeds as 0-4 or 0,3,7 (at most 10,000 of them)")
        seeds += range(first, last + 1)
    return seeds


class _Dumper(yaml.SafeDumper):
    """Quotes text by this module's scalar rules, and writes lists on one line."""

    def represent_sequence(self, tag: str, sequence: Any, flow_style: bool | None = None) -> Any:  # noqa: ARG002
        return super().represent_sequence(tag, sequence, flow_style=True)

    def resolve(self, kind: Any, value: Any, implicit: Any) -> str:
        if kind is yaml.ScalarNode and implicit[0]:
            name = _scalar_kind(value)
            # Ambiguous text gets a tag that differs from `str`, which makes the emitter quote it.
            return f"tag:yaml.org,2002:{'int' if _AMBIGUOUS.match(value) else name}"
        return str(super().resolve(kind, value, implicit))


def _scalar_kind(text: str) -> str:
    if _AMBIGUOUS.match(text):
        return "str"
    return next((kind for kind, pattern in _SCALARS if pattern.match(text)), "str")


def _plain_value(text: str) -> Any:
    match _scalar_kind(text):
        case "null":
            return None
        case "bool":
            return text.lower() == "true"
        case "int":
            if len(text) > MAX_DIGITS:
                raise ValueError(f"a number of {len(text)} digits is too long")
            return int(text)
        case "float":
            return float(text.replace(".", "", 1) if text[-1] in "fFnN" else text)
    return text


class _Reader:
    """Builds plain data from the parser's events, to a bounded depth and without aliases or tags."""

    def __init__(self, text: str, source: str) -> None:
        self.source = source
        self.events: Iterator[Any] = iter(yaml.parse(text, Loader=yaml.SafeLoader))
        self.document = _Document(None, {}, {}, [])

    def read(self) -> _Document:
        next(self.events)  # the start of the stream
        event = next(self.events)
        data = None
        if isinstance(event, yaml.DocumentStartEvent):
            data = self.value(next(self.events), ())
            next(self.events)  # the end of the document
            if isinstance(event := next(self.events), yaml.DocumentStartEvent):
                self.fail(event, "a second document starts here; a config is one document")
        return self.document._replace(data=data)

    def place(self, event: Any) -> str:
        return _place(self.source, event.start_mark)

    def fail(self, event: Any, message: str) -> None:
        raise ConfigError([*self.document.problems, f"{self.place(event)}: {message}"])

    def value(self, event: Any, path: KeyPath) -> Any:
        self.document.values[path] = self.place(event)
        if isinstance(event, yaml.AliasEvent):
            self.fail(event, f"aliases are not allowed: write the value of *{event.anchor} out")
        if event.tag not in (None, "!"):
            self.fail(event, f"tags are not allowed: remove {event.tag!r}")
        if isinstance(event, yaml.ScalarEvent):
            try:
                return _plain_value(event.value) if event.implicit[0] else event.value
            except ValueError as error:
                self.fail(event, str(error))
        if len(path) >= MAX_DEPTH:
            self.fail(event, f"nested more than {MAX_DEPTH} levels deep")
        return self.sequence(path) if isinstance(event, yaml.SequenceStartEvent) else self.mapping(path)

    def sequence(self, path: KeyPath) -> list[Any]:
        items: list[Any] = []
        while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
            items.append(self.value(event, (*path, len(items))))
        return items

    def mapping(self, path: KeyPath) -> dict[str, Any]:
        items: dict[str, Any] = {}
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            if not isinstance(event, yaml.ScalarEvent):
                self.fail(event, "a key must be a plain word")
            key = (*path, event.value)
            if key in self.document.keys:
                self.document.problems.append(
                    f"{self.place(event)}: {_dotted(key)}: the same key twice; "
                    f"the first is at {self.document.keys[key]}"
                )
            self.document.keys[key] = self.place(event)
            items[event.value] = self.value(next(self.events), key)
        return items


def _read(text: str, source: str) -> _Document:
    try:
        return _Reader(text, source).read()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        reason = ", ".join(filter(None, (error.context, error.problem)))
        raise ConfigError([f"{_place(source, mark)}: not valid YAML: {reason}"]) from None
    except yaml.reader.ReaderError as error:
        line = text[: error.position].count("\n") + 1
        raise ConfigError([f"{source}:{line}: not a text file: {error.reason}"]) from None


def _place(source: str, mark: Any) -> str:
    return f"{source}:{mark.line + 1}:{mark.column + 1}" if mark else source


def _dotted(path: KeyPath) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")


def _override(document: _Document, text: str) -> None:
    """Write `key.path=value` into the document, as if the value stood in the file."""
    source = f"--set {text}"
    key, equals, value = text.partition("=")
    path: KeyPath = tuple(key.strip().split("."))
    if not equals or not all(path):
        raise UsageError(f"{source}: write it as --set key.path=value, like --set outer.lr=1e-3")
    section = document.data
    for part in path[:-1]:
        if section.get(part) is None:
            section[part] = {}
        section = section[part]
        if not isinstance(section, dict):
            raise ConfigError([f"{source}: {part} holds a value, not keys"])
    read = _read(value, source)
    section[path[-1]] = read.data
    document.problems.extend(read.problems)
    for places in (document.keys, document.values):
        for old in [old for old in places if old[: len(path)] == path]:
            del places[old]
        places.update({path[:length]: source for length in range(1, len(path) + 1) if path[:length] not in places})


def _explain(error: dict[str, Any], document: _Document) -> str:
    """One pydantic error as a line: where, which key, what is wrong, what is allowed."""
    path: KeyPath = error["loc"]
    value = error["input"]
    match error["type"]:
        case "extra_forbidden":
            return f"{_nearest(document.keys, path)}: {_dotted(path)}: unknown key{_suggest(path)}"
        case "missing" if isinstance(path[-1], int):
            return f"{_nearest(document.values, path)}: {_dotted(path[:-1])}: must be a list of two: [low, high]"
        case "missing":
            place = _nearest(document.values, path)
            return f"{place}: {_dotted(path)}: this key is required and missing; add '{path[-1]}: ...'"
        case "model_type" | "dict_type" | "model_attributes_type":
            message = "must be a mapping of keys to values"
        case "string_pattern_mismatch":
            message = "must start with a letter or digit and hold only letters, digits, '.', '_' and '-', up to 64"
        case _:
            message = re.sub(r"^(Value error, |Input |Value |Tuple )", "", error["msg"])
            message = message.replace("should", "must").replace(" after validation", "")
            message = message.replace("a valid tuple", "a list, like [1, 2]")
    got = "" if ", got" in message else f", got {_describe(value)}"
    expected = re.findall(r"'([^']*)'", error.get("ctx", {}).get("expected", ""))
    close = get_close_matches(value, expected, n=1) if isinstance(value, str) else []
    hint = f"; did you mean '{close[0]}'?" if close else ""
    return f"{_nearest(document.values, path)}: {_dotted(path)}: {message}{got}{hint}"


def _nearest(places: dict[KeyPath, str], path: KeyPath) -> str:
    """The place of a path, or of the innermost thing around it that has one."""
    while path and path not in places:
        path = path[:-1]
    return places.get(path, "config")


def _suggest(path: KeyPath) -> str:
    """The known key that was probably meant: near in spelling in its section, or of that name elsewhere."""
    known = known_keys()
    section = _dotted(path[:-1])
    beside = [key.rpartition(".")[2] for key in known if key.rpartition(".")[0] == section]
    close = get_close_matches(str(path[-1]), beside, n=1, cutoff=0.6)
    if close:
        return f"; did you mean '{_dotted((*path[:-1], close[0]))}'?"
    named = {key.rpartition(".")[2]: key for key in known}
    close = get_close_matches(str(path[-1]), named, n=1, cutoff=0.6)
    if close:
        return f"; did you mean '{named[close[0]]}'?"
    return f"; known here: {', '.join(beside)}" if beside else ""


def _describe(value: Any) -> str:
    match value:
        case None:
            return "nothing (null)"
        case bool():
            return f"the boolean {str(value).lower()}"
        case str():
            return f"the text {value if len(value) <= 40 else value[:40] + '...'!r}"
        case list() | tuple():
            return f"a list of {len(value)}"
        case dict():
            return "a mapping"
    return str(value)[:40]
