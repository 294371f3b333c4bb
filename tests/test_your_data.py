"""The commands of docs/your-data.md run, one after the other, and what it says of configs is so."""

import re
from pathlib import Path

import pytest
import yaml

from mamlcli import load_config, parse_config
from tests.conftest import ROOT, Maml
from tests.pages import DOCS, commands, follow, marked

PAGE = DOCS / "your-data.md"
TEXT = PAGE.read_text("utf-8")


def test_every_command_of_the_page_runs(
    maml: Maml, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    follow(PAGE, maml, monkeypatch)
    capsys.readouterr()
    assert sum(len(list(commands(block))) for block in marked(PAGE, "run")) == 8
    assert Path("predictions.csv").read_text().startswith("year,month,temperature,temperature_sd,")
    assert Path("fit.png").exists()


def test_the_config_of_the_page_is_the_shipped_one() -> None:
    shown = re.search(r"```yaml\n(name: elnino.*?)```", TEXT, re.DOTALL)
    assert shown is not None
    assert yaml.safe_load(shown[1]) == yaml.safe_load((ROOT / "configs" / "elnino.yaml").read_text())
    assert load_config(ROOT / "configs" / "elnino.yaml").run.keep == "best"


def test_configs_for_data_that_are_not_shipped_are_configs() -> None:
    texts = re.findall(r"```yaml\n(#.*?)```", TEXT, re.DOTALL)
    assert [parse_config(text).name for text in texts] == ["chicks", "theophylline", "learning-curves"]
