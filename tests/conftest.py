"""Shapes in signatures are checked while tests run; fixtures that many tests use."""

from jaxtyping import install_import_hook

# The modules whose signatures carry shapes.
_SHAPED = (
    "best",
    "baselines.gaussian_process",
    "baselines.predictors",
    "baselines.ridge",
    "compute.low_rank",
    "experiment",
    "meta_test.joined",
    "meta_test.kinds",
    "meta_test.losses",
    "meta_test.ranking",
    "meta_test.validation",
    "meta_test.units",
    "methods.meta_gradients",
    "models.layers",
    "statistics",
    "tasks.averages",
    "tasks.bounds",
    "tasks.family",
    "tasks.mixture_family",
    "tasks.numbers",
    "tasks.samples",
    "tasks.stream",
    "trained.adapting",
    "training",
)
_HOOK = install_import_hook([f"mamlcli.{module}" for module in _SHAPED], "beartype.beartype")

import shutil  # noqa: E402
import sys  # noqa: E402
from collections.abc import Callable, Iterator  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import NamedTuple  # noqa: E402

import matplotlib.backends.backend_svg  # noqa: E402, F401
import pytest  # noqa: E402

from mamlcli import Config, parse_config  # noqa: E402
from mamlcli.cli import main  # noqa: E402
from mamlcli.compute.fused.library import load_library  # noqa: E402
from tests.zygote import Zygote  # noqa: E402

ROOT = Path(__file__).parent.parent

# A run of a fraction of a second: small, but with everything a run has.
TINY = """
name: tiny
seeds: [0, 1]
device: cpu
model: {hidden_sizes: [8]}
outer: {steps: 12, meta_batch_size: 3}
evaluation: {tasks: 7, query_shots: 9, shots: [3, 5], inner_steps: 3}
run: {log_every_steps: 4, checkpoint_every_steps: 5}
"""


needs_compiler = pytest.mark.skipif(
    not (shutil.which("g++") or shutil.which("clang++")), reason="torch.compile needs a C++ compiler"
)


class Outcome(NamedTuple):
    """What a command did."""

    code: int
    out: str
    err: str


Maml = Callable[..., Outcome]


@pytest.fixture
def tiny() -> Config:
    return parse_config(TINY)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory with tiny.yaml in it."""
    (tmp_path / "tiny.yaml").write_text(TINY)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def unload() -> Iterator[Callable[[], None]]:
    """Forget the kernel that is loaded; what the test loads is forgotten at its end."""
    yield load_library.cache_clear
    load_library.cache_clear()


@pytest.fixture(scope="session")
def zygote() -> Iterator[Zygote]:
    """A process that starts others, which can be killed, limited and signalled."""
    with Zygote() as started:
        yield started


@pytest.fixture
def maml(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Maml:  # noqa: ARG001
    """Run a command in this process, as the shell would; returns its exit code and output."""

    def run(*arguments: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["maml", *map(str, arguments)])
        capsys.readouterr()
        try:
            main()
            code = 0
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else int(error.code is not None)
        return Outcome(code, *capsys.readouterr())

    return run
