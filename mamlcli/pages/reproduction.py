"""What a reproduction found, as parts of a page: published numbers beside ours."""

import zlib
from collections import Counter
from collections.abc import Iterable, Sequence

from mamlcli.config.changes import not_default
from mamlcli.config.experiment import Config
from mamlcli.config.published import PublishedRow
from mamlcli.config.shipped import shipped_curves
from mamlcli.pages.blocks import Block, Cell, Column, Facts, Section, Table, Text, Tone
from mamlcli.pages.cells import count, number, plain, word
from mamlcli.plain import NOT_COMPARABLE
from mamlcli.results import Reproduction
from mamlcli.rows import RowPair
from mamlcli.statistics import interval_over
from mamlcli.types import AnyRow

_COLUMNS = ("row", "K", "steps", "published", "ours", "±", "verdict", "margin", "uncorrected", "median", "diverged")
CORRECTION_NOTE = (
    "Ours is corrected for how hard the tasks at hand are: a model that always says zero scores more or less on them "
    "than over all tasks, where its loss is known analytically, and ours moves with it (a control variate, whose "
    "coefficient is the slope over tasks of each row's losses). The uncorrected mean stands beside it; it is the same "
    "where adaptations diverged, and of the zero predictor itself."
)
STATEMENTS = (
    "The verdict is what an interval of the difference, ours less the published number, says; the interval holds what "
    "both sides are uncertain by: ours over seeds and tasks; theirs by the published interval, or where there is none "
    "by ours over tasks, since theirs were other tasks; and theirs by what one training differs from another, for "
    "which our seeds stand. equivalent: two one-sided tests at 5% refuse a difference as large as the margin. better "
    "or worse: else, the 95% interval lies on one side of zero. inconclusive: else; a wide interval shows nothing. "
    "diverged: the mean is not finite. A bound is met where a test at 5% refuses that ours is beyond it by the margin, "
    "and not met where the 95% interval lies beyond it. What was calculated has no interval of its own."
)
_SIGNS = {"equals": "", "at_most": "at most ", "at_least": "at least "}
FAST = "A fast run: trainings of 1,000 steps at most. It shows that everything runs; the numbers mean nothing."
_WORDS = ("row", "verdict")
_TONES: dict[str, Tone] = {"equivalent": "good", "met": "good", "better": "good", "worse": "bad", "not met": "bad"}
# Of a protocol, in words of their own.
_SAID = ("tasks.support_shots", "tasks.query_shots", "outer.steps", "outer.meta_batch_size")
# Of curves that do not come along, so that none depends on which others are shown.
_OWN_STYLES = 29


def table_cells(row: AnyRow) -> list[str]:
    """The cells of a line of the table, under the columns of the report."""
    published = "none"
    if row["published"] is not None:
        spread = "" if row["published_ci95"] is None else f" ± {row['published_ci95']:g}"
        published = f"{_SIGNS[row['relation']]}{row['published']:g}{spread}"
    mean, ci95, as_measured, median = (_number(row[name]) for name in ("mean", "ci95", "plain_mean", "median"))
    if row["control_coefficient"] is None and row["mean"] is not None:
        as_measured = "same"
    margin = "" if row.get("margin") is None else f"{row['margin']:.3g}"
    diverged = "n/a" if row["num_diverged"] is None else str(row["num_diverged"])
    where = [row["row"], str(row["shots"]), str(row["inner_steps"])]
    verdict = short(row["verdict"])
    return [*where, published, mean, ci95, verdict, margin, as_measured, median, diverged]


def table_columns() -> list[str]:
    """The columns of the table."""
    return list(_COLUMNS)


def short(verdict: str) -> str:
    """A verdict where it stands above the table that no number can be compared."""
    return "not comparable" if verdict == NOT_COMPARABLE else verdict


def counted(results: Sequence[AnyRow]) -> str:
    """How many of the published numbers each verdict is said of, in words.

    >>> counted([{"published": 1.0, "verdict": "better"}, {"published": None, "verdict": "no number published"}])
    'of 1 published number: 1 better'
    """
    judged = Counter(row["verdict"].partition(":")[0] for row in results if row["published"] is not None)
    total = judged.total()
    each = ", ".join(f"{times} {verdict}" for verdict, times in judged.most_common())
    return f"of {total} published number{'s' * (total != 1)}: {each}" if total else "no number was published"


def curve_styles(curves: Iterable[str]) -> dict[str, int]:
    """The number of the style of each curve, which depends on its name alone."""
    shipped = shipped_curves()
    own = len(shipped)
    return {
        name: shipped.index(name) if name in shipped else own + zlib.crc32(name.encode()) % _OWN_STYLES
        for name in curves
    }


def _number(value: float | None) -> str:
    if value is None:
        return "n/a"
    return f"{value:.3f}" if value < 1e4 else f"{value:.2e}"


def _introduction(result: Reproduction) -> list[str]:
    seeds, said = result.seeds, counted(result.results)
    return [
        FAST if result.fast else f"{said[0].upper()}{said[1:]}; with seeds {', '.join(map(str, seeds))}.",
        "Query loss (mean squared error) on fixed meta-test tasks after so many inner steps on K support samples; "
        f"means over seeds and tasks; ± is the half-width of the 95% interval of ours, {interval_over(len(seeds))}. "
        "Tasks that diverged stay in the mean.",
        CORRECTION_NOTE,
        STATEMENTS,
    ]


def _measured_on(results: Sequence[AnyRow], name: str) -> str:
    measured = [row for row in results if row["row"] == name and row["query"]]
    said = [
        f"Measured on {row['query']}, where zero scores {_number(row['control_mean'])}, and "
        f"{_number(row['control_expected'])} over all tasks."
        for row in measured
    ]
    for how in dict.fromkeys(row["correction"] for row in measured):
        steps = [str(row["inner_steps"]) for row in measured if row["correction"] == how]
        some = f"After {', '.join(steps)} step(s) " if len(steps) < len(measured) else ""
        said.append(f"{some}{how}." if some else f"{how[0].upper()}{how[1:]}.")
    return " ".join(dict.fromkeys(said))


def protocol(row: PublishedRow, tested: Config | None = None) -> str:
    """On what a row is trained and tested, in words."""
    config, evaluation = row.config, (tested or row.config).evaluation
    outer, tasks = config.outer, config.tasks
    batch, shots = count(outer.meta_batch_size, "task"), f"K = {tasks.support_shots}, Q = {tasks.query_shots}"
    trained = f"{outer.steps:,} meta-updates of {batch}, {shots}" if row.start == "trained" else "not trained"
    points = f"{evaluation.grid or evaluation.query_shots} points {'of a grid' if evaluation.grid else 'each'}"
    own = [
        f"{key} {plain(value)}"
        for key, value in not_default(config).items()
        if key.partition(".")[0] in ("tasks", "model", "algorithm", "outer") and key not in _SAID
    ]
    other = [*own, *(f"in testing {text.replace('=', ' ')}" for text in row.tested)]
    measured = f"tested on {evaluation.tasks:,} tasks, {points}"
    return f"{trained}; {measured}{'; ' if other else ''}{', '.join(other)}"


def described(row: PublishedRow, tested: Config) -> str:
    """What a row is, where it was published and what its source leaves open."""
    return f"{row.title}. Protocol: {protocol(row, tested)}. Source: {row.source}. Open: {row.ambiguous}"


def reproduction_blocks(result: Reproduction) -> list[Block]:
    """The table with what its verdicts mean, the rows that are set beside others, and what each row is."""
    columns = [Column(name, is_number=name not in _WORDS, is_long=name in _WORDS) for name in _COLUMNS]
    first, *more = _introduction(result)
    stamp = f" {FAST}" if result.fast else ""
    table = Table(columns, [_line(row) for row in result.results], f"Published numbers and ours.{stamp}")
    rows = {name: f"{text} {_measured_on(result.results, name)}".strip() for name, text in result.described.items()}
    return [
        Text(first, "bad" if result.fast else "plain"),
        table,
        *map(Text, more),
        *([_pairs(result.pairs, stamp)] if result.pairs else []),
        *([Section("The rows", [Facts(list(rows.items()))])] if rows else []),
    ]


def reproduction_tiles(result: Reproduction) -> list[tuple[str, str]]:
    """What is looked for first: how many numbers there are, and how many each verdict is said of."""
    rows = len({row["row"] for row in result.results})
    verdicts = Counter(row["verdict"].partition(":")[0] for row in result.results if row["published"] is not None)
    said = ", ".join(f"{times} {verdict}" for verdict, times in verdicts.most_common())
    return [("Rows", str(rows)), ("Published numbers", str(verdicts.total())), ("Verdicts", said or "none")]


def _pairs(pairs: Sequence[RowPair], stamp: str) -> Section:
    """What each row makes of a difference to the one beside it."""
    titles = ("row", "less", "K", "steps", "difference", "±", "margin", "verdict")
    words = ("row", "less", "verdict")
    lines = [
        [
            *(word(pair["row"]), word(pair["beside"]), word(pair["shots"]), word(pair["inner_steps"])),
            *(number(pair["difference"]), number(pair["ci95"]), number(pair["margin"])),
            word(short(pair["verdict"]), _TONES.get(pair["verdict"], "plain")),
        ]
        for pair in pairs
    ]
    said = (
        "Rows that were run beside the one that they are a variant of: the mean difference of losses, paired by seed "
        "and task, with its 95% interval; a negative one is in favour of the row. The margin is a share of the other "
        "row's mean."
    )
    columns = [Column(title, is_number=title not in words, is_long=title in words) for title in titles]
    table = Table(columns, lines, f"Differences.{stamp}")
    return Section("Rows beside each other", [Text(said), table])


def _line(row: AnyRow) -> list[Cell]:
    values = (None, row["shots"], row["inner_steps"], row["published"], row["mean"], row["ci95"], None)
    orders = (*values, row.get("margin"), row["plain_mean"], row["median"], row["num_diverged"])
    cells = zip(_COLUMNS, table_cells(row), orders, strict=True)
    return [Cell(text, "" if name in _WORDS else order, _tone(name, text)) for name, text, order in cells]


def _tone(name: str, text: str) -> Tone:
    return _TONES.get(text, "plain") if name == "verdict" else "plain"
