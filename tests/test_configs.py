"""`maml configs`, and how the other commands find an experiment by name: in an empty folder, as from a wheel."""

import json
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlparse

import pytest
import yaml
from jsonschema import Draft202012Validator

from mamlcli import load_config, parse_config
from mamlcli.config.file import load_published
from mamlcli.config.reference import row_schema
from mamlcli.config.shipped import FOLDER, SCHEMA_LINE, described, shipped_configs, shipped_rows
from mamlcli.config.yaml_text import read_yaml
from mamlcli.schemas import shipped_schemas
from tests.conftest import TINY, Maml
from tests.test_extending import FILES as PLUGINS
from tests.test_extending import maml as maml_alone

FILES = [*shipped_configs().values(), *shipped_rows().values()]
ROW = """
title: nobody's
source: nobody
ambiguous: everything
published: [{shots: 3, inner_steps: 0}]
config: {name: own, evaluation: {shots: [3]}}
"""


def schema_of(file: Path) -> Path:
    """Where the first line of a file says that its schema is, as an editor finds it."""
    named = file.read_text("utf-8").splitlines()[0].removeprefix(SCHEMA_LINE)
    return Path(unquote(urlparse(named).path)) if named.startswith("file:") else file.parent / named


def test_the_schemas_that_are_shipped_are_those_of_the_code() -> None:
    shipped = {path.name: path.read_text("utf-8") for path in (FOLDER / "schemas").iterdir()}
    assert shipped == shipped_schemas(), "write mamlcli.schemas.shipped_schemas() to mamlcli/configs/schemas/"


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.stem)
def test_every_shipped_file_opens_with_its_schema_which_accepts_it(file: Path) -> None:
    schema = json.loads(schema_of(file).read_text("utf-8"))
    assert schema["$id"] == ("mamlcli.reproduce-row/1" if file.parent.name == "reproduce" else "mamlcli.config/1")
    assert not list(Draft202012Validator(schema).iter_errors(read_yaml(file.read_text("utf-8"), file.name).data))


@pytest.mark.parametrize(
    "wrong", [{"titel": "x"}, {"published": 5}, {"config": {"name": "x", "outer": {"stesp": 1}}}, {"start": "begun"}]
)
def test_the_schema_of_a_row_refuses_what_the_command_refuses(wrong: dict[str, object]) -> None:
    assert list(Draft202012Validator(row_schema()).iter_errors(yaml.safe_load(ROW) | wrong))


def test_the_list_says_of_every_config_what_it_is_and_how_long_it_takes(maml: Maml) -> None:
    out = maml("configs", "ls").out
    for one in described():
        assert re.search(rf"^{one.name} +{re.escape(one.summary)} +{one.time}$", out, re.MULTILINE)
        assert re.fullmatch(r"[\d a-z]+ (s|min) (on two cores|of one core)", one.time)
    assert max(map(len, out.splitlines())) <= 80
    assert out.index("quickstart") < out.index("smoke") < out.index("chain")
    assert set(json.loads(maml("configs", "ls", "--json").out)["configs"][0]) == set(described()[0]._fields)


def test_what_is_shown_is_the_experiment_with_every_key_and_reads_back_to_it(maml: Maml) -> None:
    shown = parse_config(maml("configs", "show", "smoke", "--set", "outer.lr=1e-2").out)
    assert shown == load_config("smoke", ["outer.lr=0.01"])
    assert parse_config(maml("configs", "show", "zero").out) == load_published(shipped_rows()["zero"]).config
    assert parse_config(maml("configs", "show", "tiny.yaml").out) == parse_config(TINY)
    wrong = maml("configs", "show", "zero", "--set", "outer.stesp=1")
    assert (wrong.code, wrong.out) == (2, "")
    assert "--set outer.stesp=1: outer.stesp: unknown key; did you mean 'outer.steps'?" in wrong.err


@pytest.mark.parametrize("name", shipped_configs())
def test_a_copy_is_the_same_experiment_and_its_schema_and_data_are_found_where_it_lands(
    maml: Maml, folder: Path, name: str
) -> None:
    (folder / "my own").mkdir()
    outcome = maml("configs", "cp", name, "my own")
    copy = folder / "my own" / f"{name}.yaml"
    assert (outcome.code, load_config(copy)) == (0, load_config(name))
    assert schema_of(copy).samefile(schema_of(shipped_configs()[name]))
    command = outcome.out.splitlines()[-1].removeprefix("next: maml ")
    assert copy.read_text("utf-8").splitlines()[1] == f"# maml {command}"
    assert command.endswith(f" --config 'my own/{name}.yaml'")
    assert ("its data stay where they are" in outcome.out) == (name == "elnino")


def test_a_copied_row_runs_from_its_file_and_a_name_without_an_ending_gets_one(maml: Maml) -> None:
    assert "next: maml reproduce mine.yaml" in maml("configs", "cp", "zero", "mine").out
    assert load_published("mine.yaml") == load_published(shipped_rows()["zero"])


def test_a_copy_replaces_nothing(maml: Maml, folder: Path) -> None:
    outcome = maml("configs", "cp", "smoke", "tiny.yaml")
    assert (outcome.code, outcome.err) == (3, "maml: tiny.yaml exists already; name another file\n")
    assert (folder / "tiny.yaml").read_text() == TINY
    nowhere = maml("configs", "cp", "smoke", "no/where.yaml")
    assert (nowhere.code, "there is no folder no" in nowhere.err) == (3, True)
    unknown = maml("configs", "cp", "smok", "x.yaml")
    assert (unknown.code, "did you mean 'smoke'?" in unknown.err) == (2, True)
    assert [path.name for path in folder.iterdir()] == ["tiny.yaml"]


def test_all_files_are_checked_and_all_that_is_wrong_is_said(maml: Maml, folder: Path) -> None:
    (folder / "row.yaml").write_text(ROW)
    (folder / "wrong.yaml").write_text("name: x\nouter: {stesp: 3, lr: yes}")
    (folder / "data.yaml").write_text("name: x\ntasks: {family: table, path: no.csv, task: t, inputs: a, target: b}")
    outcome = maml("configs", "validate", "tiny.yaml", "row.yaml", "wrong.yaml", "data.yaml", "none.yaml", "elnino")
    assert outcome.code == 2
    assert outcome.out.splitlines() == [
        "tiny.yaml: ok, a config",
        "row.yaml: ok, a row",
        "wrong.yaml: 2 problems:",
        "  wrong.yaml:2:23: outer.lr: must be a valid number, got the text 'yes'",
        "  wrong.yaml:2:9: outer.stesp: unknown key; did you mean 'outer.steps'?",
        "data.yaml: 1 problem:",
        f"  data.yaml: tasks.path: there is no such file: {folder / 'no.csv'}",
        "none.yaml: 1 problem:",
        "  none.yaml: cannot read the config: No such file or directory; maml configs ls lists what comes along",
        "elnino: ok, a config",
    ]
    found = json.loads(maml("configs", "validate", "tiny.yaml", "wrong.yaml", "--json").out)
    assert (found["passed"], [file["passed"] for file in found["files"]]) == (False, [True, False])
    assert maml("configs", "validate", "tiny.yaml", "row.yaml").code == 0


def test_the_schema_is_that_of_what_plugins_bring_too(maml: Maml, folder: Path) -> None:
    assert json.loads(maml("configs", "schema").out) == json.loads(shipped_schemas()["config-1.json"])
    assert json.loads(maml("configs", "schema", "--rows").out) == row_schema()
    (folder / "decays.py").write_text(PLUGINS["decays.py"])
    with_own = json.loads(maml_alone(folder, "configs", "schema", "--plugin", "decays.py").stdout)
    assert {"$ref": "#/$defs/tasks.decay"} in with_own["properties"]["tasks"]["oneOf"]


def test_an_experiment_that_comes_along_trains_by_its_name_in_an_empty_folder(maml: Maml, folder: Path) -> None:
    (folder / "smoke").mkdir()  # as after --out smoke
    short = ("--set", "outer.steps=2", "--device", "cpu", "-q")
    assert maml("train", "smoke", "--out", "by-name", *short).code == 0
    assert maml("train", "--config", "smoke", "--out", "by-option", *short).code == 0
    assert (folder / "by-name/config.yaml").read_text() == (folder / "by-option/config.yaml").read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["train"], "no experiment is named; try: maml train quickstart (maml configs ls lists"),
        (["check-grads"], "try: maml check-grads quickstart"),
        (["train", "tiny.yaml"], "tiny.yaml is a file, which goes to --config: maml train --config tiny.yaml\n"),
        (["compare-orders", "a b.yaml"], "maml compare-orders --config 'a b.yaml'\n"),
        (["train", "configs/smoke.yaml"], "no file configs/smoke.yaml; the config smoke comes along: maml train smoke"),
        (["train", "--config", "configs/smoke.yaml"], "did you mean --config smoke, which comes along? maml configs"),
        (["train", "--config", "mine.yaml"], "No such file or directory; maml configs ls lists what comes along"),
        (["train", "quikstart"], "no config is named quikstart; did you mean 'quickstart'? maml configs ls"),
        (["train", "nothing-like-it"], "no config is named nothing-like-it; maml configs ls lists what there is"),
        (["train", "smoke", "-c", "tiny.yaml"], "smoke and --config tiny.yaml are two experiments: name one of them"),
        (["train", "zero"], "zero is a row of published results, not a config; to run it: maml reproduce zero\n"),
        (["train", "-c", "zero"], "it is a row of published results: to run it: maml reproduce zero\n"),
        (["train", "row.yaml"], "row.yaml is a row of published results, not a config; to run it: maml reproduce row."),
        (["check-grads", "-c", "row.yaml"], "row.yaml: a row of published results, not a config; to run it: maml rep"),
        (["compare-orders", "-c", str(shipped_rows()["zero"])], "not a config; to run it: maml reproduce zero\n"),
        (["reproduce", "smoke"], "no row is named 'smoke'; it is a config: to run it: maml train smoke\n"),
        (["reproduce", "tiny.yaml"], "a config, not a row of published results; to run it: maml train --config tiny."),
        (["reproduce", "jiont"], "no row is named 'jiont'; did you mean 'joint'? maml reproduce --list lists"),
        (["train", "smoke", "--device", "gpu"], "--device gpu: must be one of auto, cpu, cuda, mps; did you mean 'cud"),
        (["train", "smoke", "--set", "device=metal"], "cpu, cuda, mps, got the text 'metal'; did you mean 'mps'?"),
        (["train", "smoke", "--set", "device=CPU"], "did you mean 'cpu'?"),
    ],
)  # fmt: skip
def test_what_is_named_wrong_is_answered_with_what_to_type(
    maml: Maml, folder: Path, arguments: list[str], said: str
) -> None:
    (folder / "row.yaml").write_text(ROW)
    (folder / "a b.yaml").write_text(TINY)
    outcome = maml(*arguments)
    assert (outcome.code, outcome.out) == (2, "")
    assert said in outcome.err


def test_listing_showing_copying_and_checking_load_no_torch(folder: Path) -> None:
    code = (
        "import sys; from mamlcli.cli import main\n"
        "for words in ('ls', 'show smoke', 'cp smoke x.yaml', 'validate x.yaml', 'schema'):\n"
        "    sys.argv = ['maml', 'configs', *words.split()]\n"
        "    try: main()\n"
        "    except SystemExit as error: assert not error.code, words\n"
        "assert not {'torch', 'numpy', 'matplotlib'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
