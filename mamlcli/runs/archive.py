"""What a checkpoint file says of itself, read before torch believes it.

torch.load with weights_only=True runs no foreign code, but it unpacks what is compressed and takes the sizes that
the file names as they are. Here the zip directory and the pickle are read first, with stand-ins for everything they
name, so that a file can never ask for more memory than it is long.
"""

import io
import math
import pickle
import pickletools
import re
import zipfile
from collections import OrderedDict
from typing import Any

_MAX_PICKLE_BYTES = 2**20
_MAX_ENTRIES = 4096
_ENTRY = re.compile(
    r"[^/]{1,100}/(data\.pkl|data/\d{1,6}|version|byteorder|\.format_version|\.storage_alignment|\.data/serialization_id)"
)
# What torch.save writes for tensors and plain values, and nothing else.
_OPCODES = """
    PROTO MARK STOP NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 BINFLOAT BINUNICODE EMPTY_DICT SETITEM SETITEMS
    EMPTY_LIST APPEND APPENDS EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 BINPUT LONG_BINPUT BINGET LONG_BINGET GLOBAL
    BINPERSID REDUCE
"""
_ITEM_BYTES = {
    "BoolStorage": 1,
    "HalfStorage": 2,
    "BFloat16Storage": 2,
    "IntStorage": 4,
    "FloatStorage": 4,
    "LongStorage": 8,
    "DoubleStorage": 8,
}


def check_archive(raw: bytes) -> None:
    """Check that a file is what torch.save writes of tensors and plain values, each as long as it says.

    Args:
        raw: The whole file.

    Raises:
        ValueError: With the reason, if it is anything else. Nothing in the file is executed or unpacked.
    """
    if not raw.startswith(b"PK\x03\x04"):
        raise ValueError("it is no archive of torch.save")
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            sizes = _sizes(archive, len(raw))
            name = next((name for name in sizes if name.endswith("/data.pkl")), None)
            if name is None or sizes[name] > _MAX_PICKLE_BYTES:
                raise ValueError("its index of tensors is missing or too large")
            content = archive.read(name)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        raise ValueError(f"its archive is damaged ({error})") from None
    _check_opcodes(content)
    try:
        _Census(content, name.removesuffix("data.pkl"), sizes).load()
    except (pickle.UnpicklingError, TypeError, AttributeError, IndexError, KeyError, OverflowError, EOFError):
        raise ValueError("its index of tensors is damaged") from None


def _sizes(archive: zipfile.ZipFile, num_bytes: int) -> dict[str, int]:
    """Name and length of every entry, if they are stored as they are and fit into the file."""
    entries = archive.infolist()
    if len(entries) > _MAX_ENTRIES:
        raise ValueError(f"it holds {len(entries)} entries")
    for entry in entries:
        if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size or entry.flag_bits & 1:
            raise ValueError(
                f"its entry {entry.filename[:60]!r} is compressed or encrypted, which torch.save never does"
            )
        if not _ENTRY.fullmatch(entry.filename):
            raise ValueError(f"its entry {entry.filename[:60]!r} is not one of torch.save's")
    sizes = {entry.filename: entry.file_size for entry in entries}
    if len(sizes) < len(entries) or sum(sizes.values()) > num_bytes:
        raise ValueError("its entries overlap")
    return sizes


def _check_opcodes(content: bytes) -> None:
    allowed = set(_OPCODES.split())
    try:
        for opcode, argument, _ in pickletools.genops(content):
            if opcode.name not in allowed:
                raise ValueError(f"it holds more than tensors and plain values (pickle's {opcode.name})")
            if opcode.name == "LONG_BINPUT" and isinstance(argument, int) and argument > len(content):
                raise ValueError("its index of tensors is damaged")
    except UnicodeDecodeError:
        raise ValueError("its index of tensors is damaged") from None


class _Storage:
    """Stands for the memory behind tensors; counts what is taken of it."""

    def __init__(self, length: int) -> None:
        self.length = self.left = length


class _Census(pickle.Unpickler):
    """Reads the pickle with stand-ins: tensors are counted, not made, and no name is imported."""

    def __init__(self, content: bytes, prefix: str, sizes: dict[str, int]) -> None:
        super().__init__(io.BytesIO(content))
        self.prefix, self.sizes = prefix, sizes
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return self._count_tensor
        if module == "torch" and name in _ITEM_BYTES:
            return _ITEM_BYTES[name]
        raise ValueError(f"it holds more than tensors and plain values ({module}.{name})"[:200])

    def persistent_load(self, pid: Any) -> _Storage:
        _, item_bytes, key, _, length = pid
        if self.sizes[f"{self.prefix}data/{key}"] != item_bytes * length:
            raise ValueError(f"its tensor {key[:20]} is not as long as it says")
        return self.storages.setdefault(key, _Storage(length))

    @staticmethod
    def _count_tensor(storage: Any, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> None:
        """Check that a tensor lies in its storage, and that together they do not take more than there is."""
        if not isinstance(storage, _Storage) or len(size) != len(stride) or min((offset, *size, *stride)) < 0:
            raise ValueError("its index of tensors is damaged")
        storage.left -= math.prod(size)
        end = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True)) + 1
        if storage.left < 0 or (0 not in size and end > storage.length):
            raise ValueError("a tensor in it is larger than the memory behind it")
