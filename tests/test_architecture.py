"""The plan of the house: who may import whom, who may print, who may touch the disk."""

import ast
from pathlib import Path

import pytest

import mamlcli

PACKAGE = Path(mamlcli.__file__).parent

# From the ground up: a room imports only from rooms before it, and from itself.
ROOMS = [
    "errors",
    "escaping",
    "reading",
    "types",
    "statistics",
    "config",
    "changes",
    "published",
    "schemas",
    "yaml_text",
    "config_file",
    "devices",
    "interrupts",
    "measure",
    "tasks",
    "mlp",
    "cores",
    "algorithms",
    "engine",
    "training",
    "fused",
    "evaluation",
    "reference",
    "chain_reference",
    "gradient_checks",
    "runs",
    "plots",
    "training_plots",
    "chain_plots",
    "experiments",
    "cli",
]
FILES = [path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py"]


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> list[str]:
    modules = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            modules.append(node.module or "")
        elif isinstance(node, ast.Import):
            modules += [alias.name for alias in node.names]
    return [module for module in modules if module.startswith("mamlcli.")]


def test_every_room_is_in_the_plan() -> None:
    assert {room_of(path) for path in FILES} == set(ROOMS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_to_the_ground(path: Path) -> None:
    for module in imports(path):
        assert ROOMS.index(module.split(".")[1]) <= ROOMS.index(room_of(path)), f"{path} imports {module}"


def test_the_algorithm_knows_no_config_and_no_model() -> None:
    for path in (PACKAGE / "algorithms").glob("*.py"):
        assert not {"mamlcli.config.experiment", "mamlcli.models.layers"} & set(imports(path))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_the_command_line_prints(path: Path) -> None:
    calls = [node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    prints = any(isinstance(function, ast.Name) and function.id == "print" for function in calls)
    assert room_of(path) == "cli" or not prints
