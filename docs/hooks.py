"""What MkDocs makes of the pages: parts that come from the code, and blocks that are marked for the tests.

A line `<!-- made: NAME -->` in a page is replaced by what the code says, so that the site cannot drift from it.
"""

import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

from mamlcli.config.reference import config_reference
from mamlcli.config.shipped import described, shipped_configs, shipped_methods, shipped_rows
from mamlcli.schemas import schema_files

_MARK = re.compile(r"^<!-- made: (\S+) -->$", re.MULTILINE)
_NOTEBOOKS = Path(__file__).parent / "notebooks"
# In a table GitHub wants `a\|b` for the code a|b, and Python-Markdown would show the backslash.
_ROW, _CODE = re.compile(r"^\|.*$", re.MULTILINE), re.compile(r"`[^`]+`")
_MARKED_FENCE = re.compile(r"^(```\w+) (?:run|setup)$", re.MULTILINE)


def on_page_markdown(markdown: str, **_: object) -> str:
    """Fill in what is made from the code, and take the tests' marks off fences, which readers need not see."""
    made = _MARKED_FENCE.sub(r"\1", _MARK.sub(lambda mark: MADE[mark[1]](), markdown))
    return _ROW.sub(lambda row: _CODE.sub(lambda code: code[0].replace(r"\|", "|"), row[0]), made)


def config_keys() -> str:
    """Every key of a config: a heading for each section, and for each choice of family, model and method."""
    always, *choices = re.split(r"^(?=With `)", config_reference(), flags=re.MULTILINE)
    head, rule, *rows = always.strip().splitlines()
    sections: dict[str, list[str]] = {}
    for row in rows:
        key = row.split("`")[1]
        sections.setdefault(f"`{key.partition('.')[0]}`" if "." in key else "The first level", []).append(row)
    parts = [(f"## {name}", "\n".join([head, rule, *its])) for name, its in sections.items()]
    for choice in choices:
        line, _, table = choice.partition("\n")
        chosen, default, says = re.fullmatch(r"With `([^`]+)`( \(the default\))?\. (.*)", line).groups()  # type: ignore[union-attr]
        parts.append((f"## `{chosen}`{default or ''}\n\n{says}", table.strip()))
    return "\n\n".join(f'{heading}\n\n<div class="keys" markdown>\n\n{table}\n\n</div>' for heading, table in parts)


def experiments() -> str:
    """The shipped configs, as they are, but for those of methods."""
    others = {name: path for name, path in shipped_configs().items() if name not in shipped_methods()}
    return "\n\n".join(f"## {name}\n\n```yaml\n{path.read_text().rstrip()}\n```" for name, path in others.items())


def methods() -> str:
    """The shipped configs of methods: a table, and the files as they are."""
    shown = [one for one in described() if one.name in shipped_methods()]
    rows = [f"| `{one.name}` | {one.summary} | {one.time} |" for one in shown]
    files = [f"### {one.name}\n\n```yaml\n{one.path.read_text().rstrip()}\n```" for one in shown]
    return "\n\n".join(["\n".join(["| name | what | time |", "|---|---|---|", *rows]), *files])


def published_rows() -> str:
    """The rows of `maml reproduce`, as they are."""
    return "\n\n".join(
        f"### {name}\n\n```yaml\n{path.read_text().rstrip()}\n```" for name, path in shipped_rows().items()
    )


def schemas() -> str:
    """The files of docs/schemas, as links."""
    return "\n".join(f"- [{name}](../schemas/{name})" for name in sorted(schema_files()))


def notebook(name: str) -> str:
    """A notebook's texts and code, under its title a way to get it; what it draws is seen where it is run."""
    cells = json.loads((_NOTEBOOKS / f"{name}.ipynb").read_text("utf-8"))["cells"]
    parts = ["".join(cell["source"]) for cell in cells]
    parts = [
        part.replace(".ipynb)", ".md)") if cell["cell_type"] == "markdown" else f"```python\n{part}\n```"
        for cell, part in zip(cells, parts, strict=True)
    ]
    title, _, rest = parts[0].partition("\n")
    return "\n\n".join(
        [title, f"*A notebook: [download it]({name}.ipynb), and run it in a folder of your own.*", rest, *parts[1:]]
    )


MADE: dict[str, Callable[[], str]] = {
    "config-keys": config_keys,
    "experiments": experiments,
    "methods": methods,
    "published-rows": published_rows,
    "schemas": schemas,
    "notebook-first-steps": partial(notebook, "first-steps"),
    "notebook-your-data": partial(notebook, "your-data"),
}
