"""What the pages of the documentation say can be typed, works."""

import doctest
import re
from pathlib import Path
from typing import Any

import pytest
import typer

from mamlcli import __all__ as public_names
from mamlcli import parse_config
from mamlcli.cli.app import app
from tests.conftest import ROOT, Maml
from tests.pages import DOCS, PAGES, blocks, commands, follow, marked, name_of, without_blocks

FOLLOWED = [page for page in PAGES if marked(page, "run") and page.name != "your-data.md"]
GUIDES = [page for page in sorted((DOCS / "guides").glob("*.md")) if page.stem not in ("index", "logging", "python")]
# In a page, but no command that stands there whole.
PLACEHOLDERS = ("…", "COMMAND")
# Options that do at once what they say, which no test wants.
AT_ONCE = {"-h", "--help", "--version", "--install-completion"}


def names(page: Path) -> str:
    return name_of(page)


def found(words: list[str]) -> Any:
    """Parse a command line as the program would, and run nothing; what it does not know raises Click's own error."""
    command, words = typer.main.get_command(app), list(words)
    while isinstance(command, typer.core.TyperGroup) and words and not words[0].startswith("-"):
        name = words.pop(0)
        assert name in command.commands, f"maml has no command {name!r}"
        command = command.commands[name]
    if words and not AT_ONCE & set(words):
        command.make_context(command.name, words)
    return command


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_every_block_says_what_it_is(page: Path) -> None:
    kinds = {(block.language, block.mark) for block in blocks(page)}
    assert kinds <= {
        *(("sh", mark) for mark in ("", "run", "setup")),
        *(("python", mark) for mark in ("", "run")),
        *((language, "") for language in ("console", "pycon", "text", "yaml")),
    }
    assert not [block for block in blocks(page) if (block.language, block.mark) == ("python", "") and not block.file]


@pytest.mark.parametrize("page", FOLLOWED, ids=names)
def test_what_a_page_says_to_type_works(
    page: Path, maml: Maml, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    follow(page, maml, monkeypatch)
    capsys.readouterr()


@pytest.mark.parametrize("page", [page for page in PAGES if ">>> " in page.read_text("utf-8")], ids=names)
def test_the_examples_of_a_page_run(page: Path) -> None:
    source = "\n".join(block.text for block in blocks(page) if block.language == "pycon")
    example = doctest.DocTestParser().get_doctest(source, {}, name_of(page), str(page), 0)
    results = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(example)
    assert results.attempted == page.read_text("utf-8").count("\n>>> ")
    assert results.failed == 0


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_every_command_that_a_page_shows_is_there_with_its_options(page: Path) -> None:
    shown = [words for block in blocks(page) if block.language in ("sh", "console") for words in commands(block)]
    inline = re.findall(r"`maml ([^`]+)`", without_blocks(page).replace("\n", " "))
    shown += [text.split(" > ")[0].split() for text in inline if not any(word in text for word in PLACEHOLDERS)]
    for words in shown:
        try:
            found(words)
        except Exception as error:
            pytest.fail(f"maml {' '.join(words)}: {getattr(error, 'message', error)}")


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_every_config_that_a_page_shows_is_one(page: Path) -> None:
    for block in blocks(page):
        if block.language == "yaml" and not block.file:
            parse_config(block.text if re.search(r"^name:", block.text, re.MULTILINE) else f"name: page\n{block.text}")


@pytest.mark.parametrize("page", GUIDES, ids=names)
def test_a_guide_names_every_option_of_its_command_and_no_other(page: Path) -> None:
    command, said = found([page.stem]), page.read_text("utf-8")
    own = command.commands.values() if isinstance(command, typer.core.TyperGroup) else [command]
    there = {name for one in own for option in one.params for name in option.opts if name.startswith("--")}
    assert [name for name in sorted(there) if name not in said] == []
    table = re.findall(r"^\| (`--.*?) \|", said, re.MULTILINE)
    assert {name for row in table for name in re.findall(r"--[a-z-]+", row)} <= there


def test_the_table_of_shared_options_is_that_of_the_commands() -> None:
    said = (DOCS / "guides" / "index.md").read_text("utf-8")
    rows = re.findall(r"^\| `(--[a-z-]+).* \| (.*) \|$", said, re.MULTILINE)
    alone = [page.stem for page in GUIDES if not isinstance(found([page.stem]), typer.core.TyperGroup)]
    has = {name: {option for one in found([name]).params for option in one.opts} for name in alone}
    assert len(rows) == 11
    for option, commands_of in rows:
        assert set(re.findall(r"[a-z-]+", commands_of)) == {name for name in alone if option in has[name]}, option


def test_every_public_name_is_in_the_python_reference_once() -> None:
    said = (DOCS / "reference" / "python.md").read_text("utf-8")
    assert [name for name in public_names if said.count(f"::: mamlcli.{name}\n") != 1] == []


def test_every_page_is_found_from_the_navigation_and_nothing_else_is_in_it() -> None:
    listed = set(re.findall(r"[\w/-]+\.md", (ROOT / "mkdocs.yml").read_text("utf-8")))
    assert listed == {str(page.relative_to(DOCS)) for page in PAGES if page != ROOT / "README.md"}
