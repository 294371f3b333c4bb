"""What a page is made of, before it is HTML or Markdown: plain text, which whoever writes it out escapes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

from mamlcli.figures.drawing import Drawing

Tone: TypeAlias = Literal["good", "bad", "busy", "plain"]
"""How news is meant; never said by a colour alone."""


class Cell(NamedTuple):
    """A cell of a table."""

    text: str
    order: float | str | None = ""
    """A number that it sorts by, or any text to sort by what is shown; None for what is missing, which comes last."""
    tone: Tone = "plain"


class Column(NamedTuple):
    """A column of a table."""

    title: str
    is_number: bool = True
    """Whether it stands to the right."""
    is_long: bool = False
    """Whether it holds sentences, which are not to be broken after every word where there is little room."""


class Table(NamedTuple):
    """A table whose rows a reader can sort."""

    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""


class Text(NamedTuple):
    """A paragraph."""

    text: str
    tone: Tone = "plain"


class Code(NamedTuple):
    """Lines to copy."""

    text: str
    language: Literal["sh", "python", "yaml"] = "sh"


class Facts(NamedTuple):
    """Names and values."""

    pairs: Sequence[tuple[str, str]]
    are_tiles: bool = False
    """Whether they stand side by side at the top of a page."""


class Picture(NamedTuple):
    """A figure."""

    stem: str
    alt: str
    """What it shows, for who cannot see it."""
    drawing: Drawing | None
    """What draws it; None for one that only the file shows."""
    png: Path | None
    """As a file."""


class Details(NamedTuple):
    """What is there for who asks for it."""

    summary: str
    blocks: "Sequence[Block]"


class Section(NamedTuple):
    """A part of a page with a title; within a section, a part of that."""

    title: str
    blocks: "Sequence[Block]"
    badge: Text | None = None
    """A word beside the title."""


Block: TypeAlias = Table | Text | Code | Facts | Picture | Details | Section


class Page(NamedTuple):
    """A page."""

    title: str
    blocks: Sequence[Block]
    badge: Text | None = None
    written: str = ""
    """When and by what, for its foot."""
    ended: bool = True
    """Whether nothing more is to come."""
