"""A page as Markdown: the same words and tables, and links to the figures' files."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import assert_never
from urllib.parse import quote

from mamlcli.escaping import markdown as escaped
from mamlcli.escaping import visible
from mamlcli.pages.blocks import Block, Cell, Code, Column, Details, Facts, Page, Picture, Section, Table, Text
from mamlcli.pages.links import links

MARK = "[//]: # (mamlcli report)"
"""The last line of every such file, which no reader is shown."""


def markdown(page: Page, folder: Path) -> str:
    """Write a page as Markdown.

    Args:
        page: What it holds.
        folder: Where the file will lie, from where links start.
    """
    badge = f" ({escaped(page.badge.text)})" if page.badge else ""
    parts = [f"# {escaped(page.title)}{badge}"]
    for block in page.blocks:
        parts += _block(block, 2, folder)
    return "\n\n".join([*parts, *([escaped(page.written)] if page.written else []), MARK]) + "\n"


def _block(block: Block, level: int, folder: Path) -> list[str]:
    """The paragraphs of a block."""
    match block:
        case Section():
            badge = f" ({escaped(block.badge.text)})" if block.badge else ""
            return [f"{'#' * min(level, 6)} {escaped(block.title)}{badge}", *_blocks(block.blocks, level + 1, folder)]
        case Details():
            # What GitHub and others fold; elsewhere the text stands there as it is.
            head = f"<details><summary>{escaped(block.summary)}</summary>"
            return [head, *_blocks(block.blocks, level, folder), "</details>"]
        case Table():
            return [*([escaped(block.caption)] if block.caption else []), _table(block)]
        case Text():
            return [linked(block.text)]
        case Code():
            fence = "````" if "```" in block.text else "```"
            lines = "\n".join(map(visible, block.text.split("\n")))
            return [f"{fence}{block.language}\n{lines}\n{fence}"]
        case Facts():
            return ["\n".join(f"- {escaped(name)}: {linked(value)}" for name, value in block.pairs)]
        case Picture():
            if block.png is None:
                return [f"{escaped(block.alt)} (the figure is on the page alone)"]
            link = quote(os.path.relpath(block.png, folder))
            return [f"![{escaped(block.alt)}]({link})"]
        case _:
            assert_never(block)


def linked(text: str) -> str:
    """Text with its addresses, arXiv numbers and DOIs as links."""
    parts, at = [], 0
    for found in links(text):
        parts.append(escaped(text[at : found.first]))
        parts.append(f"[{escaped(found.shown)}](<{found.address}>)")
        at = found.first + len(found.shown)
    return "".join([*parts, escaped(text[at:])])


def _blocks(blocks: Sequence[Block], level: int, folder: Path) -> list[str]:
    return [part for block in blocks for part in _block(block, level, folder)]


def _table(table: Table) -> str:
    rules = ["---:" if column.is_number else "---" for column in table.columns]
    return "\n".join([_line(table.columns), f"|{'|'.join(rules)}|", *map(_line, table.rows)])


def _line(cells: Sequence[Cell] | Sequence[Column]) -> str:
    texts = [escaped(cell.text if isinstance(cell, Cell) else cell.title) for cell in cells]
    return f"| {' | '.join(texts)} |"
