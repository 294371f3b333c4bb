"""The plan of the house: who may import whom, who may print, and who knows whose name."""

import ast
import re
import sys
from pathlib import Path

import mamlcli
from mamlcli.registry import CHOICES, Entry, entries
from tests.conftest import ROOT

PACKAGE = Path(mamlcli.__file__).parent
FILES = [path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py"]
# The rooms of the plan in CONTRIBUTING, from the ground up: a room imports only from rooms before it, and from itself.
PLAN = re.findall(r"^\| `([\w]+)(?:/|\.py)` \|", (ROOT / "CONTRIBUTING.md").read_text("utf-8"), re.MULTILINE)
# It joins what others define, so that it knows all of them.
JOINT = "registry.py"
# Names of families that are words for something else as well: a schedule, and what follows a hidden layer.
OTHER_MEANINGS = {
    "linear": ("config/experiment.py", "training.py"),
    "tanh": (
        *("models/mlp.py", "models/layers.py", "memory/meta_step.py", "proofs/reference.py"),
        "compute/fused/library.py",
    ),
}


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path, *, when_loaded: bool = False) -> list[str]:
    """Modules of the package that a file imports: all of them, or those that are imported when it is loaded."""
    tree = ast.parse(path.read_text("utf-8"))
    lazy = (
        {id(node) for scope in ast.walk(tree) if _is_lazy(scope) for node in ast.walk(scope)} if when_loaded else set()
    )
    modules = []
    for node in ast.walk(tree):
        if id(node) in lazy:
            continue
        if isinstance(node, ast.ImportFrom):
            modules.append(node.module or "")
        elif isinstance(node, ast.Import):
            modules += [alias.name for alias in node.names]
    return modules


def _is_lazy(node: ast.AST) -> bool:
    """Whether what is inside is not run when the file is loaded."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
        return True
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def home(entry: Entry) -> Path:
    """The file of a method, a family or a model."""
    return Path(str(sys.modules[entry.config.__module__].__file__))


def own(modules: list[str]) -> list[str]:
    return [module for module in modules if module.startswith("mamlcli.")]


def test_the_plan_in_contributing_names_every_room_once() -> None:
    assert len(PLAN) == len(set(PLAN))
    assert {room_of(path) for path in FILES} == set(PLAN) | {"__main__"}


def test_imports_point_to_the_ground() -> None:
    wrong = [
        f"{path.relative_to(PACKAGE)} imports {module}"
        for path in FILES
        if path.name != "__main__.py"
        for module in own(imports(path))
        if PLAN.index(module.split(".")[1]) > PLAN.index(room_of(path))
    ]
    assert not wrong


def test_only_the_command_line_imports_a_command() -> None:
    commands = {path.stem for path in (PACKAGE / "commands").glob("*.py")} & {
        "train",
        "evaluate",
        "plot",
        "predict",
        "report",
        "watch",
        "compare",
        "compare_orders",
        "sweep",
        "check_grads",
        "reproduce",
        "configs",
        "runs",
        "doctor",
    }
    wrong = [
        f"{path.relative_to(PACKAGE)} imports {module}"
        for path in FILES
        if room_of(path) not in ("cli", "__main__")
        for module in own(imports(path))
        if module in {f"mamlcli.commands.{name}" for name in commands}
    ]
    assert not wrong


def test_what_a_config_needs_loads_no_torch() -> None:
    torch_free = ["section.py", "registry.py", "plugins.py", "errors.py"]
    torch_free += [str(path.relative_to(PACKAGE)) for path in (PACKAGE / "config").glob("*.py")]
    torch_free += [str(home(entry).relative_to(PACKAGE)) for kind in CHOICES for entry in entries(kind).values()]
    for name in torch_free:
        loaded = imports(PACKAGE / name, when_loaded=True)
        assert not {"torch", "numpy", "matplotlib"} & {module.split(".")[0] for module in loaded}, name


def test_no_file_but_its_own_knows_the_name_of_a_method_a_family_or_a_model() -> None:
    # A comparison with a name, or a look-up of one: `name == "chain"`, `{"joint": ...}`, `case "sinusoid":`.
    names = {name: home(entry) for kind in CHOICES for name, entry in entries(kind).items()}
    wrong = []
    for path in FILES:
        if path.name == JOINT:
            continue
        place = path.relative_to(PACKAGE).as_posix()
        foreign = {name for name, file in names.items() if file != path and place not in OTHER_MEANINGS.get(name, ())}
        constants = [node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Constant)]
        wrong += [f"{path.relative_to(PACKAGE)}:{node.lineno}" for node in constants if node.value in foreign]
    assert not wrong


def test_no_file_but_its_own_reads_a_key_of_a_method_a_family_or_a_model() -> None:
    common = {kind: set(choice.base.model_fields) for kind, choice in CHOICES.items()}
    wrong = []
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            match node:
                case ast.Attribute(ast.Attribute(owner, kind), key) if kind in common and _is_config(owner):
                    if key in _keys(kind) - common[kind]:
                        wrong.append(f"{path.relative_to(PACKAGE)}:{node.lineno} reads {kind}.{key}")
    assert not wrong


def _is_config(node: ast.expr) -> bool:
    name = node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""
    return name in ("config", "own", "tested", "trained", "before", "after")


def _keys(kind: str) -> set[str]:
    return {key for entry in entries(kind).values() for key in entry.config.model_fields}  # type: ignore[arg-type]


def test_only_the_command_line_prints() -> None:
    for path in FILES:
        calls = [node.func for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Call)]
        prints = any(isinstance(function, ast.Name) and function.id == "print" for function in calls)
        assert room_of(path) == "cli" or not prints, path
