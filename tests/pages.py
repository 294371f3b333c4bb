"""The pages of the documentation as data: their blocks of code, and a reader who types what stands in them."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from matplotlib.figure import Figure

from tests.conftest import ROOT, Maml

DOCS = ROOT / "docs"
PAGES = (ROOT / "README.md", *sorted(DOCS.rglob("*.md")))

_BLOCK = re.compile(r"^(?:<!-- file: (\S+) -->\n)?```(\w*) ?(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_HEREDOC = re.compile(r"cat > (\S+) <<'END'\n(.*?\n)END\n", re.DOTALL)
# What a reader trains for minutes takes a test a moment: the same commands, of experiments that are cut short.
_SHORT = ("--set", "outer.steps=4")
_SMALL = ("--set", "evaluation.tasks=5", "--set", "evaluation.query_shots=9")
_TINY = ("--set", "model.hidden_sizes=[4]", "--set", "engine.compile=off", "--set", "outer.meta_batch_size=2")


class Block(NamedTuple):
    """A fenced block of a page."""

    language: str
    mark: str
    """`run`: a reader's own commands, which work one after the other; `setup`: what CI installs with."""
    text: str
    file: str
    """The name of the file that the block is; empty for others."""


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in their order."""
    return [Block(language, mark, text, file) for file, language, mark, text in _BLOCK.findall(page.read_text("utf-8"))]


def marked(page: Path, mark: str) -> list[Block]:
    return [block for block in blocks(page) if block.mark == mark]


def without_blocks(page: Path) -> str:
    return _BLOCK.sub("", page.read_text("utf-8"))


def commands(block: Block) -> Iterator[list[str]]:
    """The words of each command of the program in a block: what follows `$` in a console, each line in a shell."""
    for line in _HEREDOC.sub("", block.text).splitlines():
        if block.language == "console" and not line.startswith("$ "):
            continue
        words = shlex.split(line.removeprefix("$ "), comments=True)
        if words[:1] == ["maml"]:
            yield words[1:]


def follow(page: Path, maml: Maml, monkeypatch: pytest.MonkeyPatch) -> None:
    """Type what a page says, in the working folder: every block that is marked `run`, in its order."""
    from mamlcli.config import file

    load_config, savefig = file.load_config, Figure.savefig
    # Drawing takes most of the time, and is tested where figures are.
    monkeypatch.setattr(Figure, "savefig", lambda _, *where, **how: savefig(Figure(), *where, **how))
    small = [text for text in (*_SHORT, *_SMALL) if text != "--set"]
    for block in marked(page, "run"):
        if block.language == "python":
            with monkeypatch.context() as patched:
                patched.setattr(file, "load_config", lambda path, own=(): load_config(path, [*own, *small]))
                exec(compile(re.sub(r"steps: \d{3,}", "steps: 4", block.text), name_of(page), "exec"), {})
            continue
        for name, text in _HEREDOC.findall(block.text):
            Path(name).write_text(text)
        for words in commands(block):
            outcome = maml(*words, *_cut(words))
            assert outcome.code == 0, f"maml {shlex.join(words)}\n{outcome.err}"


def _cut(words: list[str]) -> tuple[str, ...]:
    """What makes a command short that would train or check for long."""
    if words[0] == "check-grads":
        return _TINY
    if words[0] not in ("train", "compare-orders", "sweep") and "--configs" not in words:
        return ()
    own_tasks = "elnino" in words or any("elnino" in word for word in words if "--resume" in words)
    return _SHORT if own_tasks else (*_SHORT, *_SMALL)
