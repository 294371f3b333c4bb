"""A run in TensorBoard: one file of events."""

import os
import socket
import struct
import time
from itertools import count
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.plugins.hparams.summary_v2 import hparams_pb
from tensorboard.plugins.text.metadata import create_summary_metadata
from tensorboard.summary.writer.record_writer import RecordWriter

from mamlcli.trackers.destination import About, Place

_NAME = "events.out.tfevents."
_VERSION = "brain.Event:2"


class TensorBoard:
    """Writes each event at once; TensorBoard's own writers do that in a thread, which dies aloud on a full disk."""

    def __init__(self, about: About) -> None:
        about.folder.mkdir(parents=True, exist_ok=True)
        for before in about.folder.glob(f"{_NAME}*"):
            before.unlink()
        self.writer = RecordWriter(_new_file(about.folder).open("wb"))
        self._add(Event(wall_time=about.started, file_version=_VERSION))
        # One that is open and has read a file of before forgets it here.
        self._add(Event(wall_time=about.started, step=0, session_log=SessionLog(status=SessionLog.START)))
        self._summary(hparams_pb(about.config, start_time_secs=about.started), 0, about.started)
        self._summary(Summary(value=[_text("config", f"```yaml\n{about.yaml}```")]), 0, about.started)
        self.writer.flush()

    def scalars(self, place: Place, values: dict[str, float]) -> None:
        """Add a point to the chart of each name."""
        points = [Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        self._summary(Summary(value=points), place.step, place.time)
        self.writer.flush()

    def figure(self, place: Place, path: Path) -> None:
        """Add a PNG file, as it is."""
        png = path.read_bytes()
        width, height = struct.unpack(">II", png[16:24])  # in the header, which each PNG begins with
        image = Summary.Image(encoded_image_string=png, width=width, height=height, colorspace=4)
        self._summary(Summary(value=[Summary.Value(tag=f"figures/{path.stem}", image=image)]), place.step, place.time)
        self.writer.flush()

    def close(self, *, status: str) -> None:  # noqa: ARG002
        """Close the file; TensorBoard knows no end of a run."""
        self.writer.close()

    def _summary(self, summary: Any, step: int, wall_time: float) -> None:
        self._add(Event(wall_time=wall_time, step=step, summary=summary))

    def _add(self, event: Any) -> None:
        self.writer.write(event.SerializeToString())


def _new_file(folder: Path) -> Path:
    """A name that sorts behind those of before, which TensorBoard goes on from."""
    names = (f"{_NAME}{int(time.time()):010}.{socket.gethostname()}.{os.getpid()}.{number}" for number in count())
    return next(folder / name for name in names if not (folder / name).exists())


def _text(name: str, markdown: str) -> Any:
    shape = TensorShapeProto(dim=[TensorShapeProto.Dim(size=1)])
    tensor = TensorProto(dtype="DT_STRING", string_val=[markdown.encode()], tensor_shape=shape)
    return Summary.Value(tag=name, metadata=create_summary_metadata(name, ""), tensor=tensor)
