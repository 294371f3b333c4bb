"""Where a text names a source that can be opened."""

import re
from collections.abc import Iterator
from typing import NamedTuple

_SOURCES = (
    (re.compile(r"\bhttps?://[\w.~:/?#@!$&*+,;=%-]*[\w/#=]"), ""),
    (re.compile(r"\barXiv:(?P<number>\d{4}\.\d{4,5})(?!\d)"), "https://arxiv.org/abs/"),
    (re.compile(r"\bdoi:(?P<number>10\.\d{4,9}/[\w./;()-]*\w)"), "https://doi.org/"),
)


class Link(NamedTuple):
    """A part of a text that can be opened."""

    first: int
    """Where it begins."""
    shown: str
    address: str


def links(text: str) -> Iterator[Link]:
    """The web addresses, arXiv numbers and DOIs in a text, in their order.

    >>> [link.address for link in links("Finn et al. 2017 (arXiv:1703.03400), doi:10.1007/BF01068419.")]
    ['https://arxiv.org/abs/1703.03400', 'https://doi.org/10.1007/BF01068419']
    """
    found = [
        Link(match.start(), match[0], before + (match["number"] if before else match[0]))
        for pattern, before in _SOURCES
        for match in pattern.finditer(text)
    ]
    end = 0
    for link in sorted(found):
        if link.first >= end:
            end = link.first + len(link.shown)
            yield link
