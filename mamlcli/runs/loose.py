"""Values of files that may hold anything: each as what it ought to be, or nothing."""

from typing import Any


def count(value: Any) -> int | None:
    """A whole number >= 0, or None for anything else."""
    return value if type(value) is int and value >= 0 else None


def text(value: Any) -> str | None:
    """A text, or None for anything else."""
    return value if isinstance(value, str) else None


def flag(value: Any) -> bool | None:
    """A truth value, or None for anything else."""
    return value if isinstance(value, bool) else None


def listing(value: Any) -> list[Any]:
    """A list, empty for anything else."""
    return value if isinstance(value, list) else []


def mapping(value: Any) -> dict[str, Any]:
    """A JSON object, empty for anything else."""
    return value if isinstance(value, dict) else {}
