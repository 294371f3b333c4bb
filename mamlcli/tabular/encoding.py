"""Bytes that are no UTF-8 text with rows: what they seem to be, and how to convert them."""

import codecs

from mamlcli.tabular.problems import Problem, quoted

_KINDS = (
    (b"\x1f\x8b", "it is packed with gzip", "let its name end in .csv.gz"),
    (b"PAR1", "it is a Parquet file", "let its name end in .parquet"),
    (b"PK\x03\x04", "it is a workbook or a zip archive", "save the sheet as CSV in UTF-8"),
    (b"\xd0\xcf\x11\xe0", "it is an old workbook", "save the sheet as CSV in UTF-8"),
    (b"\x89HDF", "it is an HDF5 file", "write the table as CSV or Parquet"),
)
# The longer ones first: that of UTF-32 begins like that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)


def not_a_table(start: bytes, *, packed: bool) -> Problem | None:
    """What a file is by its first bytes, if that is no text in UTF-8.

    Args:
        start: Its first bytes, unpacked.
        packed: Whether they were packed.
    """
    for mark, says, remedy in _KINDS:
        if start.startswith(mark):
            return Problem(f"{'unpacked, ' if packed else ''}{says}, not a text file", remedy=remedy)
    for mark, name in _MARKS:
        if start.startswith(mark):
            return _encoded(name, name)
    # Without a mark: of letters of our alphabets one byte of two is 0.
    head = start[:1024]
    for skipped, name in ((1, "UTF-16LE"), (0, "UTF-16BE")):
        if len(head) >= 4 and not any(head[skipped::2]) and all(head[1 - skipped :: 2]):
            return _encoded("UTF-16", name)
    return None


def _encoded(shown: str, name: str, line: int | None = None, column: int | None = None, what: str = "") -> Problem:
    says = f"it is not UTF-8 but seems to be {shown}{what}"
    return Problem(says, line, column, f"save it as UTF-8, like iconv -f {name} -t UTF-8 OLD.csv > NEW.csv")


def first_fault(raw: bytes, line: int) -> tuple[int, Problem]:
    """The first line of a piece of a file that is not text in UTF-8, or has a NUL byte.

    Args:
        raw: Whole lines.
        line: The number of the first of them.

    Returns:
        Where that line starts in `raw`; what is wrong with it.
    """
    at = raw.find(b"\0")
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError as error:
        at = error.start if at < 0 else min(at, error.start)
    start = raw.rfind(b"\n", 0, at) + 1
    line += raw.count(b"\n", 0, at)
    if raw[at] == 0:
        return start, Problem("a NUL byte, which no text has", line, remedy="write the file again as text in UTF-8")
    # Between these bytes Latin-1 has marks for terminals, and Windows has letters.
    windows = any(0x80 <= byte < 0xA0 for byte in raw)
    shown, name = ("Windows-1252", "CP1252") if windows else ("Latin-1", "LATIN1")
    word = raw[max(start, at - 12) : at + 12].split(b"\n")[0].decode(name, "replace")
    return start, _encoded(shown, name, line, what=f", which reads here {quoted(word.strip())}")
