"""What is wrong with a config, in words: the place, the key, what is allowed, and what was probably meant."""

import re
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any, NamedTuple

from mamlcli.config.choice import owners_of
from mamlcli.config.experiment import MEANT
from mamlcli.config.reference import known_keys
from mamlcli.config.yaml_text import Document, KeyPath, dotted
from mamlcli.escaping import shorten, visible
from mamlcli.registry import CHOICES, Entry, entries


def explain(error: dict[str, Any], document: Document, plain: Sequence[str]) -> str:
    """One pydantic error as a line: where, which key, what is wrong, what is allowed."""
    path: KeyPath = error["loc"]
    value = error["input"]
    expected = re.findall(r"'([^']*)'", error.get("ctx", {}).get("expected", ""))
    match error["type"]:
        case "extra_forbidden":
            around = _around(path, document)
            found = _of_another(path, around) or f"{_key(path)}: unknown key{_suggest(path, around)}"
            return f"{_nearest(document.keys, path)}: {found}"
        case "missing" if isinstance(path[-1], int):
            return f"{_nearest(document.values, path)}: {dotted(path[:-1])}: must be a list of two: [low, high]"
        case "missing":
            place = _nearest(document.values, path)
            return f"{place}: {dotted(path)}: this key is required and missing; add '{path[-1]}: ...'"
        case "model_type" | "dict_type" | "model_attributes_type":
            message = "must be a mapping of keys to values"
        case "string_pattern_mismatch":
            message = "must start with a letter or digit and hold only letters, digits, '.', '_' and '-', up to 64"
        case "literal_error" if len(expected) > 1:
            message = f"must be one of {', '.join(expected)}"
        case _:
            message = re.sub(r"^(Value error, |Input |Value |Tuple )", "", error["msg"])
            message = message.replace("should", "must").replace(" after validation", "")
            message = message.replace("a valid tuple", "a list, like [1, 2]")
    # What a rule between several keys says names their values itself.
    named = (
        ", got" in message
        or error["type"] in ("unknown_choice", "unfit")
        or (error["type"] == "value_error" and isinstance(value, dict))
    )
    place = _nearest(document.values, path)
    is_plain = place in plain
    got = "" if named or is_plain else f", got {_describe(value)}"
    key = f"{_key(path)}: " if path and not is_plain else ""
    return f"{place}: {key}{message}{got}{_meant(path, value, expected)}"


def _meant(path: KeyPath, value: Any, expected: Sequence[str]) -> str:
    """Ask for the allowed value that was probably meant: near in spelling, or what others call it."""
    if not isinstance(value, str):
        return ""
    called = MEANT.get(dotted(path), {}).get(value.lower())
    close = [called] if called else get_close_matches(value.lower(), expected, n=1)
    return f"; did you mean '{close[0]}'?" if close else ""


def _key(path: KeyPath) -> str:
    return visible(shorten(dotted(path), 100))


def _nearest(places: dict[KeyPath, str], path: KeyPath) -> str:
    """The place of a path, or of the innermost thing around it that has one."""
    while path and path not in places:
        path = path[:-1]
    return places.get(path, "config")


class _Around(NamedTuple):
    """The section around a key, which has chosen what it is."""

    entry: Entry
    keys: list[str]
    """Those that may stand in it."""


def _around(path: KeyPath, document: Document) -> _Around | None:
    """The section around a key, if it is one that chooses, or one that such a section holds."""
    kind = path[0]
    if len(path) not in (2, 4) or kind not in CHOICES:
        return None
    choice, known, section = CHOICES[kind], entries(kind), document.data[kind]
    entry = known.get(section.get(choice.key, choice.default))
    if entry is None or len(path) == 2:
        return entry and _Around(entry, list(entry.config.model_fields))
    holds = getattr(entry.config, "holds", None)
    if holds is None or path[1] != holds.key:
        return None
    held = known.get(section[holds.key][path[2]].get(choice.key))
    more = [name for name in holds.entry.model_fields if name != kind]
    return held and _Around(held, [*more, *(name for name in held.config.model_fields if name not in holds.shared)])


def _of_another(path: KeyPath, around: _Around | None) -> str | None:
    """Say whose key it is, if it is one of another family, model or method."""
    if around is None or not (owners := owners_of(path[0], str(path[-1]))):  # type: ignore[arg-type]
        return None
    ours = around.entry.config.model_fields[CHOICES[path[0]].key].default  # type: ignore[index]
    named = " and ".join(filter(None, [", ".join(owners[:-1]), owners[-1]]))
    return f"{_key(path)}: `{visible(str(path[-1]))}` is a key of {named}; this is {ours}"


def is_foreign(error: dict[str, Any], document: Document) -> bool:
    """Whether a pydantic error is of a key of another family, model or method."""
    path: KeyPath = error["loc"]
    return error["type"] == "extra_forbidden" and _of_another(path, _around(path, document)) is not None


def _suggest(path: KeyPath, around: _Around | None) -> str:
    """The known key that was probably meant: near in spelling in its section, or of that name elsewhere."""
    known = known_keys()
    section = dotted(path[:-1])
    beside = [key.rpartition(".")[2] for key in known if key.rpartition(".")[0] == section]
    if around is not None:
        beside = around.keys
    close = get_close_matches(str(path[-1]), beside, n=1, cutoff=0.6)
    if close:
        return f"; did you mean '{dotted((*path[:-1], close[0]))}'?"
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
            return f"the text {shorten(value, 40)!r}"
        case list() | tuple():
            return f"a list of {len(value)}"
        case dict():
            return "a mapping"
    return str(value)[:40]
