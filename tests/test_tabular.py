"""Users' files of data: what is read is what was written, and what is wrong is said with its place."""

import csv
import gzip
import hashlib
import io
import os
import resource
import subprocess
import sys
from pathlib import Path
from random import Random

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mamlcli.errors import DataError, UsageError
from mamlcli.tabular import Table, read_table, table
from mamlcli.tabular.source import LONGEST_LINE
from mamlcli.tabular.values import FLOAT32_END

HEADER = "plant,x,y\n"
GOOD = HEADER + "a,1,2\nb,3,4\na,5,6\n"


def read(content: str | bytes, folder: Path, name: str = "d.csv", **asked: str) -> Table:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_table(path, ("x", "y"), **{"task": "plant", **asked})


def refused(content: str | bytes, folder: Path, name: str = "d.csv", **asked: str) -> DataError:
    with pytest.raises(DataError) as error:
        read(content, folder, name, **asked)
    assert error.value.exit_code == 2
    return error.value


def problems(content: str | bytes, folder: Path, name: str = "d.csv", **asked: str) -> list[str]:
    """What is wrong, each from the name of the file on."""
    return [problem.removeprefix(f"{folder}/") for problem in refused(content, folder, name, **asked).problems]


def test_rows_come_in_order_and_tasks_sorted(tmp_path: Path) -> None:
    content = "note,y,plant,x\n;,2,b,1\n,4,a,3\n?,6,b,5\n"
    rows = read(content, tmp_path)
    assert rows.tasks == ("a", "b")
    assert rows.task.dtype == np.int32
    assert rows.task.tolist() == [1, 0, 1]
    assert rows.numbers.tolist() == [[1, 2], [3, 4], [5, 6]]
    assert rows.lines.tolist() == [2, 3, 4]
    assert rows.labels is None
    assert (rows.sha256, rows.num_bytes) == (hashlib.sha256(content.encode()).hexdigest(), len(content))
    assert rows.place(1) == f"{tmp_path}/d.csv:3"
    assert rows.place(1, "x") == f"{tmp_path}/d.csv:3:4"


@pytest.mark.parametrize(
    "content",
    [
        GOOD.encode(),
        b"\xef\xbb\xbf" + GOOD.encode(),
        GOOD.replace("\n", "\r\n").encode(),
        GOOD.rstrip("\n").encode(),
        GOOD.replace(",", " ,  ").encode(),
        GOOD.replace("\n", "\n\n").encode(),
        GOOD.replace("\n", "\n   \r\n").encode(),
        b"\n \n" + GOOD.encode(),
        b'"plant","x", "y"\n"a","1", "2"\n"b",3,"4"\na,5,6\n',
        b"plant,x,y\na,+1,2.\nb,3e0,0.4E1\n a ,05, 6.000\n",
    ],
    ids=["plain", "mark", "crlf", "no end", "spaces", "blanks", "blank crlf", "blanks first", "quoted", "numbers"],
)
def test_what_spreadsheets_and_programs_write_is_read_alike(content: bytes, tmp_path: Path) -> None:
    rows = read(content, tmp_path)
    assert (rows.tasks, rows.task.tolist()) == (("a", "b"), [0, 1, 0])
    assert rows.numbers.tolist() == [[1, 2], [3, 4], [5, 6]]


@pytest.mark.parametrize(("delimiter", "other"), [(";", ","), ("\t", ";"), ("|", ","), (" ", ";")])
def test_fields_are_separated_by_the_delimiter(delimiter: str, other: str, tmp_path: Path) -> None:
    content = f"{GOOD}".replace(",", delimiter) + f'"{other}"{delimiter}7{delimiter}8\n'
    rows = read(content, tmp_path, delimiter=delimiter)
    assert rows.tasks[rows.task[3]] == other
    assert rows.numbers.tolist() == [[1, 2], [3, 4], [5, 6], [7, 8]]


@pytest.mark.parametrize("delimiter", ["", ";;", '"', "\n", "\r"])
def test_what_cannot_be_a_delimiter_is_refused(delimiter: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="delimiter: must be one letter"):
        read(GOOD, tmp_path, delimiter=delimiter)


def test_a_record_over_several_lines_stands_where_it_starts(tmp_path: Path) -> None:
    rows = read('note,plant,x,y\n"one\ntwo\n\nthree",a,1,2\n\nn,b,3,4\n"p\nq",a,5,6\nn,a,7,8\n', tmp_path)
    assert rows.lines.tolist() == [2, 7, 8, 10]


def test_a_packed_file_is_read_and_hashed_as_it_lies(tmp_path: Path) -> None:
    packed = gzip.compress(GOOD.encode()[:20]) + gzip.compress(GOOD.encode()[20:]) + bytes(8)
    rows = read(packed, tmp_path, "d.csv.GZ")
    assert rows.numbers.tolist() == [[1, 2], [3, 4], [5, 6]]
    assert (rows.sha256, rows.num_bytes) == (hashlib.sha256(packed).hexdigest(), len(packed))


def test_without_a_column_of_tasks_all_rows_are_of_one(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text(GOOD)
    rows = read_table(tmp_path / "d.csv", ["y"], task=None)
    assert (rows.tasks, rows.task.tolist()) == (("",), [0, 0, 0])
    assert rows.numbers.tolist() == [[2], [4], [6]]


def test_names_of_tasks_are_texts_as_they_stand(tmp_path: Path) -> None:
    rows = read(HEADER + "1,0,0\n01,0,0\n1.0,0,0\nNA,0,0\nA,0,0\na,0,0\né,0,0\n", tmp_path)
    assert rows.tasks == ("01", "1", "1.0", "A", "NA", "a", "é")


def test_a_label_is_one_for_each_task(tmp_path: Path) -> None:
    content = "plant,x,y,part\nb,1,2,meta-test\na,1,2, meta-train \nb,1,2,meta-test\n"
    assert read(content, tmp_path, label="part").labels == ("meta-train", "meta-test")


def test_a_task_with_two_labels_is_said_with_both_lines(tmp_path: Path) -> None:
    content = "plant,x,y,part\nb,1,2,u\na,1,2,v\nb,1,2,u\na,1,2,v\nb,1,2,v\na,1,2,u\na,1,2,u\n"
    assert problems(content, tmp_path, label="part") == [
        "d.csv:6:4: 'part': 'v', but line 2 says 'u' of task 'b'",
        "d.csv:7:4: 'part': 'u', but line 3 says 'v' of task 'a'",
    ]


# One value of a good file replaced: what is said of it.
VALUES = {
    "": "missing",
    " ": "missing",
    "NA": "missing",
    "NaN": "missing",
    "-nan": "missing",
    "null": "missing",
    "?": "missing",
    "-": "missing",
    "red": "'red' is not a number",
    "0x10": "'0x10' is not a number",
    "1 000": "'1 000' is not a number",
    "1_000": "'1_000' is not a number: it has a '_'",
    "True": "'True' is not a number",
    '"3,5"': "'3,5' is written with a comma",
    '"1,234.5"': "'1,234.5' is written with a comma",
    '"-1.234,5e-3"': "'-1.234,5e-3' is written with a comma",
    "inf": "'inf' is infinite",
    "-Infinity": "'-Infinity' is infinite",
    "1e39": "'1e39' is beyond float32, which ends at 3.4e38",
    "-1e400": "'-1e400' is beyond float32, which ends at 3.4e38",
    "\x1b[31m": r"'\x1b[31m' is not a number",
    "x" * 5000: f"'{'x' * 40}...' is not a number",
}


@pytest.mark.parametrize(("value", "said"), VALUES.items(), ids=[repr(value)[:20] for value in VALUES])
def test_a_value_that_is_no_number_is_said_with_its_place(value: str, said: str, tmp_path: Path) -> None:
    content = f"plant,note,x,y\na,,1,2\na,,3,{value}\nb,,5,6\n"
    assert problems(content, tmp_path) == [f"d.csv:3:4: 'y': {said}"]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("a,1\n", ["d.csv:2: 2 fields, where the header has 3"]),
        ("a,1,2\na,1,2,3\n", ["d.csv:3: 4 fields, where the header has 3"]),
        ("a,1,2\n,1,2\n", ["d.csv:3:1: 'plant': missing"]),
        (f"a,1,2\n{'n' * 201},1,2\n", ["d.csv:3:1: 'plant': a name of more than 200 letters"]),
        (
            "a,1,2,\nb,3,4,\na,5,6,\na,5\nc,7,8\n",
            [
                "d.csv:2: 4 fields, as have most rows, where the header has 3",
                "d.csv:5: 2 fields, where the header has 3",
            ],
        ),
        ("a,red,2\nb,blue,4\nc,1,z\n", [
            "d.csv:2:2: 'x': 'red' is not a number, nor are most values of this column; "
            "text cannot be an input or a target",
            "d.csv:4:3: 'y': 'z' is not a number",
        ]),
        ('a,"3,5",2\nb,"4,5",4\n', [
            "d.csv:2:2: 'x': '3,5' is written with a comma, as are most values of this column",
        ]),
        ('a,1,2\n"b,3,4\nc,5,6\n', ["d.csv:3: a '\"' opens a field in this row, and nothing closes it"]),
        ('a,1,?\n"b,3,4\n"c",5,6\n', [
            "d.csv:2:3: 'y': missing", "d.csv:3: the quotes do not pair: ',' expected after '\"'"
        ]),
        ("a,1,2\nb,3\r4\n", ["d.csv:3: a CR in the midst of a line"]),
        ("a,1,2\nb,\x00,4\n", ["d.csv:3: a NUL byte, which no text has"]),
        ("", ["d.csv: no rows below the header"]),
        ("\n\n", ["d.csv: no rows below the header"]),
        ('"a\nb",1,2\nc,q,r\n"d",1,\n', ["d.csv:4:2: 'x': 'q' is not a number", "d.csv:4:3: 'y': 'r' is not a number",
                                        "d.csv:5:3: 'y': missing"]),
    ],
)  # fmt: skip
def test_what_is_wrong_with_rows_is_said_all_at_once(rows: str, said: list[str], tmp_path: Path) -> None:
    assert problems(HEADER + rows, tmp_path) == said


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", ["d.csv: the file is empty"]),
        ("\n \n", ["d.csv: the file is empty"]),
        ("\ufeff", ["d.csv: the file is empty"]),
        ("plants,X,z\na,1,2\n", [
            "d.csv:1: no column is named 'x'; did you mean 'X'?",
            "d.csv:1: no column is named 'y'; its columns are 'plants', 'X', 'z'",
            "d.csv:1: no column is named 'plant'; did you mean 'plants'?",
        ]),
        ("x,plant,y,x\n1,a,2,3\n", ["d.csv:1:4: two columns are named 'x': number 1 and number 4"]),
        ("plant;x;y\na;3,5;1\n", ["d.csv:1: its fields seem to be separated by ';', not by ','"]),
        ('plant\tx\t"y"\na\t3\t1\n', ["d.csv:1: its fields seem to be separated by \"\\t\", not by ','"]),
        ("\na,1,2\na,3,4\n", ["d.csv:2: no header line: it begins with 'a,1,2'"]),
        ("plant,x,y\ra,1,2\rb,3,4\r", ["d.csv:1: a CR in the midst of a line"]),
    ],
)  # fmt: skip
def test_what_is_wrong_with_the_header_is_said(content: str, said: list[str], tmp_path: Path) -> None:
    assert problems(content, tmp_path) == said


def test_columns_that_are_not_asked_for_may_have_one_name(tmp_path: Path) -> None:
    assert len(read("plant,x,y,,\na,1,2,red,\n", tmp_path).numbers) == 1


def test_a_delimiter_that_fits_is_named(tmp_path: Path) -> None:
    assert str(refused("plant;x;y\na;3;1\n", tmp_path)).endswith("set the delimiter, like delimiter: ';'")


def test_what_to_do_is_said_once(tmp_path: Path) -> None:
    error = refused(HEADER + "a,1,2\na,?,2\na,1,\na,1,inf\nb,2,3\nb,2,3\n", tmp_path)
    assert str(error).split("\n")[-1] == (
        "fill in what is missing, or leave out its rows; leave out rows with infinite values"
    )
    assert error.command_line == str(error)


def test_the_first_twenty_are_shown_and_the_others_counted(tmp_path: Path) -> None:
    found = problems(HEADER + "a,?,1\na,1,1\na,1,1\n" * 30, tmp_path)
    assert found[:20] == [f"d.csv:{line}:2: 'x': missing" for line in range(2, 62, 3)]
    assert found[20:] == ["and 10 more"]


def test_reading_stops_where_enough_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Parts of about 1 MiB, which end with the first row of the next one.
    rows = "a,1,1\n" * (2**20 // 6)
    many = problems(HEADER + "a,?,1\na,1,1\na,1,1\n" * 30 + 2 * rows, tmp_path)
    assert many[20].startswith("and 10 more; reading stopped at line 1747")
    monkeypatch.setattr("mamlcli.tabular.problems._MOST_ROWS", 1000)
    few = problems(HEADER + "a,red,1\n" + 2 * rows, tmp_path)
    assert few[0] == "d.csv:2:2: 'x': 'red' is not a number"
    assert few[1].startswith("reading stopped at line 1747")
    content = parquet_bytes({"plant": ["a"] * 400_000, "x": [np.nan] + [1.0] * 399_999, "y": np.ones(400_000)})
    assert problems(content, tmp_path, "d.parquet")[1] == "reading stopped at row 166667"


def test_a_label_without_tasks_is_one_for_all_rows(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text(GOOD)
    with pytest.raises(DataError) as error:
        read_table(tmp_path / "d.csv", ["x"], task=None, label="plant")
    assert error.value.problems[0].endswith("d.csv:3:1: 'plant': 'b', but line 2 says 'a'")


def test_a_long_text_is_refused_at_once(tmp_path: Path) -> None:
    # A pattern that tries each comma of it again and again would take minutes.
    found = problems(f'{HEADER}a,"{"1," * 60_000}",{"1" * 130_000}\n', tmp_path)
    assert [problem[:12] for problem in found] == ["d.csv:2:2: '", "d.csv:2:3: '"]


ENCODINGS = {"utf-16": "UTF-16", "utf-16-le": "UTF-16", "utf-16-be": "UTF-16", "utf-32": "UTF-32"}


@pytest.mark.parametrize(("encoding", "said"), ENCODINGS.items())
def test_a_file_in_wide_letters_is_told_how_to_convert(encoding: str, said: str, tmp_path: Path) -> None:
    error = refused(GOOD.encode(encoding), tmp_path)
    assert error.problems[0].endswith(f"d.csv: it is not UTF-8 but seems to be {said}")
    command = str(error).partition("like iconv -f ")[2].split()
    assert GOOD.encode(encoding).decode(command[0]) == GOOD


@pytest.mark.parametrize(("encoding", "said"), [("latin-1", "Latin-1"), ("cp1252", "Windows-1252")])
def test_a_file_in_letters_of_one_byte_is_told_how_to_convert(encoding: str, said: str, tmp_path: Path) -> None:
    name = "Müller" if encoding == "latin-1" else "3€"
    found = problems(f"plant,x,y\na,?,2\n{name},3,4\n".encode(encoding), tmp_path)
    assert found[0].startswith("d.csv:2:2: 'x': missing")
    assert found[1].startswith(f"d.csv:3: it is not UTF-8 but seems to be {said}, which reads here")
    assert name in found[1]


def parquet_bytes(columns: dict[str, object]) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "name", "said"),
    [
        (gzip.compress(GOOD.encode(), mtime=0), "d.csv", "it is packed with gzip, not a text file"),
        (GOOD.encode(), "d.csv.gz", "its name ends in .gz, but it is not packed with gzip"),
        (gzip.compress(GOOD.encode(), mtime=0)[:-12], "d.csv.gz", "the gzip file is damaged: it ends too early"),
        (
            gzip.compress(GOOD.encode(), mtime=0)[:-8] + bytes(8),
            "d.csv.gz",
            "the gzip file is damaged: CRC check failed",
        ),
        (gzip.compress(GOOD.encode(), mtime=0)[:12] + b"\xff" * 30, "d.csv.gz", "the gzip file is damaged: "),
        (b"", "d.csv.gz", "the file is empty"),
        (b"PK\x03\x04" + bytes(40), "d.csv", "it is a workbook or a zip archive, not a text file"),
        (parquet_bytes({"x": [1]}), "d.csv", "it is a Parquet file, not a text file"),
        (GOOD.encode(), "d.parquet", "the Parquet file is damaged or of an unknown kind"),
        (b"", "d.parquet", "the Parquet file is damaged or of an unknown kind"),
    ],
)
def test_a_file_that_is_not_what_its_name_says_is_refused(content: bytes, name: str, said: str, tmp_path: Path) -> None:
    assert problems(content, tmp_path, name)[0].startswith(f"{name}: {said}")


def test_what_is_no_file_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    for path, said in (
        (tmp_path / "none.csv", "No such file or directory"),
        (tmp_path, "it is a folder, not a file"),
        (tmp_path / "pipe.csv", "it is a pipe by name, not a file"),
        (Path("/dev/zero"), "it is a device or a terminal, not a file"),
        (tmp_path / "a\0b", "embedded null byte"),
    ):
        with pytest.raises(DataError) as error:
            read_table(path, ["x"], task=None)
        assert error.value.problems[0].endswith(f": cannot read the data: {said}")


def test_a_table_may_come_through_a_pipe_that_the_shell_hands_over() -> None:
    code = (
        "from mamlcli.tabular import read_table; from pathlib import Path\n"
        "print(read_table(Path('/dev/stdin'), ['x', 'y'], task='plant').numbers.tolist())"
    )
    done = subprocess.run([sys.executable, "-c", code], input=GOOD, capture_output=True, text=True, check=True)
    assert done.stdout == "[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]\n"


def said_within(num_bytes: int, path: Path) -> str:
    """What is wrong with a file, found by a process that may take only so much memory."""
    code = (
        "import sys; from pathlib import Path; from mamlcli.errors import DataError\n"
        "from mamlcli.tabular import read_table\n"
        "assert 'torch' not in sys.modules\n"
        "try: read_table(Path(sys.argv[1]), ['x', 'y'], task='plant')\n"
        "except DataError as error: print(error.problems[-1])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (num_bytes, num_bytes)),
    )
    return done.stdout.removeprefix(f"{path.parent}/").strip()


# The start of a file of two GB; the rest of it is a hole.
LONG = {
    "a long line": (GOOD.encode() + b"x" * (3 * LONGEST_LINE), "d.csv:5: the line is longer than 1 MiB"),
    "a long header": (b"x," * (2 * LONGEST_LINE), "d.csv:1: the line is longer than 1 MiB"),
    "zeros": (b"", "d.csv:1: the line is longer than 1 MiB"),
    "old line ends": (GOOD.replace("\n", "\r").encode() * LONGEST_LINE, "d.csv:1: its lines end in CR alone"),
    "a quote": (
        GOOD.encode() + b'"' + GOOD.encode() * 20000,
        "d.csv:5: a field goes on for more than 128 KiB, as after a '\"' that nothing closes",
    ),
    "a row without end": (
        GOOD.encode() + b'"\n",' * LONGEST_LINE,
        "d.csv:5: the row goes on for more than 1 MiB, as after a '\"' that nothing closes",
    ),
    "wide rows": (
        GOOD.encode() + (b"," * (LONGEST_LINE - 2) + b"\n") * 30,
        "reading stopped at line 25",
    ),
}


@pytest.mark.parametrize(("start", "said"), LONG.values(), ids=LONG)
def test_what_has_no_end_is_refused_within_little_memory(start: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    path.write_bytes(start)
    os.truncate(path, 2**31)
    assert said_within(2**30, path) == said


@pytest.mark.parametrize(
    ("unit", "said"),
    [
        (b"\n", "more than 100000 blank lines"),
        (b"a,1,2\n", "unpacked it is more than 250 times as large as packed, which no table of numbers is"),
        (b"\0", "the line is longer than 1 MiB"),
    ],
)
def test_a_packed_file_that_unpacks_without_end_is_refused(unit: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "d.csv.gz"
    with gzip.open(path, "wb") as file:
        file.write(HEADER.encode())
        for _ in range(80):
            file.write(unit * (2**20 // len(unit)))
    assert said_within(2**30, path).partition(": ")[2] == said


def test_a_table_that_takes_too_much_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "MOST_BYTES", 2**16)
    assert problems(HEADER + "a,1,2\n" * 3000, tmp_path) == ["d.csv: as a table it takes more than 6.1e-05 GiB"]
    many = "".join(f"task-{number},1,2\n" for number in range(400))
    assert problems(HEADER + many, tmp_path) == ["d.csv: as a table it takes more than 6.1e-05 GiB"]
    content = parquet_bytes({"plant": ["a"] * 3000, "x": [1.0] * 3000, "y": [1.0] * 3000})
    assert problems(content, tmp_path, "d.parquet") == ["d.parquet: as a table it takes more than 6.1e-05 GiB"]


def test_a_file_of_many_pieces_is_read_as_one(tmp_path: Path) -> None:
    # About 4 MB, so that lines are cut by pieces everywhere; some records go over two lines.
    generator = np.random.default_rng(0)
    numbers = generator.normal(size=(60_000, 2))
    names = [f"plant {number}" for number in generator.integers(0, 500, 60_000)]
    with (tmp_path / "d.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["note", "plant", "x", "y"])
        for row, (name, pair) in enumerate(zip(names, numbers.tolist(), strict=True)):
            writer.writerow(["é\nè" if row % 97 == 0 else "é" * (row % 50), name, *pair])
    rows = read_table(tmp_path / "d.csv", ["y", "x"], task="plant")
    np.testing.assert_array_equal(rows.numbers, numbers[:, ::-1])
    assert [rows.tasks[task] for task in rows.task] == names
    np.testing.assert_array_equal(rows.lines, 2 + np.arange(60_000) + (np.arange(60_000) + 96) // 97)


NUMBERS = st.floats(allow_nan=False, allow_infinity=False, width=64).filter(lambda value: abs(value) < FLOAT32_END)
NAMES = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=9).map(str.strip).filter(bool)
ROWS = st.lists(st.tuples(NAMES, NUMBERS, NUMBERS, st.text(max_size=9).filter(lambda text: "\0" not in text)),
                min_size=1, max_size=9)  # fmt: skip


@settings(deadline=None, max_examples=150)
@given(rows=ROWS, delimiter=st.sampled_from(",;\t|"), line_end=st.sampled_from(["\n", "\r\n"]))
def test_what_a_csv_writer_writes_is_read_back_exactly(
    rows: list[tuple[str, float, float, str]],
    delimiter: str,
    line_end: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    path = tmp_path_factory.getbasetemp() / "written.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter, lineterminator=line_end, quoting=csv.QUOTE_NONNUMERIC)
        writer.writerow(["plant", "x", "y", "note"])
        writer.writerows(rows)
    found = read_table(path, ["x", "y"], task="plant", delimiter=delimiter)
    assert found.numbers.tolist() == [[x, y] for _, x, y, _ in rows]
    assert [found.tasks[task] for task in found.task] == [name for name, *_ in rows]
    assert list(found.tasks) == sorted({name for name, *_ in rows})


@settings(deadline=None, max_examples=50)
@given(rows=ROWS, order=st.randoms(use_true_random=False))
def test_rows_in_another_order_give_the_same_tasks(
    rows: list[tuple[str, float, float, str]], order: Random, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "permuted.csv"
    tables = []
    for _ in range(2):
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("plant", "x", "y", "note"), *rows])
        tables.append(read_table(path, ["x", "y"], task="plant"))
        order.shuffle(rows)
    assert tables[0].tasks == tables[1].tasks
    for task in range(len(tables[0].tasks)):
        first, second = (sorted(found.numbers[found.task == task].tolist()) for found in tables)
        assert first == second


def test_what_numpy_writes_is_read_back_exactly(tmp_path: Path) -> None:
    numbers = np.random.default_rng(1).normal(size=(50, 2)) * 10.0 ** np.arange(-38, 37, 1.5)[:, None]
    np.savetxt(tmp_path / "d.csv", numbers, fmt="%.18e", delimiter=",", header="x,y", comments="")
    np.testing.assert_array_equal(read_table(tmp_path / "d.csv", ["x", "y"], task=None).numbers, numbers)
    largest = np.finfo(np.float32).max
    (tmp_path / "d.csv").write_text(f"x,y\n{largest},{-largest}\n")
    found = read_table(tmp_path / "d.csv", ["x", "y"], task=None).numbers
    assert found.astype(np.float32).tolist() == [[largest, -largest]]


def test_parquet_is_read_like_csv(tmp_path: Path) -> None:
    content = parquet_bytes({
        "note": [[1], [2], [3]],
        "y": pa.array([2, 4, 6], pa.int8()),
        "plant": pa.array(["b", "a", "b"]).dictionary_encode(),
        "part": pa.array(["u", "v", "u"], pa.large_string()),
        "x": pa.array([1, 3, 5], pa.float32()),
        "number": pa.array([7, 10, 7]),
    })  # fmt: skip
    rows = read(content, tmp_path, "d.parquet", label="part")
    assert (rows.tasks, rows.task.tolist(), rows.labels) == (("a", "b"), [1, 0, 1], ("v", "u"))
    assert rows.numbers.tolist() == [[1, 2], [3, 4], [5, 6]]
    assert rows.lines.tolist() == [1, 2, 3]
    assert (rows.sha256, rows.num_bytes) == (hashlib.sha256(content).hexdigest(), len(content))
    assert rows.place(1, "x") == f"{tmp_path}/d.parquet:2:5"
    assert read(content, tmp_path, "d.parquet", task="number").tasks == ("10", "7")


def test_numbers_of_all_kinds_and_odd_names_are_read_from_parquet(tmp_path: Path) -> None:
    kinds = [pa.float16(), pa.uint64(), pa.decimal128(5, 2), pa.dictionary(pa.int8(), pa.int32())]
    for kind in kinds:
        values = np.array([1, 2], np.float16) if kind == pa.float16() else [1, 2]
        whole = pa.array([1, 2]).cast(pa.int32()).dictionary_encode() if kind == kinds[-1] else pa.array(values, kind)
        content = parquet_bytes({" plant.a": ["p", "q"], "x": whole, "y ": [{"x": 5.0}, {"x": 6.0}], "y": [3, 4]})
        (tmp_path / "d.parquet").write_bytes(content)
        assert read_table(tmp_path / "d.parquet", ["x"], task="plant.a").numbers.tolist() == [[1], [2]]


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"x": [1.0]}, [
            "d.parquet: no column is named 'y'; its columns are 'plant', 'x'",
        ]),
        ({"x": [1.0, None, 2.0], "y": [1, 2, None]}, [
            "d.parquet:2:2: 'x': missing", "d.parquet:3:3: 'y': missing",
        ]),
        ({"x": [1.0, np.nan, 2.0], "y": [1, 2, np.inf]}, [
            "d.parquet:2:2: 'x': missing", "d.parquet:3:3: 'y': 'inf' is infinite",
        ]),
        ({"x": [1.0, 1e39, 2.0], "y": [1, 2, 3]}, [
            "d.parquet:2:2: 'x': '1e+39' is beyond float32, which ends at 3.4e38",
        ]),
        ({"x": ["1", "2"], "y": [True, False]}, [
            "d.parquet:2: 'x': holds 'string', not numbers", "d.parquet:3: 'y': holds 'bool', not numbers",
        ]),
        ({"x": [[1.0]], "y": [{"a": 1}]}, [
            "d.parquet:2: 'x': holds 'list<element: double>', not numbers",
            "d.parquet:3: 'y': holds 'struct<a: int64>', not numbers",
        ]),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_parquet_file_is_said(
    columns: dict[str, list[object]], said: list[str], tmp_path: Path
) -> None:
    columns = {"plant": ["a"] * len(columns["x"]), **columns}
    assert problems(parquet_bytes(dict(columns)), tmp_path, "d.parquet") == said


def test_names_in_a_parquet_file_are_text_or_whole_numbers(tmp_path: Path) -> None:
    columns = {"x": [1.0, 2.0], "y": [1.0, 2.0]}
    assert problems(parquet_bytes({"plant": ["a", None], **columns}), tmp_path, "d.parquet") == [
        "d.parquet:2:1: 'plant': missing"
    ]
    assert problems(parquet_bytes({"plant": [0.5, 1.5], **columns}), tmp_path, "d.parquet") == [
        "d.parquet:1: 'plant': holds 'double', not names"
    ]


def test_a_damaged_parquet_file_gives_a_table_or_a_message(tmp_path: Path) -> None:
    whole = parquet_bytes({"plant": [f"p{row % 7}" for row in range(200)], "x": np.arange(200.0), "y": np.ones(200)})
    generator = np.random.default_rng(0)
    refusals = 0
    for _ in range(150):
        damaged = bytearray(whole)
        damaged[generator.integers(len(whole))] ^= 1 << int(generator.integers(8))
        try:
            read(bytes(damaged), tmp_path, "d.parquet")
        except DataError:
            refusals += 1
    assert refusals > 10
    assert problems(whole[:-30], tmp_path, "d.parquet")[0].startswith("d.parquet: the Parquet file is damaged")


def test_without_pyarrow_parquet_files_name_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    error = refused(b"PAR1", tmp_path, "d.parquet")
    assert "pip install 'mamlcli[parquet]'" in str(error)
    assert read(GOOD, tmp_path).tasks == ("a", "b")
