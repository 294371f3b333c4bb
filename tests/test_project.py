"""Habits of a public project: one version, one set of gates, files that say what they must."""

import re
import tomllib
from importlib.metadata import version

import yaml

from tests.conftest import ROOT

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def test_the_version_stands_in_one_place() -> None:
    stated = PYPROJECT["project"]["version"]
    assert version("mamlcli") == stated
    written = [
        path.relative_to(ROOT).as_posix()
        for pattern in ("mamlcli/**/*.py", "*.cff", "*.toml", "*.yml", "docs/*.md", ".github/**/*.yml")
        for path in ROOT.glob(pattern)
        if re.search(rf"version\W+{re.escape(stated)}\b", path.read_text("utf-8"))
    ]
    assert written == ["pyproject.toml"]


def test_before_a_commit_runs_what_ci_runs() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text("utf-8"))["repos"][0]["hooks"]
    gates = (ROOT / ".ci" / "run").read_text("utf-8").replace(".venv/bin/", "") + (ROOT / "README.md").read_text(
        "utf-8"
    )
    for hook in hooks:
        program = " ".join(hook["entry"].split()[:2])
        in_tests = program == "mkdocs build"  # tests/test_docs.py builds the site
        assert in_tests or hook["entry"].split()[0] in gates, hook["entry"]


def test_what_is_pinned_is_what_the_extras_ask_for() -> None:
    pinned = {line.partition("==")[0].lower().replace("_", "-") for line in lines_of("constraints.txt")}
    extras = PYPROJECT["project"]["optional-dependencies"]
    names = PYPROJECT["project"]["dependencies"] + [name for key, of in extras.items() if key != "bench" for name in of]
    wanted = {re.split(r"[\[<>=; ]", name)[0].lower().replace("_", "-") for name in names} - {"mamlcli"}
    assert wanted <= pinned


def lines_of(name: str) -> list[str]:
    return [line for line in (ROOT / name).read_text("utf-8").splitlines() if line and not line.startswith("#")]


def test_the_citation_names_the_software_and_the_paper() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= cited.keys()
    assert cited["license"] == PYPROJECT["project"]["license"]
    assert cited["references"][0]["year"] == 2017
