"""How a result shows itself in a notebook: a heading, what is to be said, its table and its figures."""

import base64
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from mamlcli.escaping import page
from mamlcli.reading import read_file
from mamlcli.tables.table import Table, html_table

# A notebook keeps what it shows; a larger figure is named, not shown.
_MOST_BYTES = 2**20


def shown(heading: str, table: Table, *, said: Sequence[str] = (), figures: Sequence[Path] = ()) -> str:
    """A result as HTML.

    Args:
        heading: A line that says what it is.
        table: Its rows.
        said: Sentences between the two.
        figures: PNG files; one that is no longer there, or is larger than 1 MiB, is named and not shown.
    """
    lines = [f"<p><b>{page(heading)}</b></p>", *(f"<p>{page(sentence)}</p>" for sentence in said)]
    return "\n".join([*lines, *([html_table(table)] if table else []), *map(_figure, figures)])


def _figure(path: Path) -> str:
    with suppress(OSError, ValueError):
        data = base64.b64encode(read_file(path, _MOST_BYTES)).decode()
        return f'<img src="data:image/png;base64,{data}" alt="{page(path.stem)}" style="max-width: 100%; width: 46em">'
    return f"<p>figure: {page(str(path))}</p>"
