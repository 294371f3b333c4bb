"""What figures show is what their rows say: bands, lines, legends and limits, read back from matplotlib's artists."""

import csv
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from numpy.typing import NDArray

import mamlcli
from mamlcli import Config
from mamlcli.figures.adaptation import adaptation_figure, order_adaptation_figure, reproduction_figure
from mamlcli.figures.training import cosine_figure, loss_figure, order_learning_figure
from mamlcli.runs.folder import open_run
from mamlcli.types import Row

STEPS = 100 * np.arange(1, 401)
Values = NDArray[np.float64]


def losses(num_seeds: int, num_steps: int = len(STEPS), *, level: float = 1.0, key: int = 0) -> Values:
    """Losses as noisy as those of a meta-batch of few tasks, (seeds, logged steps)."""
    return level * np.exp(np.random.default_rng(key).normal(size=(num_seeds, num_steps)))


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


def training_figures(num_seeds: int) -> list[tuple[Figure, list[Values]]]:
    """Each figure of a training, and the values behind its bands in the order of its legend."""
    one, other = losses(num_seeds, level=3.0, key=1), losses(num_seeds, level=0.3, key=2)
    cosines = np.tanh(np.random.default_rng(3).normal(size=(num_seeds, len(STEPS))))
    orders = training_rows(one, one, order="first") + training_rows(other, other, order="second")
    return [
        (loss_figure(training_rows(one, other), title="loss"), [one, other]),
        (order_learning_figure(orders, title="learning"), [one, other]),
        (cosine_figure(cosine_rows(cosines), title="cosine"), [cosines]),
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


def test_legends_and_labels_are_whole_inside_the_figure() -> None:
    drawn = [figure for figure, _ in training_figures(3)]
    wide = [row for model in ("teacher", "student") for row in adaptation_rows([3.0, 1.0, None], 1.5, model=model)]
    for figure in (*drawn, adaptation_figure(wide, title=""), reproduction_figure(curve_rows(), title="")):
        figure.draw_without_rendering()
        texts = [figure.axes[0].yaxis.label, figure.axes[0].xaxis.label, figure.legends[0]]
        for text in texts:
            box = text.get_window_extent()
            assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1
            assert figure.bbox.y0 <= box.y0 < box.y1 <= figure.bbox.y1


def test_a_smoothed_line_says_over_how_many_logged_steps() -> None:
    before, after = losses(3, key=1), losses(3, key=2)
    figure = loss_figure(training_rows(before, after), title="")
    assert "line: mean of 3 seeds, moving mean over 9 logged steps" in legend(figure)
    assert "thin: each seed, smoothed alike" in legend(figure)
    for label, table in (("before adaptation", before), ("after adaptation", after)):
        drawn = line_named(figure.axes[0], label)
        expected = np.convolve(table.mean(axis=0), np.full(9, 1 / 9), mode="valid")
        np.testing.assert_allclose(drawn[4:-4], expected, rtol=1e-12)
        np.testing.assert_allclose(drawn[0], table.mean(axis=0)[:5].mean(), rtol=1e-12)


def test_a_line_of_few_logged_steps_is_not_smoothed_and_not_called_so() -> None:
    after = losses(3, 99)
    figure = loss_figure(training_rows(losses(3, 99, key=5), after), title="")
    assert not any("moving" in text or "alike" in text for text in legend(figure))
    np.testing.assert_allclose(line_named(figure.axes[0], "after adaptation"), after.mean(axis=0), rtol=1e-12)


def test_a_seed_alone_is_shown_as_it_is_beside_its_moving_mean() -> None:
    (after,) = losses(1, key=2)
    figure = loss_figure(training_rows(losses(1, key=1), after[None]), title="")
    assert not bands(figure.axes[0])
    assert any(np.array_equal(line.get_ydata(), after) for line in figure.axes[0].lines)
    assert "thin: each logged step, not smoothed" in legend(figure)
    assert "line: one seed, moving mean over 9 logged steps" in legend(figure)
    assert not any("range" in text for text in legend(figure))


def test_a_band_can_be_made_from_the_csv_beside_the_figure(tiny: Config, tmp_path: Path) -> None:
    result = mamlcli.train(tiny, out=tmp_path / "run")
    _, after = bands(loss_figure(open_run(result.run).metrics.read(), title="").axes[0])
    rows = list(csv.DictReader((result.run / "loss.csv").read_text().splitlines()))
    own = {step: [float(row["post_adapt_loss"]) for row in rows if float(row["step"]) == step] for step in edges(after)}
    assert [len(values) for values in own.values()] == [2] * 4  # two seeds, at steps 1, 4, 8 and 12
    assert edges(after) == {step: (min(values), max(values)) for step, values in own.items()}


@pytest.mark.parametrize("draw", [order_adaptation_figure, reproduction_figure])
def test_limits_of_panels_keep_the_intervals_of_every_panel_inside(draw: Callable[..., Figure]) -> None:
    # The last panel reaches lower than the first, and the widest interval is in the middle.
    rows = [
        row
        for order in ("first", "second")
        for shots, means, half in ((5, [3.0, 1.0, 0.8], 0.1), (10, [3.0, 0.5, 0.3], 0.9), (20, [3.0, 0.1, 0.02], 0.5))
        for row in adaptation_rows(means, half, shots=shots, order=order, curve=order)
    ]
    figure = draw(rows, title="")
    for axes in figure.axes:
        assert_all_inside(axes, at_least=12)
    assert legend(figure)[0] == "", "nothing is cut, and the figure says so"
    assert legend(figure)[-1] == "shaded: 95% interval of the mean over seeds"


def test_limits_of_an_adaptation_keep_intervals_inside_and_the_legend_names_them() -> None:
    rows = adaptation_rows([3.0, 1.0, 0.8], 0.1) + adaptation_rows([3.0, 0.2, 0.1], 0.95, shots=10)
    figure = adaptation_figure(rows, title="")
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


def test_a_figure_that_cuts_diverging_tasks_says_where() -> None:
    rows = adaptation_rows([3.0, 1.0, 80.0, None], 0.1, curve="a") + adaptation_rows([3.0, 1.0, 0.9], 0.2, curve="b")
    figure = reproduction_figure(rows, title="")
    assert figure.axes[0].get_ylim()[1] == pytest.approx(6.0)  # twice what it is before adaptation
    assert "cut at 6, lines and bands go on above" in legend(figure)[0]
    assert "where a line is missing it is not finite" in legend(figure)[0]
    (low, _), (lowest, _) = figure.axes[0].get_ylim(), edges(bands(figure.axes[0])[1])[2.0]
    assert low < lowest


@pytest.mark.parametrize("draw", [adaptation_figure, order_adaptation_figure, reproduction_figure])
def test_an_interval_that_a_logarithmic_axis_cannot_show_is_said_to_leave(draw: Callable[..., Figure]) -> None:
    figure = draw(adaptation_rows([3.0, 1.0, 0.5], 1.5, order="first", curve="wide"), title="")
    assert legend(figure)[0].endswith("what leaves at the bottom reaches zero or below")
    assert 0 < figure.axes[0].get_ylim()[0] < 0.5
    assert edges(bands(figure.axes[0])[0])[1.0] == pytest.approx((-0.5, 2.5)), "the band is the interval, not a stub"


def test_a_loss_that_is_not_finite_leaves_a_gap_that_is_said() -> None:
    after = losses(3, 50)
    rows = training_rows(after, after)
    rows[-1]["post_adapt_loss"] = None
    figure = loss_figure(rows, title="")
    assert legend(figure)[0] == "where a line is missing it is not finite"
    assert np.isnan(line_named(figure.axes[0], "after adaptation")[-1])
    figure.draw_without_rendering()


def test_a_figure_without_a_finite_value_says_so() -> None:
    figure = order_adaptation_figure(adaptation_rows([None, None], 0.1, order="first"), title="")
    assert [text.get_text() for text in figure.axes[0].texts] == ["no finite value to show"]


def test_a_title_of_two_lines_has_two_lines_and_no_other_break() -> None:
    after = losses(2, 4)
    figure = loss_figure(training_rows(after, after), title=("one\nname", "and its interval"))
    assert figure.axes[0].get_title() == "one\\nname\nand its interval"
