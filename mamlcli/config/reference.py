"""The keys of a config: their list, their description, and the JSON schema that editors read."""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from pydantic import BaseModel

from mamlcli.config.experiment import Config
from mamlcli.config.published import PublishedNumber, PublishedRow
from mamlcli.registry import CHOICES, Kind, entries
from mamlcli.section import Holds, Section


def known_keys(config: Config | None = None) -> list[str]:
    """List the keys of a config in dotted form, sections before their fields.

    Args:
        config: Whose choices decide which keys there are; None lists those of every family, model and method.

    >>> known_keys()[:4]
    ['name', 'seeds', 'device', 'tasks']
    """
    keys: dict[str, None] = {}
    for name, classes in sections(config).items():
        keys[name] = None
        keys |= {f"{name}.{field}": None for section in classes for field in section.model_fields}
    return list(keys)


def sections(config: Config | None = None) -> dict[str, list[type[Section]]]:
    """The keys of the first level, each with the classes that a section of that name can be of."""
    found: dict[str, list[type[Section]]] = {}
    for name, field in Config.model_fields.items():
        if name in CHOICES:
            kind: Kind = name
            found[name] = [entry.config for entry in entries(kind).values()] if config is None else []
            if config is not None:
                found[name] = [type(getattr(config, name))]
        else:
            is_section = isinstance(field.annotation, type) and issubclass(field.annotation, Section)
            found[name] = [field.annotation] if is_section else []  # type: ignore[list-item]
    return found


class KeyTable(NamedTuple):
    """Keys that belong together."""

    heading: str
    """When they are there; empty for those that always are."""
    rows: list[tuple[str, str, str]]
    """Each key, its default and its meaning."""


def key_tables() -> list[KeyTable]:
    """Describe every key, from the texts beside the fields: those of each config, then those of each choice."""
    fixed = [name for name in sections() if name not in CHOICES]
    always = [*_rows(Config, "", leaves_only=True)]
    always += [row for name in fixed for section in sections()[name] for row in _rows(section, f"{name}.")]
    tables = [KeyTable("", always)]
    for kind, choice in CHOICES.items():
        for name, entry in entries(kind).items():
            says = " ".join((entry.config.__doc__ or "").split())
            default = " (the default)" if name == choice.default else ""
            tables.append(
                KeyTable(f"With `{kind}.{choice.key}: {name}`{default}. {says}", [*_rows(entry.config, f"{kind}.")])
            )
    return tables


def config_reference() -> str:
    """Describe every key in Markdown."""
    parts = []
    for heading, rows in key_tables():
        lines = [
            f"| `{key}` | {_code(default)} | {meaning.replace('|', chr(92) + '|')} |" for key, default, meaning in rows
        ]
        parts.append("\n".join([*([heading, ""] if heading else []), *_HEAD, *lines]))
    return "\n\n".join(parts)


_HEAD = ("| key | default | meaning |", "|---|---|---|")
_REQUIRED = "required"


def _code(default: str) -> str:
    return default if default == _REQUIRED else f"`{default}`"


def _rows(section: type[BaseModel], prefix: str, *, leaves_only: bool = False) -> Iterator[tuple[str, str, str]]:
    for name, field in section.model_fields.items():
        if leaves_only and (name in CHOICES or isinstance(field.default, BaseModel)):
            continue
        shown = _REQUIRED if field.is_required() else _shown(field.default)
        yield f"{prefix}{name}", shown, " ".join((field.description or "").split())


def _shown(default: Any) -> str:
    if isinstance(default, tuple):
        return f"[{', '.join(map(str, default))}]"
    if isinstance(default, BaseModel):
        return f"{{{', '.join(f'{key}: {_shown(value)}' for key, value in default)}}}"
    if default is None or isinstance(default, bool):
        return json.dumps(default)
    return str(default)


def config_schema() -> dict[str, Any]:
    """The JSON schema of a config, with the keys that each choice of family, model and method allows."""
    schema = Config.model_json_schema()
    definitions = schema.setdefault("$defs", {})
    for kind, choice in CHOICES.items():
        options = []
        for name, entry in entries(kind).items():
            own = entry.config.model_json_schema()
            parts = own.pop("$defs", {})
            if holds := getattr(entry.config, "holds", None):
                parts = held = _held_schemas(kind, holds)
                own["properties"][holds.key]["items"] = {"oneOf": [{"$ref": f"#/$defs/{title}"} for title in held]}
            definitions |= parts
            if name != choice.default:
                own["required"] = [*own.get("required", []), choice.key]
            title = f"{kind}.{name}"
            definitions[title] = own | {"title": title}
            options.append({"$ref": f"#/$defs/{title}"})
        description = Config.model_fields[kind].description
        schema["properties"][kind] = {"oneOf": options, "description": description}
    used = json.dumps(schema)
    schema["$defs"] = {name: one for name, one in definitions.items() if f'#/$defs/{name}"' in used}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": "mamlcli.config/1"} | schema


def _held_schemas(kind: Kind, holds: Holds) -> dict[str, dict[str, Any]]:
    """The schemas of sections that another one of their kind holds, by their titles."""
    more = holds.entry.model_json_schema()["properties"]
    found = {}
    for name, entry in entries(kind).items():
        if not issubclass(entry.config, holds.base) or getattr(entry.config, "holds", None) is not None:
            continue
        own, choosing = entry.config.model_json_schema(), CHOICES[kind].key
        keys = {key: one for key, one in own["properties"].items() if key not in holds.shared}
        keys |= {key: one for key, one in more.items() if key != kind}
        own.pop("$defs", None)  # those of the section where it stands by itself
        title = f"{kind}.{holds.key}.{name}"
        found[title] = own | {"properties": keys, "required": [*own.get("required", []), choosing], "title": title}
    return found


def row_schema() -> dict[str, Any]:
    """The JSON schema of a published result and its experiment, as in the files of `configs/reproduce/`."""
    schema, config = PublishedRow.model_json_schema(), config_schema()
    own = {name: one for name, one in schema.pop("$defs").items() if name == PublishedNumber.__name__}
    definitions = own | config.pop("$defs")
    definitions[Config.__name__] = {name: one for name, one in config.items() if name not in ("$schema", "$id")}
    return {"$schema": config["$schema"], "$id": "mamlcli.reproduce-row/1"} | schema | {"$defs": definitions}
