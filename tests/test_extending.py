"""Families, models and methods of a user's own: the examples of docs/extending.md, from an empty folder."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.same_numbers.compare import case_differences

PAGE = (ROOT / "docs" / "extending.md").read_text("utf-8")
FILES = dict(re.findall(r"<!-- file: (\S+) -->\n```\w+\n(.*?)```", PAGE, re.DOTALL))
NAMES = ["decays", "residual", "head_only"]


def maml(folder: Path, *arguments: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run a command in a process of its own, in which no other plugin was ever imported."""
    command = [sys.executable, "-m", "mamlcli", *map(str, arguments)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    return done


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def test_every_example_is_complete_and_of_at_most_forty_lines() -> None:
    assert set(FILES) == {f"{name}.{suffix}" for name in NAMES for suffix in ("py", "yaml")}
    assert all(len(text.splitlines()) <= 40 for text in FILES.values())


@pytest.mark.parametrize("name", NAMES)
def test_an_example_trains_resumes_bit_for_bit_is_evaluated_and_proven(folder: Path, name: str) -> None:
    plugin = ("--plugin", f"{name}.py")
    config = (*plugin, "--config", f"{name}.yaml")
    maml(folder, "train", *config, "--out", "whole")
    maml(folder, "train", *config, "--out", "parts", "--set", "outer.steps=15")
    maml(folder, "train", *plugin, "--resume", "parts", "--set", "outer.steps=40")
    assert case_differences(folder / "whole", folder / "parts") == []
    found = json.loads(maml(folder, "eval", "whole", *plugin, "--json").stdout)
    assert all(row["mean"] is not None for row in found["results"])
    report = json.loads(maml(folder, "check-grads", *config, "--json").stdout)
    assert report["passed"]
    assert any(check["verdict"] == "holds" and "slope" in check["name"] for check in report["checks"])


def test_help_behind_a_plugin_has_its_keys(folder: Path) -> None:
    assert "  tasks.rate: " in maml(folder, "train", "--plugin", "decays.py", "--help").stdout
    maml(folder, "train", "--plugin", "not-there.py", "--help", code=2)


def test_orders_of_a_method_of_ones_own_are_compared(folder: Path) -> None:
    result = maml(folder, "compare-orders", "--plugin", "head_only.py", "-c", "head_only.yaml", "--out", "o", "--json")
    assert {row["inner_steps"] for row in json.loads(result.stdout)["results"]} == {0, 1, 2, 3}


def test_a_family_of_ones_own_runs_compiled(folder: Path) -> None:
    config = ("--plugin", "decays.py", "-c", "decays.yaml", "--set", "engine.compile=on")
    report = json.loads(maml(folder, "check-grads", *config, "--json").stdout)
    assert "fused meta-update" in [check["name"] for check in report["checks"] if check["verdict"] == "holds"]


def test_keys_of_a_plugin_get_the_same_messages(folder: Path) -> None:
    said = maml(
        folder, "train", "--plugin", "decays.py", "-c", "decays.yaml", "--set", "tasks.raet=[1, 2]", code=2
    ).stderr
    assert "tasks.raet: unknown key; did you mean 'tasks.rate'?" in said
    said = maml(
        folder, "train", "--plugin", "decays.py", "-c", "decays.yaml", "--set", "tasks.phase=[0, 1]", code=2
    ).stderr
    assert "`phase` is a key of sinusoid, damped_oscillator, sawtooth and harmonic; this is decay" in said


def test_without_its_plugin_a_config_and_a_run_say_what_is_missing_and_import_nothing(folder: Path) -> None:
    said = maml(folder, "train", "-c", "decays.yaml", code=2).stderr
    assert "there is no family 'decay'; known: sinusoid, " in said
    assert "a family, model or method of your own needs its --plugin FILE" in said
    maml(folder, "train", "--plugin", "decays.py", "-c", "decays.yaml", "--out", "run")
    marker = folder / "imported"
    (folder / "decays.py").write_text(f"open({str(marker)!r}, 'w')\n" + FILES["decays.py"])
    said = maml(folder, "eval", "run", code=4).stderr
    assert "there is no family 'decay'" in said
    assert "it was trained with --plugin decays.py" in said
    assert not marker.exists()


def test_a_plugins_own_exception_shows_its_line_and_none_above_it(folder: Path) -> None:
    broken = FILES["decays.py"].replace("amplitude * (-rate * x).exp()", "amplitude * undefined")
    (folder / "decays.py").write_text(broken)
    said = maml(folder, "train", "--plugin", "decays.py", "-c", "decays.yaml", code=1).stderr
    lines = [line for line in said.splitlines() if "File " in line]
    assert "decays.py" in lines[0]
    assert "lambda x, amplitude, rate: amplitude * undefined" in said
    assert said.rstrip().endswith("NameError: name 'undefined' is not defined")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import nothing_like_it\n", "ModuleNotFoundError: No module named 'nothing_like_it'"),
        ("x = 1 +\n", "SyntaxError: invalid syntax"),
        (FILES["decays.py"].replace("decay", "sinusoid"), "a family named 'sinusoid' is there already"),
        (FILES["decays.py"].replace('Literal["decay"] = "decay"', 'str = "decay"'), "must derive from TasksSection"),
    ],
)
def test_a_plugin_that_cannot_be_used_is_explained(folder: Path, text: str, message: str) -> None:
    (folder / "wrong.py").write_text(text)
    said = maml(folder, "train", "--plugin", "wrong.py", "-c", "decays.yaml", code=2).stderr
    assert message in said
    assert "mamlcli/" not in said


def test_a_plugin_that_is_not_there_is_named(folder: Path) -> None:
    assert "none.py: no such Python file" in maml(folder, "eval", "--plugin", "none.py", code=2).stderr
    assert "no module of that name" in maml(folder, "eval", "--plugin", "none_such", code=2).stderr


DISTANCES = '''
from typing import Literal
import torch
import mamlcli as m
class DistancesConfig(m.ModelSection):
    """Distances to learned centres."""
    name: Literal["distances"] = "distances"
class Distances(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.centres, self.last = torch.nn.Parameter(torch.randn(6, 1)), torch.nn.Linear(6, 1)
    def forward(self, x):
        return FORWARD
@m.register_model(DistancesConfig)
def distances(config, num_inputs, num_outputs):
    return m.module_model(Distances, num_inputs, num_outputs)
'''


@pytest.mark.parametrize(
    ("forward", "said"),
    [
        ("self.last(torch.cdist(x, self.centres))", "`_cdist_backward` has no second derivative"),
        ("self.last(x.expand(-1, 6)) * float(x.sum() > 0)", "a value is read out of a tensor"),
    ],
)
def test_an_operation_that_cannot_be_differentiated_so_is_named_with_its_remedy(
    folder: Path, forward: str, said: str
) -> None:
    (folder / "distances.py").write_text(DISTANCES.replace("FORWARD", forward))
    config = ("--plugin", "distances.py", "-c", "residual.yaml", "--set", "model={name: distances}")
    assert said in " ".join(maml(folder, "check-grads", *config, code=1).stdout.split())
    assert said in maml(folder, "train", *config, "--out", "run", code=2).stderr


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        ("torch.nn.BatchNorm1d(1)", "changes its buffer '0.running_mean' at every call"),
        ("torch.nn.Dropout()", "says something else at every call, as dropout does"),
        ("torch.nn.Linear(1, 3)", "the tasks want (64, 1)"),
    ],
)
def test_a_module_that_is_no_function_is_refused_with_the_remedy(folder: Path, layer: str, said: str) -> None:
    text = DISTANCES.replace(
        "m.module_model(Distances",
        f"m.module_model(lambda: torch.nn.Sequential({layer},"
        f" torch.nn.Identity() if 'Linear' in '{layer}' else torch.nn.Linear(1, 1))",
    )
    (folder / "distances.py").write_text(text)
    config = ("--plugin", "distances.py", "-c", "residual.yaml", "--set", "model={name: distances}")
    assert said in maml(folder, "train", *config, "--dry-run", code=2).stderr
