"""What the README says is so."""

import doctest
import importlib
import pkgutil
import re

import pytest

import mamlcli
from mamlcli.config.reference import config_reference, key_tables
from tests.conftest import ROOT, Maml

README = (ROOT / "README.md").read_text()
MODULES = [module.name for module in pkgutil.walk_packages(mamlcli.__path__, "mamlcli.")]


def test_the_config_reference_is_that_of_the_code() -> None:
    assert config_reference() in README, "put the output of mamlcli.config.reference.config_reference() into the README"


def test_the_example_from_python_runs_twice_with_the_same_outcome(
    maml: Maml, capsys: pytest.CaptureFixture[str]
) -> None:
    del maml  # it brings an empty working directory
    example = re.search(r"```python\n(.*?)```", README, re.DOTALL)
    assert example is not None
    source = example[1].replace("configs/", f"{ROOT}/configs/")
    outputs = []
    for _ in range(2):
        exec(compile(source, "README.md", "exec"), {})
        outputs.append(capsys.readouterr().out)
    assert "outputs/from-python" in outputs[0]
    assert outputs[0] == outputs[1]


def test_every_option_is_in_the_help(maml: Maml) -> None:
    for column, command in enumerate(("train", "eval", "compare-orders", "check-grads"), start=2):
        for line in README.splitlines():
            cells = line.replace("\\|", "/").split("|")
            if line.startswith("| `--") and cells[column].strip() == "yes":
                option = re.search(r"--[a-z-]+", cells[1])
                assert option is not None
                assert option[0] in maml(command, "--help").out


def test_the_help_of_what_reads_a_config_has_every_key(maml: Maml) -> None:
    keys = [f"  {key}: {default}" for _, rows in key_tables() for key, default, _ in rows]
    for command in ("train", "compare-orders", "check-grads"):
        said = maml(command, "--help").out
        assert [key for key in keys if key not in said] == []


def test_every_file_that_is_linked_exists() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", README)
    assert all((ROOT / link).exists() for link in links if not link.startswith("http"))
    assert all((ROOT / path).exists() for path in re.findall(r"configs/[a-z-]+\.yaml", README))


def test_examples_in_docstrings_hold() -> None:
    results = {name: doctest.testmod(importlib.import_module(name)) for name in MODULES}
    assert not [name for name, result in results.items() if result.failed]
    assert sum(result.attempted for result in results.values()) > 20
