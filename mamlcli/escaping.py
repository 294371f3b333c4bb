"""Text from elsewhere (names, titles, paths) made safe to show: in a terminal, a Markdown table, a page, a figure."""

import html
import re

# Of a text that begins no line.
_MARKDOWN = re.compile(r"([\\`*_\[\]|~$])")


def visible(text: str) -> str:
    r"""Write what has no shape of its own as Python escapes: line breaks, terminal escapes, marks of direction.

    >>> print(visible("a\x1b[31m\nb"))
    a\x1b[31m\nb
    """
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def visible_lines(text: str) -> str:
    """The same, but for the line breaks between the lines of a message."""
    return "\n".join(map(visible, text.split("\n")))


def shorten(text: str, length: int = 60) -> str:
    """What is shown of a text that may be long."""
    return text if len(text) <= length else text[:length] + "..."


def markdown(text: str) -> str:
    r"""Escape text for Markdown, also inside a table and between HTML tags.

    >>> print(markdown("a|b <i> *c*"))
    a\|b &lt;i&gt; \*c\*
    """
    return html.escape(_MARKDOWN.sub(r"\\\1", visible(text)), quote=False)


def page(text: str) -> str:
    """Escape text for HTML, also inside an attribute.

    >>> page('<script>"')
    '&lt;script&gt;&quot;'
    """
    return html.escape(visible(text))


def label(text: str) -> str:
    r"""Escape text for matplotlib, where two dollars begin a formula.

    >>> print(label("$a$"))
    \$a\$
    """
    return visible(text).replace("$", r"\$")
