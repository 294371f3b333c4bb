"""What the README says is so."""

import doctest
import importlib
import pkgutil
import re

import mamlcli
from mamlcli.config.reference import key_tables
from tests.conftest import ROOT, Maml

README = (ROOT / "README.md").read_text()
MODULES = [module.name for module in pkgutil.walk_packages(mamlcli.__path__, "mamlcli.")]


def test_it_is_short() -> None:
    assert len(README.splitlines()) <= 150


def test_each_command_has_its_guide_and_its_lines(maml: Maml) -> None:
    said = maml("--help").out
    rows = re.findall(r"^\| \[`maml ([\w-]+)`\]\(docs/guides/([\w-]+)\.md\) \| (.+) \|$", README, re.MULTILINE)
    assert {name for name, _, _ in rows} == set(re.findall(r"^│ ([a-z][a-z-]*) {2}", said, re.MULTILINE))
    assert all(name == guide and len(text) <= 250 for name, guide, text in rows)


def test_the_help_of_what_reads_a_config_has_every_key(maml: Maml) -> None:
    keys = [f"  {key}: {default}" for _, rows in key_tables() for key, default, _ in rows]
    for command in ("train", "compare-orders", "check-grads"):
        said = maml(command, "--help").out
        assert [key for key in keys if key not in said] == []


def test_every_file_that_is_linked_exists() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", README)
    assert all((ROOT / link).exists() for link in links if not link.startswith("http"))


def test_examples_in_docstrings_hold() -> None:
    results = {name: doctest.testmod(importlib.import_module(name)) for name in MODULES}
    assert not [name for name, result in results.items() if result.failed]
    assert sum(result.attempted for result in results.values()) > 20
