"""What commands print under --json is what docs/schemas/ says."""

import json
import math
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from pydantic import ValidationError

from mamlcli import dump_config, load_config, parse_config
from mamlcli.config.reference import config_schema
from mamlcli.config.shipped import shipped_configs
from mamlcli.config.yaml_text import read_yaml
from mamlcli.errors import ConfigError
from mamlcli.schemas import MODELS, schema_files
from tests.conftest import ROOT, Maml

COMMANDS = {
    "train": ("train", "-c", "tiny.yaml", "--out", "run"),
    "eval": ("eval", "run"),
    "predict": ("predict", "run", "--support", "own.csv", "--query", "own.csv"),
    "compare-orders": ("compare-orders", "-c", "tiny.yaml", "--out", "both"),
    "compare": ("compare", "run", "run/checkpoints/step-12.pt"),
    "report": ("report", "run"),
    "check-grads": ("check-grads", "-c", "tiny.yaml"),
    "dry-run": ("train", "-c", "tiny.yaml", "--dry-run"),
    "reproduce": ("reproduce", "zero", "--out", "back"),
    "sweep": ("sweep", "-c", "tiny.yaml", "--set", "outer.lr=0.001,0.01", "--out", "grid", "--pick", "best"),
    "reproduce-list": ("reproduce", "--list"),
    "configs-ls": ("configs", "ls"),
    "configs-show": ("configs", "show", "tiny.yaml"),
    "configs-cp": ("configs", "cp", "elnino", "copy.yaml"),
    "configs-validate": ("configs", "validate", "tiny.yaml"),
    "runs-ls": ("runs", "ls", "."),
    "runs-show": ("runs", "show", "run"),
    "runs-diff": ("runs", "diff", "run", "run"),
    "doctor": ("doctor",),
}
CHAIN = ("--set", "algorithm.name=chain", "--set", "tasks.corrupted_slots=3", "--set", "evaluation.shots=[10]")

HUGE = ("--set", "tasks.amplitude=[1e30, 1e30]")


def test_the_published_schemas_are_those_of_the_models() -> None:
    published = {path.name: path.read_text() for path in (ROOT / "docs" / "schemas").glob("*.json")}
    assert published == schema_files(), "write mamlcli.schemas.schema_files() to docs/schemas/"


def test_the_schema_of_a_config_accepts_what_is_shipped_as_written_and_resolved() -> None:
    validator = Draft202012Validator(config_schema())
    for path in shipped_configs().values():
        for text in (path.read_text("utf-8"), dump_config(load_config(path))):
            assert not list(validator.iter_errors(read_yaml(text, str(path)).data)), path.name


@pytest.mark.parametrize(
    "text",
    [
        "name: a\nouter: {stesp: 3}",
        "name: a\nalgorithm: {unlabelled_inputs: 3}",
        "name: a\nalgorithm: {name: joint, order: first}",
        "name: a\ntasks: {family: sinusiod}",
        "name: a\nouter: {lr: -1}",
        "outer: {lr: 1}",
    ],
)
def test_the_schema_of_a_config_refuses_what_the_command_refuses(text: str) -> None:
    assert list(Draft202012Validator(config_schema()).iter_errors(read_yaml(text, "x").data))
    with pytest.raises(ConfigError):
        parse_config(text)


@pytest.mark.parametrize("name", COMMANDS)
def test_what_a_command_prints_is_what_its_schema_says(maml: Maml, name: str) -> None:
    if name in ("eval", "compare", "predict", "report", "runs-ls", "runs-show", "runs-diff"):
        maml(*COMMANDS["train"])
    Path("own.csv").write_text("task,x,y\na,1,2\n")
    printed = maml(*COMMANDS[name], "--json").out
    assert len(printed.splitlines()) == 1
    MODELS[name].model_validate_json(printed)
    fields = json.loads(printed)
    assert fields["schema"] == f"mamlcli.{name}/1"
    schema = json.loads(schema_files()[f"{name}-1.json"])
    assert set(schema["required"]) <= fields.keys() <= schema["properties"].keys()


@pytest.mark.parametrize("name", ["train", "eval", "compare-orders", "check-grads", "dry-run"])
def test_what_is_printed_of_a_chain_fits_the_same_schemas(maml: Maml, name: str) -> None:
    if name == "eval":
        maml(*COMMANDS["train"], *CHAIN)
    options = () if name == "eval" else CHAIN
    MODELS[name].model_validate_json(maml(*COMMANDS[name], *options, "--json").out)


@pytest.mark.parametrize("name", ["train", "eval", "check-grads", "dry-run"])
def test_what_is_printed_of_joint_training_fits_the_same_schemas(maml: Maml, name: str) -> None:
    joint = ("--set", "algorithm.name=joint")
    if name == "eval":
        maml(*COMMANDS["train"], *joint)
    options = () if name == "eval" else joint
    MODELS[name].model_validate_json(maml(*COMMANDS[name], *options, "--json").out)


@pytest.mark.parametrize("random_init", [False, True])
def test_what_is_not_finite_is_null_and_fits_too(maml: Maml, random_init: bool) -> None:
    maml(*COMMANDS["train"])
    printed = maml("eval", "run", "--json", *(["--random-init"] if random_init else []), *HUGE).out
    assert json.loads(printed)["results"][0]["mean"] is None
    MODELS["eval"].model_validate_json(printed)


def test_a_schema_refuses_what_is_missing_unknown_or_of_another_type(maml: Maml) -> None:
    fields = json.loads(maml(*COMMANDS["check-grads"], "--json").out)
    changes: tuple[dict[str, object], ...] = (
        {"extra": 1},
        {"passed": "yes"},
        {"tasks": 1.5},
        {"schema": "mamlcli.check-grads/2"},
        {"info": {}},
        {"checks": [fields["checks"][0] | {"tolerance": math.inf}]},
    )
    for wrong in changes:
        with pytest.raises(ValidationError):
            MODELS["check-grads"].model_validate_json(json.dumps(fields | wrong))
