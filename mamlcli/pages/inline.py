"""A figure as SVG inside a page: its text is text, black is the colour of the page's ink, and it says where values are.

Colours become variables, of which each figure brings the light and the dark value along.
"""

import colorsys
import io
import re
from typing import Any, NamedTuple

import matplotlib as mpl
from matplotlib.figure import Figure

from mamlcli.figures.drawing import Drawing
from mamlcli.figures.style import PAGE
from mamlcli.pages.hover import HoverPanel, hover_panels

_SETTINGS: dict[Any, Any] = {"svg.fonttype": "none", "path.simplify_threshold": 0.4}
_POINTS_PER_INCH = 72
_COLOR = re.compile(r"#[0-9a-fA-F]{6}\b")
# A coordinate to more than a hundredth of a point; how much something is scaled stays.
_LONG = re.compile(r"(?<!scale\()(\d\.\d\d)\d+")
_BLACK, _WHITE = "#000000", "#ffffff"
# How light a colour must be to be seen on black, and how dark on white.
_LEAST_LIGHT = 0.62


class Inline(NamedTuple):
    """A figure for a page."""

    svg: str
    width: float
    """Of its own, in CSS pixels."""
    panels: list[HoverPanel]


def inline(drawing: Drawing, prefix: str) -> Inline:
    """Draw a figure for a page.

    Args:
        drawing: What it shows.
        prefix: A word of letters and digits that begins the ids inside, so that several figures share a page.
    """
    settings = _SETTINGS | {"svg.hashsalt": prefix}
    # Of a method's own, a figure takes them from matplotlib.
    with mpl.rc_context(settings):
        figure = drawing.drawn(PAGE._replace(settings=settings))
        figure.set_dpi(_POINTS_PER_INCH)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    panels = hover_panels(figure)
    return Inline(page_svg(buffer.getvalue().decode(), prefix), _width(figure), panels)


def _width(figure: Figure) -> float:
    return float(figure.get_figwidth()) * 96


def page_svg(svg: str, prefix: str) -> str:
    """Make the SVG of matplotlib part of a page."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, count=1, flags=re.DOTALL)
    svg = re.sub(r"<!--.*?-->\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r"<[^>]*>", lambda tag: _LONG.sub(r"\1", tag[0]), svg)
    svg = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>\s*", "", svg, count=1, flags=re.DOTALL)
    svg = re.sub(r"font-family: [^;\"]*;? ?", "", svg)  # that of the page
    svg = re.sub(r"\s+", " ", svg)
    svg = _own_ids(svg, prefix)
    return _own_colors(svg)


def _own_ids(svg: str, prefix: str) -> str:
    """Keep the ids that something refers to, and make them those of this figure."""
    used = set(re.findall(r'(?:url\(#|href="#)([^)"]+)', svg))

    def kept(match: re.Match[str]) -> str:
        return f' id="{prefix}{match[1]}"' if match[1] in used else ""

    svg = re.sub(r' id="([^"]+)"', kept, svg)
    return re.sub(r'(url\(#|href="#)', rf"\g<1>{prefix}", svg)


def _own_colors(svg: str) -> str:
    """Black is ink, white is nothing, and every other colour a variable."""
    colors = sorted({color.lower() for color in _COLOR.findall(svg)} - {_BLACK, _WHITE})

    def variable(match: re.Match[str]) -> str:
        color = match[0].lower()
        return {_BLACK: "currentColor", _WHITE: "none"}.get(color, f"var({_name(color)})")

    svg = _COLOR.sub(variable, svg)
    light = "".join(f"{_name(color)}:{color};" for color in colors)
    dark = "".join(f"{_name(color)}:{on_black(color)};" for color in colors)
    style = f":root{{{light}}}@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}"
    return svg.replace(">", f"><style>{style}</style>", 1)


def _name(color: str) -> str:
    return f"--c{color[1:]}"


def on_black(color: str) -> str:
    """A colour light enough to be seen on black, of the same hue.

    >>> on_black("#0072b2"), on_black("#e69f00")
    ('#3db9ff', '#ffc33d')
    """
    red, green, blue = (int(color[start : start + 2], 16) / 255 for start in (1, 3, 5))
    hue, light, saturation = colorsys.rgb_to_hls(red, green, blue)
    parts = colorsys.hls_to_rgb(hue, max(light, _LEAST_LIGHT), saturation)
    return "#" + "".join(f"{round(255 * part):02x}" for part in parts)
