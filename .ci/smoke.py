"""Build the sdist and the wheel, install the wheel clean, and try it as a new user would: in an empty folder.

    python .ci/smoke.py [PYTHON]

The wheel is made from the sdist, so that both are whole. PYTHON is the interpreter of the fresh virtual environment;
this one if it is left out.
"""

import json
import os
import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CONSTRAINTS = ROOT / "constraints.txt"


def main() -> None:
    """Build, install, try."""
    python = sys.argv[1] if len(sys.argv) > 1 else sys.executable
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        builder = fresh(folder / "builder", sys.executable)
        run(builder, "-m", "pip", "install", "--quiet", "build")
        run(builder, "-m", "build", "--outdir", str(folder / "dist"), str(ROOT))
        (wheel,) = (folder / "dist").glob("*.whl")
        check_content(wheel)
        user = fresh(folder / "user", python)
        run(user, "-m", "pip", "install", "--quiet", "-c", str(CONSTRAINTS), str(wheel))
        empty = folder / "empty"
        empty.mkdir()
        try_it(user, empty)
    print("the wheel works")


def check_content(wheel: Path) -> None:
    """Compare what the wheel holds with what the tree does."""
    held = set(zipfile.ZipFile(wheel).namelist())
    package = ROOT / "mamlcli"
    ours = [path for path in package.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    missing = [path for path in ours if path.relative_to(ROOT).as_posix() not in held]
    assert not missing, f"not in the wheel: {missing}"


def try_it(python: Path, folder: Path) -> None:
    """Train, evaluate and reproduce from the wheel alone."""

    def maml(*arguments: str) -> dict[str, object]:
        said = run(python, "-m", "mamlcli", *arguments, "--json", cwd=folder)
        return dict(json.loads(said))

    run(python, "-m", "mamlcli", "--version", cwd=folder)
    assert len(list(maml("configs", "ls")["configs"])) > 5  # type: ignore[call-overload]
    trained = maml("train", "smoke")
    assert trained["status"] == "done"
    assert maml("eval")["results"]
    maml("train", "elnino", "--set", "outer.steps=4")
    assert maml("reproduce", "zero", "--fast")["results"]
    maml("doctor")


def fresh(path: Path, python: str) -> Path:
    """Make a virtual environment; returns its interpreter."""
    if python == sys.executable:
        venv.create(path, with_pip=True)
    else:
        run(Path(python), "-m", "venv", str(path))
    return path / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def run(python: Path, *arguments: str, cwd: Path = ROOT) -> str:
    """Run an interpreter; what it says on stdout."""
    print("+", python.name, *arguments, flush=True)
    done = subprocess.run([python, *arguments], cwd=cwd, text=True, stdout=subprocess.PIPE, check=True)
    return done.stdout


if __name__ == "__main__":
    main()
