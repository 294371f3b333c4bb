"""What figures show is what their rows say: bands, lines, legends and limits, read back from matplotlib's artists."""

import csv
import io
from collections.abc import Iterable, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from numpy.typing import NDArray

import mamlcli
from mamlcli import Config
from mamlcli.config.shipped import shipped_curves
from mamlcli.figures.by_name import FIGURES
from mamlcli.figures.drawing import Drawing
from mamlcli.figures.style import LOOKS, Look
from mamlcli.pages.reproduction import curve_styles
from mamlcli.runs.folder import open_run
from mamlcli.runs.named import write_figure
from mamlcli.types import Row

PAGE, COLUMN = LOOKS["page"], LOOKS["column"]
STEPS = 100 * np.arange(1, 401)
Values = NDArray[np.float64]


def losses(num_seeds: int, num_steps: int = len(STEPS), *, level: float = 1.0, key: int = 0) -> Values:
    """Losses as noisy as those of a meta-batch of few tasks, (seeds, logged steps)."""
    return level * np.exp(np.random.default_rng(key).normal(size=(num_seeds, num_steps)))


def drawn(name: str, rows: Sequence[Row], title: Any = "", look: Look = PAGE, **labels: Any) -> Figure:
    return Drawing(name, rows, {"title": title, **labels}).drawn(look)


def training_rows(before: Values, after: Values, **more: str) -> list[Row]:
    return [
        {"step": int(step), "seed": seed, "pre_adapt_loss": before[seed, i], "post_adapt_loss": after[seed, i], **more}
        for i, step in enumerate(STEPS[: after.shape[1]])
        for seed in range(len(after))
    ]


def cosine_rows(cosines: Values) -> list[Row]:
    return [
        {"step": int(step), "seed": seed, "cosine": cosines[seed, i]}
        for i, step in enumerate(STEPS[: cosines.shape[1]])
        for seed in range(len(cosines))
    ]


def training_figures(num_seeds: int, look: Look = PAGE) -> list[tuple[Figure, list[Values]]]:
    """Each figure of a training, and the values behind its bands in the order of its legend."""
    one, other = losses(num_seeds, level=3.0, key=1), losses(num_seeds, level=0.3, key=2)
    cosines = np.tanh(np.random.default_rng(3).normal(size=(num_seeds, len(STEPS))))
    orders = training_rows(one, one, order="first") + training_rows(other, other, order="second")
    return [
        (drawn("loss", training_rows(one, other), title="loss", look=look), [one, other]),
        (drawn("learning", orders, title="learning", look=look), [one, other]),
        (drawn("cosine", cosine_rows(cosines), title="cosine", look=look), [cosines]),
    ]


def adaptation_rows(means: Iterable[float | None], half: float, *, shots: int = 5, **more: str) -> list[Row]:
    return [
        {"shots": shots, "inner_steps": step, "mean": mean, "ci95": None if mean is None else half * mean}
        | {"median": mean, "interval": "over seeds", **more}
        for step, mean in enumerate(means)
    ]


def curve_rows() -> list[Row]:
    """Five methods at three K, two of which diverge."""
    names = ("joint training", "MAML, alpha 0.001", "MAML, alpha 0.01", "oracle", "random initialisation")
    return [
        row
        for name in names
        for shots in (5, 10, 20)
        for row in adaptation_rows([3.0, 1.0, None if name == "oracle" else 90.0], 1.5, shots=shots, curve=name)
    ]


def bands(axes: Axes) -> list[PolyCollection]:
    """The bands of a panel; those that stand in the legend alone are empty."""
    found = [band for band in axes.collections if isinstance(band, PolyCollection)]
    return [band for band in found if len(np.concatenate([path.vertices for path in band.get_paths()] or [[]]))]


def edges(band: PolyCollection) -> dict[float, tuple[float, float]]:
    """The lowest and highest point of a polygon at each of its x."""
    corners = np.concatenate([np.asarray(path.vertices) for path in band.get_paths()])
    return {x: (corners[corners[:, 0] == x, 1].min(), corners[corners[:, 0] == x, 1].max()) for x in set(corners[:, 0])}


def line_named(axes: Axes, label: str) -> Values:
    (line,) = (line for line in axes.lines if line.get_label() == label)
    return np.asarray(line.get_ydata(), dtype=np.float64)


def legend(figure: Figure) -> list[str]:
    """What the legend says, a note over it first."""
    (found,) = figure.legends
    return [found.get_title().get_text(), *(text.get_text() for text in found.get_texts())]


def assert_all_inside(axes: Axes, at_least: int) -> None:
    """No band leaves the axes, but for what is not above zero on a logarithmic one."""
    low, high = axes.get_ylim()
    ends = [end for band in bands(axes) for pair in edges(band).values() for end in pair]
    assert len(ends) >= at_least
    if axes.get_yscale() == "log":
        ends = [end for end in ends if end > 0]
    assert low < min(ends)
    assert max(ends) < high


@pytest.mark.parametrize("num_seeds", [3, 7])
def test_a_band_is_the_range_of_the_seeds_own_values(num_seeds: int) -> None:
    for figure, tables in training_figures(num_seeds):
        drawn = bands(figure.axes[0])
        assert len(drawn) == len(tables)
        for band, table in zip(drawn, tables, strict=True):
            expected = {
                float(step): (low, high)
                for step, low, high in zip(STEPS, np.min(table, 0), np.max(table, 0), strict=True)
            }
            assert edges(band) == expected
        meaning = f"shaded: range of {num_seeds} seeds at each logged step, not smoothed"
        assert meaning in legend(figure)


@pytest.mark.parametrize("num_seeds", [1, 3, 7])
def test_limits_of_a_training_keep_bands_and_lines_inside(num_seeds: int) -> None:
    for figure, tables in training_figures(num_seeds):
        low, high = figure.axes[0].get_ylim()
        assert low < min(table.min() for table in tables)
        assert max(table.max() for table in tables) < high


def fit_rows(models: Sequence[str] = ("",), *, loss: float | None = 0.5) -> list[Row]:
    """Three tasks, of which each predictor has a truth, three curves with a loss, and a support sample."""
    x = np.linspace(-5.0, 5.0, 9)
    rows: list[Row] = []
    for place in [{"model": model, "task": task} for task in (0, 1, 2) for model in models]:
        curves = ("truth", "before adaptation", "after 1 inner step", "after 10 inner steps")
        for size, curve in enumerate(curves):
            lines = zip(x.tolist(), (size * np.sin(x)).tolist(), strict=True)
            rows += [{**place, "shown": "line", "curve": curve, "x": one, "y": other} for one, other in lines]
            if size:
                rows.append({**place, "shown": "loss", "curve": curve, "x": None, "y": loss and loss / size})
        rows.append({**place, "shown": "points", "curve": "support", "x": 1.0, "y": 2.0})
    return rows


def compared_rows() -> list[Row]:
    """Curves of three runs, two of one method, and their differences to the first."""
    return [
        {**row, "run": name, "difference": -0.3 * index, "low": -0.5 * index, "high": 0.1, "reference": 2.0}
        for index, name in enumerate(COMPARED)
        for shots in (5, 10)
        for row in adaptation_rows([3.0, 1.0 + index, None], 0.1, shots=shots)
    ]


COMPARED = {"a baseline": "second-order MAML", "another": "joint training", "a third of a long name": "joint training"}


def rate_rows() -> list[Row]:
    names = [f"teacher.layer{layer}.{part}" for layer in range(3) for part in ("weight", "bias")]
    return [{"tensor": name, "step": 1, "begun": 0.1, "low": -0.1, "median": 0.2, "high": 0.4} for name in names]


def slot_rows() -> list[Row]:
    return [
        {"step": step, "seed": seed, "slot": slot, "corrupted": slot < 2, "weight": 1 - step * (slot < 2) / 100 + seed}
        for step in (1, 50, 100)
        for seed in (0, 1, 2)
        for slot in range(5)
    ]


def prediction_rows() -> list[Row]:
    curves = [
        {"target": "y", "task": task, "curve": curve, "x": x, "mean": x, "low": x - 1, "high": x + 1}
        for task in ("one", "two", "three", "four")
        for curve in ("before adaptation", "after 5 inner steps")
        for x in (0.0, 1.0)
    ]
    return [*curves, *({"target": "y", "task": task, "x": 0.5, "y": 0.5} for task in ("one", "two", "three", "four"))]


INNER_LR = "algorithm.inner_lr"
SWEPT = {INNER_LR: ("0.003", "0.01", "0.03"), "outer.lr": ("0.001", "0.0003")}


def sweep_rows() -> list[Row]:
    """Six members of a grid, of which one has diverged."""
    members = [{INNER_LR: one, "outer.lr": other} for other in SWEPT["outer.lr"] for one in SWEPT[INNER_LR]]
    means: list[float | None] = [0.5, 1.25, 20.0, None, 3.0, 0.75]
    ranks = [1, 3, 5, 6, 4, 2]
    return [
        {**member, "mean": mean, "ci95": None if mean is None else mean / 4, "rank": rank}
        for member, mean, rank in zip(members, means, ranks, strict=True)
    ]


def error_rows() -> list[Row]:
    lines = {"float64": 1.0, "float32, which trains": 3.0, "first order, without the term": None}
    return [
        {"line": line, "x": step, "error": None if factor is None and step < 1 else (factor or 1.0) * step}
        for line, factor in lines.items()
        for step in (1e-4, 1e-2, 1.0)
    ]


def every_figure(look: Look) -> dict[str, Figure]:
    """One of each, as wide as asked for."""
    training = [figure for figure, _ in training_figures(3, look)]
    wide = [row for model in ("teacher", "student") for row in adaptation_rows([3.0, 1.0, None], 1.5, model=model)]
    ordered = [row for order in ("first", "second") for row in adaptation_rows([3.0, 1.0], 0.1, order=order)]
    title = "a name that is long enough to need more than one line of a narrow column: second-order MAML, 3 seeds"
    predictions = {"x_label": "x", "task_label": "year", "seeds": (0, 1, 2)}
    beside = {"baseline": "a baseline", "margin": 0.05, "interval": "over seeds and tasks"}
    at = {"x_label": "difference_step", "y_label": "error, relative", "at": 0.01, "at_label": "of this config: 0.01"}
    return dict(zip(("loss", "learning", "cosine"), training, strict=True)) | {
        "adaptation": drawn("adaptation", wide, title, look, bounds={"zero predictor": 4.25}),
        "order-adaptation": drawn("order-adaptation", ordered, title, look),
        "compared-adaptation": drawn("compared-adaptation", compared_rows(), title, look, methods=COMPARED),
        "differences": drawn("differences", compared_rows(), title, look, methods=COMPARED, **beside),
        "reproduction": drawn("reproduction", curve_rows(), title, look, interval="over seeds and tasks"),
        "fits": drawn("fits", fit_rows(("student", "teacher")), title, look, measured_on="on the query samples"),
        "predictions": drawn("predictions", prediction_rows(), title, look, **predictions),
        "rates": drawn("rates", rate_rows(), title, look),
        "sweep": drawn("sweep", sweep_rows(), title, look, axes=SWEPT, interval="over seeds and tasks"),
        "slot-weights": drawn("slot-weights", slot_rows(), title, look),
        "convergence": drawn("convergence", error_rows(), title, look, guides=["first order, without the term"], **at),
    }


@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
def test_all_text_of_every_figure_is_inside_it_at_its_printed_width(look: Look) -> None:
    figures = every_figure(look)
    assert figures.keys() == FIGURES.keys()
    for name, figure in figures.items():
        figure.draw_without_rendering()
        assert figure.get_figwidth() == look.width
        assert figure.get_figheight() < 11, "it fits on a page"
        texts = [artist for artist in figure.findobj(Text) if artist.get_text() and artist.get_visible()]
        assert {text.get_fontsize() for text in texts} <= {look.font_size, look.font_size - 1}
        boxes = [(text, text.get_window_extent()) for text in (*figure.texts, *figure.legends)]
        # Of the numbers on an axis, and not of those that it would have further out.
        for text, box in [*boxes, *((axes, box) for axes in figure.axes if (box := axes.get_tightbbox()))]:
            assert figure.bbox.x0 - 1 <= box.x0 < box.x1 <= figure.bbox.x1 + 1, (name, text)
            assert figure.bbox.y0 - 1 <= box.y0 < box.y1 <= figure.bbox.y1 + 1, (name, text)


@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
def test_no_legend_title_or_panel_lies_on_another(look: Look) -> None:
    for name, figure in every_figure(look).items():
        figure.draw_without_rendering()
        boxes = [box for axes in figure.axes if (box := axes.get_tightbbox())]
        boxes += [legend.get_window_extent() for legend in figure.legends]
        boxes += [text.get_window_extent() for text in figure.texts]
        for one, other in combinations(boxes, 2):
            both = Bbox.intersection(one, other)
            assert both is None or min(both.width, both.height) < 2, name


def test_lines_of_a_figure_differ_without_their_colors() -> None:
    for name, figure in every_figure(PAGE).items():
        lines = [line for line in figure.axes[0].lines if np.size(line.get_xdata()) and line.get_linestyle() != "None"]
        named = [line for line in lines if not str(line.get_label()).startswith("_")]
        looks = [(line.get_linestyle(), line.get_marker(), line.get_linewidth()) for line in named]
        assert len(looks) == len(set(looks)), name


def test_every_figure_of_steps_counts_them_in_the_same_words() -> None:
    figures = every_figure(PAGE)
    for name in ("loss", "learning", "cosine", "slot-weights"):
        assert figures[name].axes[0].get_xlabel() == "meta-update"
    for name in ("adaptation", "order-adaptation", "reproduction"):
        assert figures[name].axes[0].get_xlabel().startswith("inner step")
        assert figures[name].axes[0].get_xlim()[0] < 0, "0 is before adaptation"
    said = " ".join(text.get_text() for figure in figures.values() for text in figure.findobj(Text))
    assert "gradient step" not in said
    assert "meta-step" not in said


def test_a_panel_of_fits_says_the_loss_of_each_of_its_curves() -> None:
    for axes in drawn("fits", fit_rows()).axes:
        own = axes.get_legend()
        assert own is not None
        assert [text.get_text() for text in own.get_texts()] == ["0.50", "0.25", "0.17"]
        styles = [line.get_linestyle() for line in own.get_lines()]
        assert styles == [line.get_linestyle() for line in axes.lines[1:4]], "each beside a piece of its line"
    lost = drawn("fits", fit_rows(loss=None)).axes[0].get_legend()
    assert lost is not None
    assert {text.get_text() for text in lost.get_texts()} == {"not finite"}


@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
@pytest.mark.parametrize("kind", ["svg", "pdf", "png"])
def test_the_same_data_gives_the_same_file(tmp_path: Path, kind: str, look: Look) -> None:
    files = [tmp_path / f"{name}.{kind}" for name in ("one", "other")]
    for file in files:
        write_figure(file, drawn("fits", fit_rows(), look=look))
    one, other = (file.read_bytes() for file in files)
    assert one == other


def test_a_figure_looks_the_same_whatever_the_settings_of_its_user() -> None:
    def png() -> bytes:
        file = io.BytesIO()
        drawn("loss", training_rows(losses(1, 5), losses(1, 5))).savefig(file, format="png")
        return file.getvalue()

    before = png()
    with matplotlib.rc_context({"font.size": 30, "axes.grid": False, "lines.linewidth": 9}):
        assert png() == before


def test_a_smoothed_line_says_over_how_many_logged_steps() -> None:
    before, after = losses(3, key=1), losses(3, key=2)
    figure = drawn("loss", training_rows(before, after), title="")
    assert "line: mean of 3 seeds, moving mean over 9 logged steps" in legend(figure)
    assert "thin: each seed, smoothed alike" in legend(figure)
    for label, table in (("before adaptation", before), ("after adaptation", after)):
        line = line_named(figure.axes[0], label)
        expected = np.convolve(table.mean(axis=0), np.full(9, 1 / 9), mode="valid")
        np.testing.assert_allclose(line[4:-4], expected, rtol=1e-12)
        np.testing.assert_allclose(line[0], table.mean(axis=0)[:5].mean(), rtol=1e-12)


def test_a_line_of_few_logged_steps_is_not_smoothed_and_not_called_so() -> None:
    after = losses(3, 99)
    figure = drawn("loss", training_rows(losses(3, 99, key=5), after), title="")
    assert not any("moving" in text or "alike" in text for text in legend(figure))
    np.testing.assert_allclose(line_named(figure.axes[0], "after adaptation"), after.mean(axis=0), rtol=1e-12)


def test_a_seed_alone_is_shown_as_it_is_beside_its_moving_mean() -> None:
    (after,) = losses(1, key=2)
    figure = drawn("loss", training_rows(losses(1, key=1), after[None]), title="")
    assert not bands(figure.axes[0])
    assert any(np.array_equal(line.get_ydata(), after) for line in figure.axes[0].lines)
    assert "thin: each logged step, not smoothed" in legend(figure)
    assert "line: one seed, moving mean over 9 logged steps" in legend(figure)
    assert not any("range" in text for text in legend(figure))


def test_a_band_can_be_made_from_the_csv_beside_the_figure(tiny: Config, tmp_path: Path) -> None:
    result = mamlcli.train(tiny, out=tmp_path / "run")
    _, after = bands(drawn("loss", open_run(result.run).metrics.read(), title="").axes[0])
    rows = list(csv.DictReader((result.run / "loss.csv").read_text().splitlines()))
    own = {step: [float(row["post_adapt_loss"]) for row in rows if float(row["step"]) == step] for step in edges(after)}
    assert [len(values) for values in own.values()] == [2] * 4  # two seeds, at steps 1, 4, 8 and 12
    assert edges(after) == {step: (min(values), max(values)) for step, values in own.items()}


@pytest.mark.parametrize("draw", ["order-adaptation", "reproduction"])
def test_limits_of_panels_keep_the_intervals_of_every_panel_inside(draw: str) -> None:
    # The last panel reaches lower than the first, and the widest interval is in the middle.
    rows = [
        row
        for order in ("first", "second")
        for shots, means, half in ((5, [3.0, 1.0, 0.8], 0.1), (10, [3.0, 0.5, 0.3], 0.9), (20, [3.0, 0.1, 0.02], 0.5))
        for row in adaptation_rows(means, half, shots=shots, order=order, curve=order)
    ]
    figure = drawn(draw, rows, title="")
    for axes in figure.axes:
        assert_all_inside(axes, at_least=12)
    assert legend(figure)[0] == "", "nothing is cut, and the figure says so"
    assert legend(figure)[-1] == "shaded: 95% interval of the mean over seeds"


def test_limits_of_an_adaptation_keep_intervals_inside_and_the_legend_names_them() -> None:
    rows = adaptation_rows([3.0, 1.0, 0.8], 0.1) + adaptation_rows([3.0, 0.2, 0.1], 0.95, shots=10)
    figure = drawn("adaptation", rows, title="")
    assert_all_inside(figure.axes[0], at_least=12)
    _, half_wide = bands(figure.axes[0])
    assert edges(half_wide)[2.0] == pytest.approx((0.005, 0.195))
    assert legend(figure)[1:] == [
        "K = 5",
        "K = 10",
        "line: mean",
        "dotted: median",
        "shaded: 95% interval of the mean over seeds",
    ]


def published_rows(curve: str) -> list[Row]:
    rows = adaptation_rows([3.0, 1.0, 0.8], 0.1, curve=curve)
    rows[1] |= {"published": 0.9, "published_ci95": 0.2}
    rows[2] |= {"published": 0.5, "published_ci95": None}
    return rows


def test_published_numbers_are_drawn_with_their_intervals_in_the_colour_of_their_curve() -> None:
    figure = drawn("reproduction", [*published_rows("a"), *adaptation_rows([3.0, 2.0], 0.1, curve="b")], title="")
    curve, marks, interval, _ = figure.axes[0].lines
    assert np.asarray(marks.get_data()).tolist() == [[1.0, 2.0], [0.9, 0.5]]
    assert np.asarray(interval.get_ydata()) == pytest.approx([0.7, 1.1])
    assert {line.get_color() for line in (curve, marks, interval)} == {curve.get_color()}
    assert legend(figure)[-1] == "white marks: published, with the interval where there is one"


def test_a_curve_looks_alike_whichever_others_are_beside_it_and_a_stamp_is_written_across() -> None:
    names = [*shipped_curves(), "one of a user's own"]
    assert len(set(curve_styles(names).values())) == len(names)

    def look_of(name: str, *others: str) -> tuple[Any, ...]:
        rows = [row for curve in (*others, name) for row in adaptation_rows([3.0, 1.0], 0.1, curve=curve)]
        styles = curve_styles((*others, name))
        line = drawn("reproduction", rows, title="", styles=styles, stamp=None).axes[0].lines[-1]
        return line.get_color(), line.get_marker(), line.get_linestyle()

    seen = [look_of(name, *names[:1]) for name in names[1:]]
    assert seen == [look_of(name) for name in names[1:]]
    assert len(set(seen)) == len(seen)
    stamped = drawn("reproduction", published_rows("a"), title="", stamp="fast run")
    assert "fast run" in [text.get_text() for text in stamped.texts]


def test_a_figure_that_cuts_diverging_tasks_says_where() -> None:
    rows = adaptation_rows([3.0, 1.0, 80.0, None], 0.1, curve="a") + adaptation_rows([3.0, 1.0, 0.9], 0.2, curve="b")
    figure = drawn("reproduction", rows, title="")
    assert figure.axes[0].get_ylim()[1] == pytest.approx(6.0)  # twice what it is before adaptation
    assert "cut at 6, lines and bands go on above" in legend(figure)[0]
    assert "where a line is missing it is not finite" in legend(figure)[0]
    (low, _), (lowest, _) = figure.axes[0].get_ylim(), edges(bands(figure.axes[0])[1])[2.0]
    assert low < lowest


@pytest.mark.parametrize("draw", ["adaptation", "order-adaptation", "reproduction"])
def test_an_interval_that_a_logarithmic_axis_cannot_show_is_said_to_leave(draw: str) -> None:
    figure = drawn(draw, adaptation_rows([3.0, 1.0, 0.5], 1.5, order="first", curve="wide"), title="")
    assert legend(figure)[0].endswith("what leaves at the bottom reaches zero or below")
    assert 0 < figure.axes[0].get_ylim()[0] < 0.5
    assert edges(bands(figure.axes[0])[0])[1.0] == pytest.approx((-0.5, 2.5)), "the band is the interval, not a stub"


def test_a_loss_that_is_not_finite_leaves_a_gap_that_is_said() -> None:
    after = losses(3, 50)
    rows = training_rows(after, after)
    rows[-1]["post_adapt_loss"] = None
    figure = drawn("loss", rows, title="")
    assert legend(figure)[0] == "where a line is missing it is not finite"
    assert np.isnan(line_named(figure.axes[0], "after adaptation")[-1])
    figure.draw_without_rendering()


def test_differences_are_in_parts_of_the_baselines_loss_and_what_is_out_of_proportion_is_said_to_be_cut() -> None:
    rows = [row | {"reference": 4.0, "difference": -1.0, "low": -2.0, "high": 0.5} for row in compared_rows()]
    figure = drawn("differences", rows, methods=COMPARED, baseline="a baseline", margin=0.1)
    low, high = figure.axes[0].get_ylim()
    assert low < -50 < 12.5 < high < 30
    bars = figure.axes[0].collections[0].get_paths()[0].vertices
    assert np.asarray(bars)[:, 1].tolist() == [-50.0, 12.5]
    assert "cut" not in "".join([*legend(figure), figure.legends[0].get_title().get_text()])
    rows[-1] |= {"difference": 40.0, "low": -5.0, "high": 90.0}
    cut = drawn("differences", rows, methods=COMPARED, baseline="a baseline")
    assert "cut at 200%, bars go on above" in cut.legends[0].get_title().get_text()
    assert "bars go on below" in cut.legends[0].get_title().get_text()
    assert cut.axes[0].get_ylim() == (-105.0, 200.0)


def test_a_figure_without_a_finite_value_says_so() -> None:
    figure = drawn("order-adaptation", adaptation_rows([None, None], 0.1, order="first"), title="")
    assert [text.get_text() for text in figure.axes[0].texts] == ["no finite value to show"]


def test_a_title_of_two_lines_has_two_lines_and_no_other_break() -> None:
    after = losses(2, 4)
    figure = drawn("loss", training_rows(after, after), title=("one\nname", "and its interval"))
    assert figure.get_suptitle() == "one\\nname\nand its interval"
