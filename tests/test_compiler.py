"""Which compiler builds the kernel, and what is said where there is none; one build by the extra `compiler`."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from mamlcli.compute.compiled import compiles_graphs, find_compiler
from mamlcli.compute.fused import library
from mamlcli.compute.plan import make_plan, planned_update
from mamlcli.errors import DeviceError
from mamlcli.results import Doctor
from tests.conftest import Maml
from tests.test_fused import CPU, assert_same_updates, batches, experiment, new_state, plan

ZIG = [sys.executable, "-P", "-m", "ziglang", "c++"]
# Says what it was called with, and warns.
FAKE_ZIG = """
import json, os, pathlib, sys
print("warning: argument unused during compilation, which is no error", file=sys.stderr)
pathlib.Path(sys.argv[-1]).write_text(json.dumps([sys.argv[1:], os.environ["ZIG_GLOBAL_CACHE_DIR"]]))
"""


@pytest.fixture
def bare(folder: Path, unload: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without compilers on the PATH, where nothing is loaded yet; a folder that is its PATH."""
    unload()
    path = folder / "bin"
    path.mkdir()
    monkeypatch.setenv("PATH", str(path))
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.delenv("ZIG_GLOBAL_CACHE_DIR", raising=False)
    return path


@pytest.fixture
def without_zig(bare: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Without the extra, too."""
    monkeypatch.setattr("mamlcli.compute.compiled.find_spec", lambda _: None)
    return bare


@pytest.fixture
def fake_zig(bare: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With an extra that compiles nothing; an empty cache."""
    package = folder / "packages" / "ziglang"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(FAKE_ZIG)
    monkeypatch.syspath_prepend(package.parent)
    monkeypatch.setenv("PYTHONPATH", str(package.parent))
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    assert bare.exists()
    return folder / "cache" / "mamlcli"


def add_program(folder: Path, name: str) -> str:
    (folder / name).write_text("#!/bin/sh\n")
    (folder / name).chmod(0o755)
    return str(folder / name)


def test_a_compiler_of_the_machine_comes_before_that_of_the_extra(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = [find_compiler()]
    for name in ("clang++", "g++"):
        add_program(bare, name)
        found.append(find_compiler())
    monkeypatch.setenv("CXX", f"{add_program(bare, 'own')} -O1")
    assert [*found, find_compiler()] == [ZIG, ["clang++"], ["g++"], [str(bare / "own"), "-O1"]]


def test_graphs_are_compiled_by_what_has_openmp() -> None:
    assert all(map(compiles_graphs, (["g++"], ["/opt/bin/clang++", "-O1"], ["ccache", "g++"])))
    assert not any(map(compiles_graphs, (ZIG, ["/opt/bin/zig", "c++"], ["python3", "-m", "ziglang", "c++"])))


@pytest.mark.usefixtures("fake_zig")
def test_with_the_extra_alone_the_kernel_is_compiled_and_no_graph_is() -> None:
    assert (plan().form, plan().compiled) == ("fused", True)
    graph = plan("algorithm.inner_optimizer=adam")
    assert not graph.compiled
    assert graph.reason == "torch.compile needs OpenMP, which Zig lacks; install g++ or clang++"
    with pytest.raises(DeviceError, match=r"Zig lacks; install g\+\+ or clang\+\+, or set engine.compile: off"):
        plan("algorithm.inner_optimizer=adam", "engine.compile=on")


@pytest.mark.usefixtures("without_zig")
def test_without_a_compiler_it_is_said_what_to_install_for_which() -> None:
    install = "no C++ compiler is on the PATH; install g++ or clang++"
    extra = ", or pip install 'mamlcli[compiler]'"
    assert plan().reason == install + extra
    assert plan("algorithm.inner_optimizer=adam").reason == install
    for overrides, remedy in [((), extra), (("algorithm.inner_optimizer=adam",), "")]:
        with pytest.raises(DeviceError) as caught:
            plan("engine.compile=on", *overrides)
        assert str(caught.value) == f"engine.compile is on, but {install}{remedy}, or set engine.compile: off"
    with pytest.raises(RuntimeError) as missing:
        library.built()
    assert str(missing.value) == install + extra


def test_on_windows_the_remedy_is_another_one(without_zig: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_program(without_zig, "g++")
    chosen = experiment()
    with monkeypatch.context() as patch:
        patch.setattr("sys.platform", "win32")
        reason = make_plan(chosen, CPU).reason
    assert reason == "nothing is compiled on Windows; use WSL, which is Linux"


@pytest.mark.usefixtures("without_zig")
def test_doctor_and_a_training_name_the_remedy(maml: Maml) -> None:
    outcome = maml("doctor", "-c", "tiny.yaml")
    assert outcome.code == 0
    assert "warn   compiler    none: experiments run uncompiled" in outcome.out
    remedy = "no C++ compiler is on the PATH; install g++ or clang++, or pip install 'mamlcli[compiler]'"
    assert f"no kernel: {remedy}" in " ".join(outcome.out.split())
    trained = maml("train", "-c", "tiny.yaml", "--out", "run", "--set", "outer.steps=1000")
    assert trained.code == 0
    assert f"not compiled: {remedy}" in " ".join(trained.err.split())


def test_doctor_says_that_the_extra_builds_the_kernel_alone(maml: Maml, fake_zig: Path) -> None:
    outcome = maml("doctor", "-c", "tiny.yaml", "--json")
    found = Doctor.model_validate_json(outcome.out)
    assert found.compiler is not None
    assert (found.compiler["command"], found.compiler["graphs"]) == (" ".join(ZIG), False)
    assert str(fake_zig) in str(found.kernel["problem"])  # what was built is no library
    assert "about a minute, since Zig compiles its C++ library first" in outcome.err
    said = " ".join(maml("doctor", "-c", "tiny.yaml").out.split())
    assert "builds the kernel alone: for graphs, install g++ or clang++" in said


@pytest.mark.parametrize(
    ("capability", "flags"),
    [
        ("AVX512", ["-march=x86_64_v4", "-mprefer-vector-width=512"]),
        ("AVX2", ["-march=x86_64_v3"]),
        ("DEFAULT", ["-mcpu=baseline"]),  # and not this machine's own, which Zig would take
    ],
)
def test_zig_is_asked_in_its_words_and_keeps_what_it_compiles_beside_the_kernel(
    fake_zig: Path, monkeypatch: pytest.MonkeyPatch, capability: str, flags: list[str]
) -> None:
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: capability)
    arguments, cache = json.loads(library.built().read_text())
    assert arguments[0] == "c++"
    assert [one for one in arguments if one.startswith("-m")] == flags
    assert cache == str(fake_zig / "zig")
    monkeypatch.setenv("ZIG_GLOBAL_CACHE_DIR", "/own")
    library.built().unlink()
    assert json.loads(library.built().read_text())[1] == "/own"


@pytest.mark.usefixtures("fake_zig")
def test_where_nothing_can_be_kept_it_is_said_that_each_run_builds(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "tiny.yaml"))
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    library._temporary_folder.cache_clear()
    assert "XDG_CACHE_HOME names, cannot be written to: no kernel is kept" in library.folder_problem()
    assert library.building().startswith("compiling the kernel, in each run: about a minute")
    built = library.built()
    assert json.loads(built.read_text())[1] == str(built.parent / "zig")
    library._temporary_folder.cache_clear()


@pytest.mark.usefixtures("bare")
def test_a_cache_that_zig_cannot_write_to_ends_in_a_message(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    monkeypatch.setenv("ZIG_GLOBAL_CACHE_DIR", str(folder / "tiny.yaml" / "zig"))
    chosen, heard = experiment(), list[Exception]()
    state = new_state(chosen, torch.float32)
    update = planned_update(chosen, state, make_plan(chosen, CPU), CPU, heard.append)
    update(batches(chosen, 1, torch.float32)[0])
    assert "unable to open global cache directory" in str(heard[0])
    assert state.updates.tolist() == [1, 1, 1]


@pytest.mark.usefixtures("bare")
def test_the_extra_builds_the_kernel_and_its_updates_are_those_of_torch(maml: Maml, folder: Path) -> None:
    # One test, and the user's own cache: the first build takes a minute, and the later ones nothing.
    assert find_compiler() == ZIG
    assert_same_updates(experiment("algorithm={order: second, inner_steps: 3, inner_lr: 0.05}"))
    assert_same_updates(experiment("algorithm.order=first", "outer.max_grad_norm=3", "model.hidden_sizes=[8, 6, 5]"))
    assert maml("train", "-c", "tiny.yaml", "--out", "run", "--set", "engine.compile=on").code == 0
    session = json.loads((folder / "run" / "run.json").read_text())["sessions"][0]
    assert (session["compiled"], session["inner_update"]) == (True, "fused")
    assert os.environ["PATH"] == str(folder / "bin")
