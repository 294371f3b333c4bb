"""Reports: what a run folder holds as a page, looked at as readers do, and as Markdown."""

import colorsys
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import mamlcli
from mamlcli import parse_config
from mamlcli.config.shipped import shipped_rows
from mamlcli.errors import CheckpointError, RunFolderError, UsageError
from mamlcli.escaping import markdown as escaped
from mamlcli.escaping import visible
from mamlcli.pages.blocks import Block, Cell, Code, Column, Details, Facts, Page, Section, Table, Text
from mamlcli.pages.html import html
from mamlcli.pages.inline import on_black, page_svg
from mamlcli.pages.provenance import differing
from mamlcli.pages.text import markdown
from mamlcli.runs.folder import RunFolder
from tests.browser import chromium, opened
from tests.conftest import TINY, Maml
from tests.test_escaping import TRICKY
from tests.test_escaping import Text as Parsed


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was trained, evaluated and reported."""
    path = tmp_path_factory.mktemp("runs") / "run"
    mamlcli.train(parse_config(TINY), out=path)
    mamlcli.evaluate(path)
    mamlcli.report(path)
    return path


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    """The same run, to be spoiled."""
    return Path(shutil.copytree(run, tmp_path / "copy"))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def evaluated(run: Path) -> list[dict[str, Any]]:
    results: list[dict[str, Any]] = json.loads((run / "evaluation.json").read_text())["results"]
    return [row for row in results if row["seed"] == "all"]


def told(path: Path, **changes: object) -> None:
    """Change what run.json says."""
    folder = RunFolder(path)
    folder.write_info(folder.read_info() | changes)


def luminance(color: str) -> float:
    """Of a color as a browser gives it, by the definition of WCAG 2."""
    parts = [int(part) / 255 for part in re.findall(r"\d+", color)[:3]]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def style(page: Any, selector: str, name: str) -> str:
    found: str = page.locator(selector).first.evaluate(f"one => getComputedStyle(one).{name}")
    return found


def test_the_page_opens_from_disk_without_a_complaint_and_asks_for_nothing_else(run: Path, browser: Any) -> None:
    with opened(browser, (run / "report.html").as_uri()) as page:
        assert page.title() == "tiny"
        assert page.locator("h2").all_inner_texts() == [
            *("Results", "Figures", "Training", "How to run it again", "Config", "Where it comes from", "Files")
        ]
        assert page.locator("figure svg[role=img]").count() == len(list(run.glob("*.figure.json"))) == 3
    assert (run / "report.html").stat().st_size < 2**20


def test_pointing_at_a_figure_shows_the_value_that_was_measured(
    run: Path, browser: Any, evaluated: list[dict[str, Any]]
) -> None:
    row = next(row for row in evaluated if (row["shots"], row["inner_steps"]) == (5, 2))
    with opened(browser, (run / "report.html").as_uri()) as page:
        figure = page.locator("figure#figure-adaptation")
        figure.locator("svg").scroll_into_view_if_needed()
        panel = json.loads(figure.get_attribute("data-points"))[0]
        point = next(one for one in panel["series"] if one["name"] == "K = 5")["points"][2]
        box, view = figure.locator("svg").bounding_box(), figure.locator("svg").get_attribute("viewBox").split()
        scale = box["width"] / float(view[2])
        page.mouse.move(box["x"] + point[0] * scale + 1, box["y"] + point[1] * scale - 1)
        said = figure.locator(".tip").inner_text().splitlines()
        assert said[:2] == ["K = 5", "inner step: 2"]
        numbers = [float(number) for line in said[2:] for number in re.findall(r"-?\d+\.?\d*(?:e-?\d+)?", line)]
        low, high = row["mean"] - row["ci95"], row["mean"] + row["ci95"]
        assert numbers == pytest.approx([row["mean"], low, high], rel=1e-4)
        # It is marked where matplotlib has drawn it.
        places = "all => all.map(one => ['x', 'y'].map(name => +one.getAttribute(name)))"
        marks = figure.locator("svg use").evaluate_all(places)
        circle = figure.locator("svg circle")
        place = [float(circle.get_attribute("cx")), float(circle.get_attribute("cy"))]
        assert any(mark == pytest.approx(place, abs=0.3) for mark in marks)


def test_a_figure_is_read_by_the_keyboard_and_its_values_are_a_table(
    run: Path, browser: Any, evaluated: list[dict[str, Any]]
) -> None:
    with opened(browser, (run / "report.html").as_uri()) as page:
        figure = page.locator("figure#figure-adaptation")
        figure.locator("svg").focus()
        for key in ("End", "ArrowLeft"):
            page.keyboard.press(key)
        assert "inner step: 2" in figure.locator(".tip[role=status]").inner_text()
        page.keyboard.press("Escape")
        assert figure.locator(".tip").is_hidden()
        figure.locator("summary").click()
        lines = [line.split("\t") for line in figure.locator("tbody tr").all_inner_texts()]
        means = [float(line[2]) for line in lines if line[0] == "K = 3"]
        assert means == pytest.approx([row["mean"] for row in evaluated if row["shots"] == 3], rel=1e-4)


def test_a_table_sorts_by_numbers_and_words_and_what_is_missing_comes_last(browser: Any) -> None:
    rows = [("b", 10.0), ("a", 9.0), ("c", None), ("d", -1.0)]
    cells = [[Cell(name), Cell("n/a" if value is None else f"{value:g} ± 1", value)] for name, value in rows]
    table = Table([Column("name", is_number=False), Column("loss")], cells)
    with opened(browser, "") as page:
        page.set_content(html(Page("x", [table])))
        name, loss = page.locator("th button").all()

        def names() -> str:
            return "".join(page.locator("tbody td:first-child").all_inner_texts())

        assert names() == "bacd"
        for button, orders in ((loss, ("dabc", "badc")), (name, ("abcd", "dcba"))):
            for order, direction in zip(orders, ("ascending", "descending"), strict=True):
                button.press("Enter")
                assert (names(), button.locator("..").get_attribute("aria-sort")) == (order, direction)
        assert page.locator("th[aria-sort]").count() == 1


def test_coordinates_are_cut_and_neither_texts_nor_sizes_are() -> None:
    svg = page_svg('<svg><g transform="translate(1.23456 0.5) scale(0.015625)"><text>best: 3.006</text></g></svg>', "a")
    assert svg.endswith('<g transform="translate(1.23 0.5) scale(0.015625)"><text>best: 3.006</text></g></svg>')


def test_the_texts_of_figures_are_texts(run: Path) -> None:
    page = (run / "report.html").read_text("utf-8")
    assert page.count("<text") > 3 * 10
    assert "DejaVuSans" not in page


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_tables_and_figures_can_be_read_by_day_and_by_night(run: Path, browser: Any, scheme: str) -> None:
    with opened(browser, (run / "report.html").as_uri(), color_scheme=scheme) as page:
        paper = style(page, "body", "backgroundColor")
        assert (luminance(paper) < 0.1) == (scheme == "dark")
        for selector in ("p", "td", "figcaption, .caption", "dt", "summary", ".badge"):
            assert contrast(style(page, selector, "color"), paper) >= 4.5, selector
        assert contrast(style(page, "figure svg text", "fill"), paper) >= 4.5
        lines = page.locator("figure svg path[style*=stroke]").evaluate_all(
            "all => all.map(one => getComputedStyle(one).stroke).filter(color => color.startsWith('rgb('))"
        )
        assert min(contrast(line, paper) for line in set(lines) - {"rgb(176, 176, 176)"}) >= 2.5  # but for the grid


def test_nothing_is_wider_than_a_telephone(run: Path, browser: Any) -> None:
    with opened(browser, (run / "report.html").as_uri(), viewport={"width": 360, "height": 740}) as page:
        page.locator("details:not(.values)").evaluate_all("all => all.forEach(one => { one.open = true; })")
        assert page.evaluate("document.documentElement.scrollWidth") == 360


def test_a_reproduction_is_read_on_a_telephone_and_opens_its_sources(maml: Maml, browser: Any) -> None:
    text = (
        Path(shipped_rows()["zero"])
        .read_text()
        .replace("source: ", "source: arXiv:1703.03400, https://example.org/a, ")
    )
    Path("row.yaml").write_text(text)
    assert maml("reproduce", "row.yaml", "--seeds", "0", "--out", "back", "-q").code == 0
    address = (Path.cwd() / "back" / "report.html").as_uri()
    with opened(browser, address, viewport={"width": 360, "height": 740}, color_scheme="dark") as page:
        assert page.evaluate("document.documentElement.scrollWidth") == 360
        links = page.locator("dd a").evaluate_all("links => links.map(link => link.href)")
        assert links == ["https://arxiv.org/abs/1703.03400", "https://example.org/a"]
        assert page.locator("h1 .badge").inner_text() == "done"
        tiles = page.locator("dl.tiles dt").all_inner_texts()
        assert {"Rows", "Published numbers", "Verdicts", "Commit", "Started"} <= set(tiles)
        assert "mamlcli " in page.locator("main").inner_text()
    said = (Path("back") / "report.md").read_text()
    assert "[arXiv:1703.03400](<https://arxiv.org/abs/1703.03400>)" in said


def test_on_paper_it_is_light_and_what_was_folded_is_there(run: Path, browser: Any) -> None:
    with opened(browser, (run / "report.html").as_uri(), color_scheme="dark") as page:
        assert not page.get_by_text("inner_update: auto").is_visible()
        page.emulate_media(media="print")
        page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
        assert page.get_by_text("inner_update: auto").is_visible()
        assert page.locator("nav").is_hidden()
        assert luminance(style(page, "body", "backgroundColor")) > 0.9


def test_markdown_says_the_same_with_links_to_the_figures(run: Path, evaluated: list[dict[str, Any]]) -> None:
    said = (run / "report.md").read_text()
    links = re.findall(r"!\[[^]]*\]\(([^)]+)\)", said)
    assert len(links) == 3
    assert all((run / link).is_file() for link in links)
    row = next(row for row in evaluated if (row["shots"], row["inner_steps"]) == (3, 1))
    assert f"{row['mean']:.4f} ± {row['ci95']:.4f}" in said
    for heading in re.findall(r"<h2[^>]*>([^<]+)", (run / "report.html").read_text()):
        assert f"## {heading}" in said


def test_nothing_in_a_page_is_taken_for_markup() -> None:
    table = Table([Column(TRICKY)], [[Cell(TRICKY, TRICKY)]], TRICKY)
    blocks: list[Block] = [Text(TRICKY), Facts([(TRICKY, TRICKY)]), Code(TRICKY), Details(TRICKY, [table])]
    page = Page(TRICKY, [Section(TRICKY, blocks, Text(TRICKY)), Section("other", [])], Text(TRICKY), TRICKY)
    parsed = Parsed(html(page))
    assert parsed.elements.count("script") == 1
    assert parsed.shown.count(visible(TRICKY)) >= 10
    said = markdown(page, Path())
    said = re.sub(r"^```.*?^```$", "", said, flags=re.DOTALL | re.MULTILINE)  # where nothing is markup
    assert set(re.findall(r"<[^>]*>", said)) == {"<details>", "<summary>", "</summary>", "</details>"}


def test_what_differs_from_the_defaults_is_told_with_the_default() -> None:
    found = {key: (value, default) for key, value, default, _ in differing(parse_config(TINY))}
    assert found == {
        "name": ("tiny", "required"),
        "seeds": ("[0, 1]", "[0, 1, 2]"),
        "device": ("cpu", "auto"),
        "model.hidden_sizes": ("[8]", "[40, 40]"),
        "outer.steps": ("12", "60000"),
        "outer.meta_batch_size": ("3", "25"),
        "evaluation.tasks": ("7", "600"),
        "evaluation.query_shots": ("9", "100"),
        "evaluation.shots": ("[3, 5]", "[5, 10, 20]"),
        "evaluation.inner_steps": ("3", "10"),
        "run.log_every_steps": ("4", "100"),
        "run.checkpoint_every_steps": ("5", "5000"),
    }


@pytest.mark.parametrize(
    ("status", "badge"),
    [
        ("running", "killed: its process is gone"),
        ("interrupted", "interrupted"),
        ("diverged", "diverged"),
        ("created", "not begun"),
    ],
)
def test_a_run_that_is_not_whole_has_a_page_that_says_what_is_missing(copy: Path, status: str, badge: str) -> None:
    for file in (*copy.glob("evaluation*"), *copy.glob("*.figure.json"), *copy.glob("*.png")):
        file.unlink()
    told(copy, status=status)
    if status == "created":
        (copy / "metrics.jsonl").unlink()
    said = mamlcli.report(copy).markdown.read_text()
    assert said.startswith(f"# tiny ({badge})\n")
    assert f"maml eval {copy}\n" in said
    assert (f"maml train --resume {copy}\n" in said) == (status != "created")
    assert ("No step has been logged yet." in said) == (status == "created")
    page = (copy / "report.html").read_text()
    assert page.count("<svg") == (status != "created")  # the loss, from the metrics so far


def test_a_file_that_is_damaged_is_named_and_the_rest_is_shown(copy: Path) -> None:
    (copy / "evaluation.json").write_text('{"schema": "mamlcli.eval/1", "results": 3}')
    (copy / "loss.figure.json").write_text("{")
    (copy / "config.yaml").write_text("name: tiny\nalgorithm: {name: of-a-plugin}\n")
    told(copy, plugins=[{"name": "own method.py"}])
    said = mamlcli.report(copy).markdown.read_text()
    assert "evaluation.json: not what this version writes" in said
    assert "loss.figure.json: cannot be read" in said
    assert "there is no method 'of-a-plugin'" in said
    assert "--plugin 'own method.py'" in said
    assert "of-a-plugin" in said
    assert "(fits.png)" in said


def test_a_method_s_own_figure_is_shown_as_it_was_drawn(copy: Path, browser: Any) -> None:
    (copy / "fits.figure.json").unlink()
    mamlcli.report(copy)
    with opened(browser, "") as page:
        page.set_content((copy / "report.html").read_text())
        assert page.locator("figure img").evaluate("image => image.naturalWidth") > 300


def test_runs_stand_side_by_side_with_what_differs(run: Path, copy: Path, tmp_path: Path) -> None:
    for stem in ("fits", "loss"):
        (copy / f"{stem}.figure.json").unlink()
        (copy / f"{stem}.png").unlink()
    config = (copy / "config.yaml").read_text()
    (copy / "config.yaml").write_text(config.replace("lr: 0.001", "lr: 0.5"))
    result = mamlcli.report(run, copy, out=tmp_path / "both.html")
    said = result.markdown.read_text()
    named = " | ".join(escaped(f"tiny ({path})") for path in (run, copy))
    assert f"| key | {named} |\n|---|---|---|\n| outer.lr | 0.001 | 0.5 |\n\n" in said
    assert result.html.read_text().count("<svg") == 5  # a loss is drawn from the metrics
    ids = re.findall(r' id="([^"]+)"', result.html.read_text())
    assert len(set(ids)) == len(ids)


def test_a_report_replaces_reports_alone(copy: Path, tmp_path: Path) -> None:
    for file in (*copy.glob("*.figure.json"), *copy.glob("*.png"), copy / "metrics.jsonl"):
        file.unlink()
    ours, other = tmp_path / "ours.html", tmp_path / "other.html"
    for _ in range(2):
        mamlcli.report(copy, out=ours)
    other.with_suffix(".md").write_text("# my notes\n")
    with pytest.raises(RunFolderError, match="is no report; name another file"):
        mamlcli.report(copy, out=other)
    assert not other.exists()
    assert other.with_suffix(".md").read_text() == "# my notes\n"
    with pytest.raises(UsageError, match=r"name ends with \.html"):
        mamlcli.report(copy, out=tmp_path / "page.pdf")
    with pytest.raises(CheckpointError, match="no such run folder"):
        mamlcli.report(tmp_path / "missing")
    with pytest.raises(CheckpointError, match=r"run\.json cannot be read"):
        mamlcli.report(tmp_path)


def test_a_comparison_and_the_newest_run_are_reported_from_the_command_line(maml: Maml) -> None:
    assert maml("compare-orders", "-c", "tiny.yaml", "--out", "both", "-q").code == 0
    outcome = maml("report", "both")
    assert outcome.out == "report       both/report.html\n             both/report.md\n"
    said = Path("both/report.md").read_text()
    assert said.startswith("# tiny: first against second order (done)\n")
    assert "maml compare-orders --config both/config.yaml\n" in said
    assert said.count("\n### Second order") == 2
    assert maml("report").code == 4
    Path("outputs/tiny").mkdir(parents=True)
    Path("both/second").rename("outputs/tiny/second")
    outcome = maml("report")
    assert "reporting the run that finished last: outputs/tiny/second\n" in outcome.err
    assert Path("outputs/tiny/second/report.html").exists()


def test_a_colour_keeps_its_hue_and_is_light_enough_on_black() -> None:
    assert on_black("#777777") == "#9e9e9e"
    assert on_black("#ffc0cb") == "#ffc0cb"
    for color in ("#0072b2", "#d55e00", "#009e73"):
        before, after = (colorsys.rgb_to_hls(*bytes.fromhex(one[1:])) for one in (color, on_black(color)))
        assert before[0] == pytest.approx(after[0], abs=0.01)
        assert after[1] > before[1]
