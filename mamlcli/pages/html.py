"""A page as one HTML file: no other file, no network, light and dark, for a screen, a telephone and paper."""

import base64
import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias, assert_never

from mamlcli.escaping import page as escaped
from mamlcli.pages.blocks import Block, Cell, Code, Column, Details, Facts, Page, Picture, Section, Table, Text
from mamlcli.pages.inline import Inline, inline
from mamlcli.pages.links import links
from mamlcli.reading import read_file

GENERATOR = "mamlcli report"
"""What the head of every page says of who made it."""
_MAX_BYTES = 2**24
_HERE = Path(__file__).parent
# Smaller, a figure's text cannot be read, and it is scrolled; larger, it shouts.
_LEAST_SCALE, _MOST_SCALE = 0.62, 1.1

Draw: TypeAlias = Callable[[Picture, str], Inline]
"""Maps a picture that has a drawing, and the word that its ids begin with, to SVG."""


def drawn(picture: Picture, prefix: str) -> Inline:
    """Draw a picture."""
    assert picture.drawing is not None
    return inline(picture.drawing, prefix)


def html(page: Page, *, draw: Draw = drawn, every_s: float = 0.0, tag: str = "") -> str:
    """Write a page as HTML.

    Args:
        page: What it holds.
        draw: Draws a picture; raises what the figure does where it cannot be drawn, which the page then says.
        every_s: Of a page that is watched, after how many seconds it asks for its next state; 0 for none.
        tag: What the server calls this state.
    """
    style, script = (_file(name) for name in ("page.css", "page.js"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src data:; "
        f"connect-src {chr(39)}{'self' if every_s else 'none'}{chr(39)}; base-uri 'none'; form-action 'none'"
    )
    icon = '<link rel="icon" href="data:,">\n' if every_s else ""
    attributes = f' data-every="{every_s:g}" data-tag="{escaped(tag)}"' if every_s else ""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta name="generator" content="{GENERATOR}">\n<meta name="color-scheme" content="light dark">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n{icon}'
        f"<title>{escaped(page.title)}</title>\n<style>\n{style}</style>\n</head>\n"
        f"<body{attributes}>\n{'<p id=live role=status></p>' if every_s else ''}\n{_Writer(draw).main(page)}\n"
        f"<script>{script}</script>\n</body>\n</html>\n"
    )


def _file(name: str) -> str:
    return read_file(_HERE / name, _MAX_BYTES).decode()


class _Writer:
    """Writes blocks, and names what can be linked to or is remembered while the page changes."""

    def __init__(self, draw: Draw) -> None:
        self.draw = draw
        self.names: dict[str, int] = {}
        self.place = "top"

    def name(self, text: str) -> str:
        """A name that is there once, and is the same in the next state of the page."""
        slug = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "part"
        self.names[slug] = self.names.get(slug, 0) + 1
        return slug if self.names[slug] == 1 else f"{slug}-{self.names[slug]}"

    def main(self, page: Page) -> str:
        body = [f"<h1>{escaped(page.title)}{_badge(page.badge)}</h1>"]
        anchors = [self.name(block.title) if isinstance(block, Section) else "" for block in page.blocks]
        sections = [(one, at) for one, at in zip(page.blocks, anchors, strict=True) if isinstance(one, Section)]
        links = "".join(f'<li><a href="#{at}">{escaped(one.title)}</a></li>' for one, at in sections)
        nav = f'<nav aria-label="Contents"><ul>{links}</ul></nav>' if len(sections) > 1 else ""
        for block, anchor in zip(page.blocks, anchors, strict=True):
            if nav and isinstance(block, Section):
                body.append(nav)
                nav = ""
            body.append(self.section(block, 2, anchor) if isinstance(block, Section) else self.block(block, 2))
        if page.written:
            body.append(f"<footer>{escaped(page.written)}</footer>")
        return f"<main{' data-ended' if page.ended else ''}>\n" + "\n".join(body) + "\n</main>"

    def section(self, section: Section, level: int, anchor: str) -> str:
        before, self.place = self.place, anchor
        inside = "\n".join(self.block(block, level + 1) for block in section.blocks)
        self.place = before
        tag = f"h{min(level, 6)}"
        head = f'<{tag} id="{anchor}">{escaped(section.title)}{_badge(section.badge)}</{tag}>'
        return f"<section>\n{head}\n{inside}\n</section>"

    def block(self, block: Block, level: int) -> str:
        match block:
            case Section():
                return self.section(block, level, self.name(f"{self.place}-{block.title}"))
            case Table():
                return self.table(block)
            case Text():
                return f"<p{_class(block.tone)}>{linked(block.text)}</p>"
            case Code():
                lines = "\n".join(map(escaped, block.text.split("\n")))
                return f'<div class="code"><pre tabindex="0"><code>{lines}</code></pre></div>'
            case Facts():
                kind = "tiles" if block.are_tiles else "facts"
                pairs = (f"<div><dt>{escaped(name)}</dt><dd>{linked(value)}</dd></div>" for name, value in block.pairs)
                return f'<dl class="{kind}">{"".join(pairs)}</dl>'
            case Picture():
                return self.picture(block)
            case Details():
                key = self.name(f"{self.place}-{block.summary}")
                inside = "\n".join(self.block(one, level) for one in block.blocks)
                return f'<details data-key="{key}"><summary>{escaped(block.summary)}</summary>\n{inside}\n</details>'
            case _:
                assert_never(block)

    def table(self, table: Table) -> str:
        key = self.name(f"{self.place}-table")
        named = f' aria-labelledby="{key}-caption"' if table.caption else ""
        # Over the table and not in it, which may be much narrower or wider.
        caption = f'<p class="caption" id="{key}-caption">{escaped(table.caption)}</p>\n' if table.caption else ""
        head = "".join(
            f'<th scope="col"{_class(_kind(column))}>{escaped(column.title)}</th>' for column in table.columns
        )
        rows = (
            "<tr>" + "".join(_cell(cell, column) for cell, column in zip(row, table.columns, strict=True)) + "</tr>"
            for row in table.rows
        )
        body = "\n".join(rows)
        return (
            f'{caption}<div class="box" tabindex="0"><table data-key="{key}"{named}><thead><tr>{head}</tr></thead>\n'
            f"<tbody>\n{body}\n</tbody></table></div>"
        )

    def picture(self, picture: Picture) -> str:
        key = self.name(f"figure-{picture.stem}")
        label = escaped(picture.alt)
        if picture.drawing is None:
            return self.image(picture, label)
        try:
            found = self.draw(picture, re.sub(r"\W", "", key))
        except Exception as error:
            return f'<p class="bad">{escaped(f"The figure {picture.stem} could not be drawn: {error}")}</p>'
        points = json.dumps(
            [panel._asdict() | {"series": [one._asdict() for one in panel.series]} for panel in found.panels]
        )
        least, most = round(_LEAST_SCALE * found.width), round(_MOST_SCALE * found.width)
        style = f'style="min-width:{least}px;max-width:{most}px"'
        svg = found.svg.replace("<svg", f'<svg role="img" tabindex="0" aria-label="{label}" {style}', 1)
        return (
            f'<figure id="{key}" data-points="{escaped(points)}"><div class="box">{svg}</div><details class="values" '
            f'data-key="{key}-values"><summary>Values</summary><div class="box"></div></details></figure>'
        )

    def image(self, picture: Picture, label: str) -> str:
        """A figure that only its file shows."""
        try:
            raw = read_file(picture.png or Path(), _MAX_BYTES)
        except OSError as error:
            return f'<p class="bad">{escaped(f"The figure {picture.stem} cannot be shown: {error}")}</p>'
        return f'<figure><img alt="{label}" src="data:image/png;base64,{base64.b64encode(raw).decode()}"></figure>'


def linked(text: str) -> str:
    """Text with its addresses, arXiv numbers and DOIs as links, for which a reader must ask.

    >>> linked("see arXiv:1703.03400 & more")
    'see <a href="https://arxiv.org/abs/1703.03400" rel="noreferrer">arXiv:1703.03400</a> &amp; more'
    """
    parts, at = [], 0
    for found in links(text):
        parts.append(escaped(text[at : found.first]))
        parts.append(f'<a href="{escaped(found.address)}" rel="noreferrer">{escaped(found.shown)}</a>')
        at = found.first + len(found.shown)
    return "".join([*parts, escaped(text[at:])])


def _badge(badge: Text | None) -> str:
    return "" if badge is None else f' <span class="badge {badge.tone}">{escaped(badge.text)}</span>'


def _class(*names: str) -> str:
    own = " ".join(name for name in names if name not in ("", "plain"))
    return f' class="{own}"' if own else ""


def _kind(column: Column) -> str:
    return "n" if column.is_number else "long" if column.is_long else ""


def _cell(cell: Cell, column: Column) -> str:
    order = "" if cell.order is None else f"{cell.order:.10g}" if isinstance(cell.order, int | float) else None
    data = "" if order is None else f' data-o="{order}"'
    return f"<td{_class(_kind(column), cell.tone)}{data}>{escaped(cell.text)}</td>"
