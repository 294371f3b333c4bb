"""YAML text to plain data with the place of every key and value, and back.

PyYAML's parser delivers the events; the values are built here, because its constructor reads `1e-3` as
text, `010` as 8, `1:30` as 90 and `no` as false, keeps the last of two equal keys, and expands aliases
without bound.
"""

import re
from collections.abc import Iterator
from typing import Any, NamedTuple, TypeAlias

import yaml

from mamlcli.errors import ConfigError

MAX_DEPTH = 16
MAX_DIGITS = 400
MAX_VALUES = 20_000

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


class Document(NamedTuple):
    """Plain data, where each key and each value stands, and what is wrong with the text."""

    data: Any
    keys: dict[KeyPath, str]
    values: dict[KeyPath, str]
    problems: list[str]


def dump_yaml(data: Any) -> str:
    """Write plain data as YAML that `read_yaml` reads back to equal data."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, width=100)


class _Dumper(yaml.SafeDumper):
    """Quotes text by this module's scalar rules, and writes lists on one line, but for those of mappings."""

    def represent_sequence(self, tag: str, sequence: Any, flow_style: bool | None = None) -> Any:  # noqa: ARG002
        return super().represent_sequence(tag, sequence, flow_style=not any(isinstance(one, dict) for one in sequence))

    def resolve(self, kind: Any, value: Any, implicit: Any) -> str:
        if kind is yaml.ScalarNode and implicit[0]:
            name = _scalar_kind(value)
            # Ambiguous text gets a tag that differs from `str`, which makes the emitter quote it.
            return f"tag:yaml.org,2002:{'int' if _AMBIGUOUS.match(value) else name}"
        return str(super().resolve(kind, value, implicit))  # type: ignore[no-untyped-call]


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
        self.document = Document(None, {}, {}, [])

    def read(self) -> Document:
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
        if len(self.document.values) > MAX_VALUES:
            self.fail(event, f"more than {MAX_VALUES:,} values")
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
                    f"{self.place(event)}: {dotted(key)}: the same key twice; the first is at {self.document.keys[key]}"
                )
            self.document.keys[key] = self.place(event)
            items[event.value] = self.value(next(self.events), key)
        return items


def read_yaml(text: str, source: str) -> Document:
    """Read one YAML document; `source` names the text in places and messages.

    Raises:
        ConfigError: If the text is no YAML, or uses aliases, tags, too many levels or too many values.
    """
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


def dotted(path: KeyPath) -> str:
    """Write a path as people do.

    >>> dotted(("seeds", 2)), dotted(("outer", "lr"))
    ('seeds[2]', 'outer.lr')
    """
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")
