"""A section of the config that is of the class which one of its own keys chooses."""

from collections.abc import Callable
from difflib import get_close_matches
from typing import Any

from pydantic import ValidationError, ValidationInfo, WrapValidator
from pydantic_core import InitErrorDetails, PydanticCustomError

from mamlcli.registry import CHOICES, Kind, entries
from mamlcli.section import Choosing, Section


def default_of(kind: Kind) -> Callable[[], Any]:
    """Make the section with every default of what is chosen where nothing is said."""
    return lambda: entries(kind)[CHOICES[kind].default].config()


def chosen(kind: Kind) -> WrapValidator:
    """Check a section by the class that the registry has for its choice; all problems at once, as everywhere."""
    choice = CHOICES[kind]

    def check(value: Any, _: Any, info: ValidationInfo) -> Section:
        if isinstance(value, choice.base):
            return value
        if not isinstance(value, dict):
            raise PydanticCustomError("dict_type", "must be a mapping of keys to values")
        name = value.get(choice.key, choice.default)
        known = entries(kind)
        if not isinstance(name, str) or name not in known:
            error = PydanticCustomError("unknown_choice", "{problem}", {"problem": _unknown(kind, name)})
            detail = InitErrorDetails(type=error, loc=(choice.key,), input=name)
            raise ValidationError.from_exception_data(kind, [detail])
        # A section that holds others of its kind finds them here.
        choosing = Choosing({one: entry.config for one, entry in known.items()}, lambda held: check(held, _, info))
        return known[name].config.model_validate(value, context={**(info.context or {}), kind: choosing})

    return WrapValidator(check)


def owners_of(kind: Kind, key: str) -> list[str]:
    """The families, models or methods that have a key."""
    return [name for name, entry in entries(kind).items() if key in entry.config.model_fields]


def _unknown(kind: Kind, name: Any) -> str:
    word, known = CHOICES[kind].word, list(entries(kind))
    close = get_close_matches(name, known, n=1) if isinstance(name, str) else []
    hint = f"did you mean '{close[0]}'?" if close else f"known: {', '.join(known)}"
    shown = repr(name[:60]) if isinstance(name, str) else f"of type {type(name).__name__}"
    return f"there is no {word} {shown}; {hint}"
