"""What a command imports before its first meta-step, or before its meta-test is over: nothing that it does not use."""

import json
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from mamlcli.optimizers import bare_step, make_optimizer
from tests.conftest import needs_compiler

# What draws, compiles, makes intervals and prints tables.
SLOW = ("matplotlib", "torch._dynamo", "torch._inductor", "sympy", "scipy", "pandas", "rich")
LISTENING = f"""
import gc, json, sys
from mamlcli.cli import main
from mamlcli.cli.progress import Progress

def hear(kind):
    def hearing(_, *said):
        assert gc.isenabled()
        with open("heard.jsonl", "a") as file:
            print(json.dumps([kind, said, [name for name in {SLOW} if name in sys.modules]]), file=file)
    return hearing

Progress.step, Progress.progress = hear("step"), hear("progress")
main()
"""


class Heard(NamedTuple):
    """What a command told its reporter, and what of `SLOW` was imported then."""

    kind: str
    said: list[object]
    imported: list[str]


def heard(folder: Path, *arguments: object) -> list[Heard]:
    """Run a command in a process of its own, and listen."""
    command = [sys.executable, "-c", LISTENING, *map(str, arguments)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = (folder / "heard.jsonl").read_text().splitlines()
    (folder / "heard.jsonl").unlink()
    return [Heard(*json.loads(line)) for line in lines]


def steps(found: list[Heard]) -> dict[object, list[str]]:
    """What was imported at each logged step."""
    return {one.said[0]: one.imported for one in found if one.kind == "step"}


def test_nothing_slow_is_imported_by_a_training_a_resumed_one_and_a_meta_test(folder: Path) -> None:
    trained = heard(folder, "train", "-c", "tiny.yaml", "--out", "run")
    assert steps(trained) == {1: [], 4: [], 8: [], 12: []}
    resumed = heard(folder, "train", "-c", "tiny.yaml", "--resume", "run", "--set", "outer.steps=16")
    assert steps(resumed) == {16: []}
    tested = [one for one in heard(folder, "eval", "run") if one.said[0] == "meta-test"]
    assert tested[-1].said[1] == tested[-1].said[2] == 2
    assert not any(one.imported for one in tested)


@needs_compiler
def test_a_training_in_the_kernel_imports_no_compiler_of_torch(folder: Path) -> None:
    trained = heard(folder, "train", "-c", "tiny.yaml", "--set", "engine.compile=on", "--out", "run")
    assert steps(trained) == {1: [], 4: [], 8: [], 12: []}
    assert json.loads((folder / "run" / "run.json").read_text())["sessions"][0]["inner_update"] == "fused"


def test_the_compiler_is_imported_by_what_asks_for_it(folder: Path) -> None:
    code = (
        "import sys, torch\n"
        "from mamlcli.postponed import postpone_compiler\n"
        "def cube(x): return x**3\n"
        "x = torch.tensor(2.0)\n"
        "postpone_compiler()\n"
        "assert torch.func.grad(torch.func.grad(cube))(x) == 12\n"
        "assert 'torch._dynamo' not in sys.modules\n"
        "assert torch._dynamo.config.recompile_limit > 0\n"
        "assert torch._dynamo is sys.modules['torch._dynamo']\n"
        "assert torch.compile(cube, backend='eager')(x) == 8\n"
        "assert torch.func.grad(torch.func.grad(cube))(x) == 12\n"
        "postpone_compiler()\n"
        "assert torch._dynamo is sys.modules['torch._dynamo']\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("kind", ["Adam", "AdamW", "NAdam", "RAdam", "Adamax", "Adagrad", "RMSprop", "SGD"])
def test_optimisers_are_those_of_torch(kind: str) -> None:
    generator = torch.Generator().manual_seed(0)
    ours, theirs = (torch.linspace(-1, 1, 6).view(2, 3).clone() for _ in range(2))
    rate = torch.tensor(0.01)
    optimizer = make_optimizer(kind.lower(), ours, rate)
    of_torch: torch.optim.Optimizer = getattr(torch.optim, kind)([theirs], lr=0.01, foreach=False)
    for step in range(6):
        ours.grad = theirs.grad = torch.randn(2, 3, generator=generator)
        bare_step(optimizer)(optimizer)
        of_torch.step()
        if step == 2:  # as a run that is continued
            saved, optimizer = optimizer.state_dict(), make_optimizer(kind.lower(), ours, rate)
            optimizer.load_state_dict(saved)
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=0)
    torch.testing.assert_close(optimizer.state_dict()["state"], of_torch.state_dict()["state"])
