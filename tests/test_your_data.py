"""The commands of docs/your-data.md run, one after the other, from a folder with the shipped configs."""

import re
import shlex
import shutil
from pathlib import Path

import pytest
import yaml

from mamlcli import load_config, parse_config
from tests.conftest import ROOT, Maml

PAGE = (ROOT / "docs" / "your-data.md").read_text("utf-8")
HEREDOC = re.compile(r"cat > (\S+) <<'END'\n(.*?\n)END\n", re.DOTALL)


@pytest.fixture
def configs(folder: Path) -> Path:
    """The shipped configs, of a training so short that it takes a second."""
    shutil.copytree(ROOT / "configs", folder / "configs")
    config = folder / "configs" / "elnino.yaml"
    short = config.read_text().replace("steps: 2000", "steps: 4")
    assert "steps: 4\n" in short
    config.write_text(short)
    return folder


def test_every_command_of_the_page_runs(maml: Maml, configs: Path) -> None:
    blocks = re.findall(r"```sh run\n(.*?)```", PAGE, re.DOTALL)
    for block in blocks:
        for name, text in HEREDOC.findall(block):
            (configs / name).write_text(text)
        for line in HEREDOC.sub("", block).splitlines():
            program, *arguments = shlex.split(line)
            assert program == "maml"
            outcome = maml(*arguments)
            assert outcome.code == 0, outcome.err
    assert sum(block.count("maml ") for block in blocks) == 8
    assert (configs / "predictions.csv").read_text().startswith("year,month,temperature,temperature_sd,")
    assert (configs / "fit.png").exists()


def test_the_config_of_the_page_is_the_shipped_one() -> None:
    shown = re.search(r"```yaml\n(name: elnino.*?)```", PAGE, re.DOTALL)
    assert shown is not None
    assert yaml.safe_load(shown[1]) == yaml.safe_load((ROOT / "configs" / "elnino.yaml").read_text())
    assert load_config(ROOT / "configs" / "elnino.yaml").run.keep == "best"


def test_configs_for_data_that_are_not_shipped_are_configs() -> None:
    texts = re.findall(r"```yaml\n(#.*?)```", PAGE, re.DOTALL)
    assert [parse_config(text).name for text in texts] == ["chicks", "theophylline", "learning-curves"]


def test_every_file_that_the_page_links_is_there() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", PAGE)
    assert links
    assert all((ROOT / "docs" / link).exists() for link in links)
