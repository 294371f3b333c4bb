"""Names and titles from elsewhere: shown as they are, and nothing in them acts."""

import html
import io
import json
import re
import warnings
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mamlcli.cli.progress import Progress
from mamlcli.cli.tables import format_table
from mamlcli.config.reference import config_reference
from mamlcli.escaping import markdown, page, visible
from mamlcli.figures.adaptation import reproduction_figure
from mamlcli.figures.training import loss_figure
from tests.conftest import Maml

TRICKY = "<script>alert(1)</script> | a\\b `c` \x1b[31mred\nnext \u202e$x_1$ *d* _e_ [f](g) &amp;"
SHOWN = "<script>alert(1)</script> | a\\b `c` \\x1b[31mred\\nnext \\u202e$x_1$ *d* _e_ [f](g) &amp;"


class Text(HTMLParser):
    """What a browser would show, and the elements it would make."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.shown, self.elements = "", list[str]()
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: object) -> None:  # noqa: ARG002
        self.elements.append(tag)

    def handle_data(self, data: str) -> None:
        self.shown += data


def rendered(source: str) -> str:
    """Inline Markdown that holds nothing but text, as CommonMark shows it: a backslash stands before punctuation."""
    text = re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", source)
    return html.unescape(text)


@given(st.text(max_size=60))
def test_what_is_visible_has_no_control_characters_and_plain_text_stays(text: str) -> None:
    assert visible(text).isprintable()
    assert visible(visible(text)) == visible(text)
    if text.isprintable():
        assert visible(text) == text


@given(st.text(max_size=60) | st.just(TRICKY))
def test_markdown_and_pages_show_a_text_as_it_is(text: str) -> None:
    parsed = Text(f"<td>{page(text)}</td>")
    assert (parsed.shown, parsed.elements) == (visible(text), ["td"])
    assert rendered(markdown(text)) == visible(text)
    assert not re.search(r"(?<!\\)(?:\\\\)*[|`*_\[\]]|<|>|\n", markdown(text))


def row_file(text: str) -> str:
    quoted = json.dumps(text)
    return f"""
title: {quoted}
source: {quoted}
ambiguous: {quoted}
start: zero
curve: {quoted}
published: [{{shots: 5, inner_steps: 1, mean: 1}}]
config: {{name: x, device: cpu, evaluation: {{tasks: 5}}}}
"""


def test_a_reproduction_shows_names_and_titles_as_they_are(maml: Maml, folder: Path) -> None:
    name = "<b>x|y$1$\x1b[31m"
    (folder / f"{name}.yaml").write_text(row_file(TRICKY))
    outcome = maml("reproduce", f"{name}.yaml", "--fast", "--seeds", "0", "--out", "back")
    assert outcome.code == 0, outcome.err
    assert "\x1b" not in outcome.out + outcome.err
    assert "<b>x|y$1$\\x1b[31m" in outcome.out
    page_text = Text((folder / "back" / "report.html").read_text())
    assert SHOWN in page_text.shown
    assert visible(name) in page_text.shown
    assert "b" not in page_text.elements
    assert page_text.elements.count("script") == 1  # the page's own
    report = (folder / "back" / "report.md").read_text()
    assert SHOWN in rendered(report)
    tables = [part.splitlines() for part in report.split("\n\n") if part.startswith("|")]
    assert len(tables[0]) == 3
    assert all(len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) == 1 for lines in tables)
    report = re.sub(r"^```.*?^```$", "", report, flags=re.DOTALL | re.MULTILINE)  # where nothing is markup
    assert "<" not in re.sub(r"</?(?:details|summary)>", "", report)
    listed = maml("reproduce", f"{name}.yaml", "--list")
    assert SHOWN in " ".join(listed.out.split())
    assert "\x1b" not in listed.out


@pytest.mark.parametrize("text", [TRICKY, "$", "$x$", "_hidden", "a$b", "$\\bad{$", "", "  "])
def test_figures_show_titles_and_names_as_they_are(text: str) -> None:
    rows = [{"curve": text, "shots": 5, "inner_steps": step, "mean": 1.0, "ci95": 0.1} for step in (0, 1)]
    metrics = [{"step": 1, "seed": 0, "pre_adapt_loss": 2.0, "post_adapt_loss": 1.0}]
    reproduction, loss = reproduction_figure(rows, title=text), loss_figure(metrics, title=text)
    assert reproduction.legends[0].get_texts()[0].get_text().replace(r"\$", "$") == visible(text)
    for figure in (reproduction, loss):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a font without a letter is no fault
            figure.savefig(io.BytesIO(), format="svg")
            figure.savefig(io.BytesIO(), format="png")


def test_no_control_character_reaches_the_terminal(maml: Maml, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = folder / "re\x1b[31md\u202e"
    outcome = maml("train", "-c", "tiny.yaml", "--out", out)
    assert outcome.code == 0
    again = maml("train", "-c", "tiny.yaml", "--out", out)
    assert again.code == 3
    for text in (outcome.out, outcome.err, again.err, maml("eval", out).out, maml("train", "-c", out / "\n\x07").err):
        assert text.replace("\n", "").isprintable()
    assert "re\\x1b[31md\\u202e" in outcome.out
    assert format_table([{"a": "x\ny\x1b"}]).splitlines()[-1] == "x\\ny\\x1b"
    log = io.StringIO()
    monkeypatch.setattr("sys.stderr", log)
    Progress(quiet=True).note("warning: \x1b[2J\nmaml: done")
    assert log.getvalue() == "warning: \\x1b[2J\\nmaml: done\n"


def test_the_config_reference_keeps_its_columns() -> None:
    lines = config_reference().splitlines()
    bars = {line.startswith("|"): set[int]() for line in lines}
    for line in lines:
        bars[line.startswith("|")].add(len(re.findall(r"(?<!\\)\|", line)))
    assert bars == {True: {4}, False: {0}}
