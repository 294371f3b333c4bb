"""Checkpoints that are damaged, foreign or hostile: named, refused, never run, never deleted."""

import hashlib
import io
import os
import pickle
import re
import shutil
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import mamlcli
from mamlcli import Config
from mamlcli.errors import CheckpointError
from mamlcli.runs.archive import check_archive
from mamlcli.runs.checkpoints import list_checkpoints, load_checkpoint
from tests.conftest import Maml
from tests.same_run import assert_same_run, metrics
from tests.test_runs import Listener

Content = dict[str, Any]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.conftest import TINY

    return mamlcli.train(mamlcli.parse_config(TINY), out=tmp_path_factory.mktemp("finished") / "run").run


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of a finished run, to damage."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


def newest(run: Path) -> Path:
    return list_checkpoints(run / "checkpoints")[0]


def seal(path: Path, raw: bytes) -> Path:
    """Write a checkpoint with a hash that fits, as a hostile sender would."""
    path.write_bytes(raw)
    path.with_name(path.name + ".sha256").write_text(f"{hashlib.sha256(raw).hexdigest()}  {path.name}\n")
    return path


def test_a_checkpoint_cut_at_any_tenth_or_with_any_byte_flipped_is_damaged(run: Path) -> None:
    path = newest(run)
    whole = path.read_bytes()
    cuts = [whole[: len(whole) * tenth // 10] for tenth in range(10)]
    flips = [
        whole[:place] + bytes([whole[place] ^ (1 << place % 8)]) + whole[place + 1 :]
        for place in [*range(0, len(whole), 97), len(whole) - 1]
    ]
    for raw in [*cuts, *flips, whole + b"\0"]:
        path.write_bytes(raw)
        with pytest.raises(CheckpointError, match=r"step-12\.pt: damaged"):
            load_checkpoint(path)


def test_archives_cut_or_flipped_behind_a_hash_that_fits_load_or_are_refused(run: Path) -> None:
    whole = newest(run).read_bytes()
    places = range(0, len(whole), 13)
    variants = [whole[: len(whole) * tenth // 10] for tenth in range(10)]
    variants += [whole[:place] + bytes([whole[place] ^ 0x5A]) + whole[place + 1 :] for place in places]
    for raw in variants:
        try:
            load_checkpoint(seal(newest(run), raw))
        except CheckpointError:
            continue


@pytest.mark.parametrize("tenth", range(10))
def test_the_one_before_is_used_and_the_damaged_one_is_kept(
    finished: Path, run: Path, tenth: int, tiny: Config
) -> None:
    path = newest(run)
    cut = path.read_bytes()[: path.stat().st_size * tenth // 10]
    path.write_bytes(cut)
    listener = Listener()
    assert_same_run(finished, mamlcli.train(tiny, out=run, resume=True, reporter=listener).run)
    assert any("step-12.pt: damaged" in note for note in listener.notes)
    assert any("continuing" in note and "at step 10" in note for note in listener.notes)
    assert (run / "checkpoints" / "step-12.pt.unusable").read_bytes() == cut


def test_with_none_left_the_command_exits_4_and_touches_nothing(run: Path, maml: Maml) -> None:
    for path in list_checkpoints(run / "checkpoints"):
        path.write_bytes(path.read_bytes()[:-1])
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    outcome = maml("train", "-c", "tiny.yaml", "--out", run, "--resume", "auto")
    assert outcome.code == 4
    assert "none of its 3 checkpoints can be used" in outcome.err
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    assert maml("eval", run).code == 4


def test_only_the_newest_are_kept_and_each_with_its_hash(tiny: Config, tmp_path: Path) -> None:
    often = tiny.model_copy(
        update={"run": tiny.run.model_copy(update={"checkpoint_every_steps": 2, "keep_checkpoints": 2})}
    )
    checkpoints = mamlcli.train(often, out=tmp_path / "run").run / "checkpoints"
    assert sorted(path.name for path in checkpoints.iterdir()) == [
        f"step-{step}.pt{suffix}" for step in (10, 12) for suffix in ("", ".sha256")
    ]


def test_what_was_unusable_is_not_deleted_when_newer_ones_are_kept(run: Path, tiny: Config) -> None:
    damaged = run / "checkpoints" / "step-12.pt"
    damaged.write_bytes(b"damaged")
    longer = tiny.model_copy(update={"outer": tiny.outer.model_copy(update={"steps": 40})})
    mamlcli.train(longer, out=run, resume=True)
    names = {path.name for path in (run / "checkpoints").iterdir()}
    assert {"step-12.pt.unusable", "step-12.pt.unusable.sha256"} < names
    assert [path.name for path in list_checkpoints(run / "checkpoints")] == ["step-40.pt", "step-35.pt", "step-30.pt"]


def test_leftovers_of_a_crash_are_ignored(finished: Path, run: Path, tiny: Config) -> None:
    (run / "checkpoints" / ".step-99.pt.abc.tmp").write_bytes(b"half")
    (run / "checkpoints" / "step-99.pt.sha256").write_text("of a file that was never renamed")
    assert_same_run(finished, mamlcli.train(tiny, out=run, resume=True).run)


class _Payload:
    def __init__(self, marker: str) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (self.marker,)


def archive(content: bytes, entries: dict[str, bytes] | None = None, compression: int = zipfile.ZIP_STORED) -> bytes:
    """A zip like torch.save's around a pickle."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as file:
        for name, value in ({"data.pkl": content, "version": b"3\n", "byteorder": b"little"} | (entries or {})).items():
            file.writestr(f"archive/{name}", value)
    return buffer.getvalue()


def saved(content: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize("where", ["whole", "params", "config", "optimizer", "legacy", "bare"])
def test_a_payload_is_refused_and_not_executed(run: Path, tmp_path: Path, maml: Maml, where: str) -> None:
    marker = tmp_path / "executed"
    payload: Any = _Payload(str(marker))
    content = torch.load(newest(run), weights_only=True)
    if where in content:
        payload = content | {where: payload}
    raw = pickle.dumps(payload) if where == "bare" else saved(payload)
    if where == "legacy":
        buffer = io.BytesIO()
        torch.save(payload, buffer, _use_new_zipfile_serialization=False)
        raw = buffer.getvalue()
    outcome = maml("eval", seal(tmp_path / "stranger.pt", raw))
    assert outcome.code == 4
    assert "not a checkpoint that can be read" in outcome.err
    assert not marker.exists()
    if where == "bare":
        pickle.loads(raw)
    else:
        torch.load(io.BytesIO(raw), weights_only=False)  # the payload is a real one
    assert marker.exists()


def test_a_zip_bomb_is_refused_without_being_unpacked(tmp_path: Path) -> None:
    zeros = bytes(200 * 2**20)
    bombs = {
        "the tensors": archive(b"\x80\x02}.", {"data/0": zeros}, zipfile.ZIP_DEFLATED),
        "the pickle": archive(zeros, compression=zipfile.ZIP_DEFLATED),
    }
    for raw in bombs.values():
        assert len(raw) < 2**20
        path = seal(tmp_path / "bomb.pt", raw)
        tracemalloc.start()
        with pytest.raises(CheckpointError, match="compressed"):
            load_checkpoint(path)
        assert tracemalloc.get_traced_memory()[1] < 10 * 2**20
        tracemalloc.stop()


def test_entries_that_share_their_bytes_are_refused() -> None:
    raw = bytearray(saved({"a": torch.zeros(1000), "b": torch.zeros(1000)}))
    entry = raw.rindex(b"PK\x01\x02", 0, raw.rindex(b"archive/data/1"))
    first = raw.rindex(b"PK\x01\x02", 0, raw.rindex(b"archive/data/0"))
    assert first < entry
    for field in (20, 24):  # both lengths of an entry grow
        raw[entry + field : entry + field + 4] = (3000).to_bytes(4, "little")
    with pytest.raises(ValueError, match=r"overlap|as long as it says"):
        check_archive(bytes(raw))


def tensor_pickle(length: int, size: tuple[int, ...], stride: tuple[int, ...]) -> bytes:
    """A pickle of one tensor that says what it likes of its size."""

    class Tensor:
        def __reduce__(self) -> tuple[object, tuple[object, ...]]:
            storage = ("storage", torch.FloatStorage, "0", "cpu", length)
            return torch._utils._rebuild_tensor_v2, (Key(storage), 0, size, stride, False, None)

    class Key(tuple[object, ...]):
        pass

    class Pickler(pickle._Pickler):
        def persistent_id(self, obj: object) -> object:
            return tuple(obj) if isinstance(obj, Key) and len(obj) == 5 else None

    buffer = io.BytesIO()
    # A key is built from its items, so that the pickler sees the type.
    Key.__new__ = lambda cls, items: tuple.__new__(cls, items)  # type: ignore[method-assign,assignment,misc]
    Pickler(buffer, 2).dump({"w": Tensor()})
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("length", "size", "stride", "reason"),
    [
        (4, (2, 2), (2, 1), None),
        (10**12, (2, 2), (2, 1), "not as long as it says"),
        (4, (10**12,), (0,), "larger than the memory behind it"),
        (4, (2, 2), (3, 1), "larger than the memory behind it"),
        (4, (2, -2), (2, 1), "damaged"),
    ],
)
def test_a_tensor_cannot_be_larger_than_its_bytes(
    length: int, size: tuple[int, ...], stride: tuple[int, ...], reason: str | None
) -> None:
    raw = archive(tensor_pickle(length, size, stride), {"data/0": bytes(16)})
    if reason is None:
        check_archive(raw)
    else:
        with pytest.raises(ValueError, match=reason):
            check_archive(raw)


def test_a_pickle_that_asks_for_memory_is_refused() -> None:
    for content, reason in (
        (b"\x80\x02cbuiltins\nbytearray\nJ\x00\x00\x00\x7f\x85R.", "builtins.bytearray"),
        (b"\x80\x02}r\xff\xff\xff\x7f.", "damaged"),  # a place of 2^31 in the memo
        (b"\x80\x04\x8e\xff\xff\xff\xff\xff\x00\x00\x00.", "more than tensors|expected"),
    ):
        with pytest.raises(ValueError, match=reason):
            check_archive(archive(content))


def nan_in(name: str) -> Callable[[Content], None]:
    def change(content: Content) -> None:
        state = content["optimizer"]["state"][0]
        tensor = next(iter(content["params"].values())) if name == "params" else state[name]
        tensor[(0,) * tensor.ndim] = float("inf" if name == "exp_avg_sq" else "nan")

    return change


def rename(content: Content) -> None:
    content["params"]["stranger"] = content["params"].pop("layer0.bias")


def other_dtype(content: Content) -> None:
    content["params"] = {name: theta.double() for name, theta in content["params"].items()}


def other_shape(content: Content) -> None:
    content["params"] = {name: theta[:, :1] for name, theta in content["params"].items()}


def other_moment(content: Content) -> None:
    content["optimizer"]["state"][0]["exp_avg"] = torch.zeros(2, 3)


def without_moment(content: Content) -> None:
    del content["optimizer"]["state"][0]["exp_avg"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (rename, "of another model: .*stranger"),
        (other_shape, "of another model"),
        (other_dtype, "of another model: .*float64 in the file"),
        (lambda content: content.update(params=3), "of another model"),
        (lambda content: content["params"].update(extra="text"), "of another model"),
        (nan_in("params"), "not finite: layer0"),
        (nan_in("exp_avg"), "optimiser's state does not fit: not finite: exp_avg"),
        (nan_in("exp_avg_sq"), "optimiser's state does not fit: not finite: exp_avg_sq"),
        (other_moment, "optimiser's state does not fit: .*exp_avg"),
        (without_moment, "optimiser's state does not fit: .*exp_avg: missing"),
        (lambda content: content.update(optimizer=[]), "optimiser's state does not fit"),
        (lambda content: content["optimizer"].update(state={7: {}}), "optimiser's state does not fit"),
        (lambda content: content["optimizer"]["state"][0]["step"].fill_(3), "counted 3 steps of 12"),
        (lambda content: content.update(step=-1), "its step is -1"),
        (lambda content: content.update(step=10**6), "its step is 1000000"),
        (lambda content: content.update(step=True), "its step is True"),
        (lambda content: content.update(step="12"), "its step is 12"),
        (lambda content: content.update(updates=[12]), "no counts per seed"),
        (lambda content: content.update(updates=[12, 13]), "no counts per seed"),
        (lambda content: content.update(updates=[12, -1]), "no counts per seed"),
        (lambda content: content.update(updates=[12, 1.5]), "no counts per seed"),
        (lambda content: content.update(updates=None), "no counts per seed"),
        (lambda content: content.update(config="name: [1"), "cannot|can use"),
        (lambda content: content.update(config=5), "can use"),
        (lambda content: content.pop("params"), "can use"),
        (lambda content: content.update(schema="else"), "not a checkpoint of mamlcli"),
    ],
)
def test_a_checkpoint_of_something_else_is_refused(
    finished: Path, run: Path, tiny: Config, change: Callable[[Content], None], reason: str
) -> None:
    content = torch.load(newest(run), weights_only=True)
    change(content)
    seal(newest(run), saved(content))
    listener = Listener()
    assert_same_run(finished, mamlcli.train(tiny, out=run, resume=True, reporter=listener).run)
    assert len([note for note in listener.notes if "not used" in note]) == 1
    assert any(re.search(reason, note) for note in listener.notes), listener.notes
    assert metrics(run) == metrics(finished)


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "nadam", "radam", "adamax", "adagrad", "rmsprop", "sgd"])
def test_the_state_of_every_optimiser_is_accepted_and_continued(tiny: Config, tmp_path: Path, optimizer: str) -> None:
    config = tiny.model_copy(update={"outer": tiny.outer.model_copy(update={"optimizer": optimizer})})
    whole = mamlcli.train(config, out=tmp_path / "whole").run
    parts = Path(shutil.copytree(whole, tmp_path / "parts"))
    newest(parts).unlink()
    assert_same_run(whole, mamlcli.train(config, out=parts, resume=True).run)


@pytest.mark.parametrize("number", [1, 2])
def test_a_checkpoint_of_an_earlier_version_is_refused_with_the_remedy(
    run: Path, tmp_path: Path, maml: Maml, number: int
) -> None:
    schema = f"mamlcli.checkpoint/{number}"
    before = torch.load(newest(run), weights_only=True) | {"schema": schema}
    outcome = maml("eval", seal(tmp_path / "old.pt", saved(before)))
    assert outcome.code == 4
    assert outcome.err == (
        f"maml: {tmp_path / 'old.pt'}: written by an earlier version of mamlcli ({schema}), whose configs have other "
        "keys; train it again, or evaluate it with the version that wrote it\n"
    )
    assert not (tmp_path / "evaluation-old").exists()
    for path in list_checkpoints(run / "checkpoints"):
        seal(path, saved(before))
    resumed = maml("train", "-c", "tiny.yaml", "--out", run, "--resume", "auto")
    assert resumed.code == 4
    assert resumed.err.count(f"written by an earlier version of mamlcli ({schema})") == 3


def test_a_stranger_cannot_make_an_evaluation_build_a_huge_model(run: Path, tmp_path: Path, maml: Maml) -> None:
    content = torch.load(newest(run), weights_only=True)
    content["config"] = content["config"].replace("hidden_sizes: [8]", "hidden_sizes: [1000000, 1000000]")
    outcome = maml("eval", seal(tmp_path / "huge.pt", saved(content)))
    assert outcome.code == 4
    assert "of another model: 50 parameters, 2000008000002 in its config" in outcome.err


def test_a_file_longer_than_any_checkpoint_of_the_run_is_not_read(run: Path, finished: Path, tiny: Config) -> None:
    with newest(run).open("r+b") as file:
        file.truncate(10 * 2**30)  # a sparse file: long, but nothing on the disk
    listener = Listener()
    assert_same_run(finished, mamlcli.train(tiny, out=run, resume=True, reporter=listener).run)
    assert any("it is longer than" in note for note in listener.notes)
