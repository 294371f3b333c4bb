"""How the line of a method is drawn: by what it is called alone, so that it looks alike whatever stands beside it."""

from collections.abc import Sequence
from hashlib import sha256
from typing import Any

from matplotlib.colors import to_hex, to_rgb

from mamlcli.figures.style import CYCLE, DASHES, MARKERS, LineStyle

# Two dark ones of Tol's beside those of Okabe and Ito.
_COLORS = (*CYCLE, "#332288", "#882255")
# A title chooses a colour by a hash. With this salt the methods that are looked at most have eight different ones, and
# both orders of MAML those of `maml compare-orders`.
_SALT = 219486
# Of lines of one method, the second is darker and the third lighter: towards these, so far.
_SHADES = ((0.0, 0.0), (0.0, 0.45), (1.0, 0.45))


def method_color(title: str) -> str:
    """The colour of a method that is called so.

    >>> method_color("second-order MAML"), method_color("first-order MAML")
    ('#0072B2', '#D55E00')
    """
    return _COLORS[_digits(title)[0] % len(_COLORS)]


def method_styles(titles: Sequence[str]) -> list[LineStyle]:
    """A style for each line of a figure, from the title of its method.

    Lines of one method have shades of one colour. Marks and dashes are a method's own too, unless a line before has
    one of them: then the next pair is taken that is free, so that no two are alike without their colours.

    Args:
        titles: Of the methods, a line each.
    """
    styles: list[LineStyle] = []
    for index, title in enumerate(titles):
        _, marker, dashes = _digits(title)
        taken = [(style.marker, style.dashes) for style in styles]
        choices = [
            (MARKERS[(marker + step) % len(MARKERS)], DASHES[(dashes + step + turn) % len(DASHES)])
            for turn in range(len(DASHES))
            for step in range(len(MARKERS))
        ]
        chosen = min(choices, key=lambda pair: _in_use(pair, taken))
        styles.append(LineStyle(_shaded(method_color(title), titles[:index].count(title)), *chosen))
    return styles


def _in_use(pair: tuple[str, Any], taken: Sequence[tuple[str, Any]]) -> tuple[bool, int]:
    """Whether a mark and its dashes are taken together, and else how often each is by itself."""
    return pair in taken, sum((pair[0] == mark) + (pair[1] == dashes) for mark, dashes in taken)


def _digits(title: str) -> tuple[int, int, int]:
    first, second, third = sha256(f"{_SALT} {title}".encode()).digest()[:3]
    return first, second, third


def _shaded(color: str, index: int) -> str:
    towards, share = _SHADES[index % len(_SHADES)]
    red, green, blue = (part + (towards - part) * share for part in to_rgb(color))
    return color if not share else to_hex((red, green, blue))
