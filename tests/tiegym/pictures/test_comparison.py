"""Pictures of comparisons: the results, the trade-off, the ties over time."""

import itertools
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from tiegym.pictures import comparison as plots
from tiegym.pictures.colors import color
from tiegym.pictures.tie_film import CELL, tie_film
from tiegym.runs.folder import Run


def run(perplexity, n_steps=10, params=10**6, ties=None, diverged=False):
    ties = [(0, 0, 0)] * n_steps if ties is None else ties
    steps = [
        {
            "episode": 0,
            "iteration": 4 * k,
            "perplexity": perplexity + 100 / k,
            "ties": list(vector),
        }
        for k, vector in enumerate(ties, 1)
    ]
    final = {
        "episode": 0,
        "n_independent": 2,
        "trainable_params": params,
        "diverged": diverged,
        "test_perplexity": 4.8e8 if diverged else perplexity,
    }
    return Run(Path("run"), {}, steps, {"final": final})


def row(policy, *runs):
    return SimpleNamespace(policy=policy, runs=runs)


@pytest.fixture
def figures(monkeypatch):
    """The figures that a test makes, to look into them before they are pixels."""
    made = []

    class Kept(Figure):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            made.append(self)

    monkeypatch.setattr(plots, "Figure", Kept)
    return made


points = st.tuples(st.integers(0, 9), st.integers(0, 9))


@given(st.lists(points, min_size=1, max_size=12))
def test_the_front_is_what_no_other_point_beats(given_points):
    def beaten(point):
        return any(
            other != point and other[0] <= point[0] and other[1] <= point[1]
            for other in given_points
        )

    expected = sorted({point for point in given_points if not beaten(point)})
    assert plots.pareto_front(given_points) == expected


def test_the_trade_off_has_a_point_for_each_policy_and_its_front(tmp_path, figures):
    rows = [
        row("small", run(30, params=10**6), run(32, params=10**6)),
        row("large", run(20, params=4 * 10**6)),
        row("worse", run(25, params=5 * 10**6), run(9e9, params=10**6, diverged=True)),
    ]
    plots.plot_pareto(rows, tmp_path / "pareto.png")
    assert (tmp_path / "pareto.png").read_bytes().startswith(b"\x89PNG")
    (axes,) = figures[0].axes
    drawn = {
        line.get_label(): (line.get_xdata()[0], line.get_ydata()[0])
        for line in axes.lines
        if line.get_marker() in plots.MARKERS
    }
    assert drawn == {"small": (1, 31), "large": (4, 20), "worse": (5, 25)}
    front = next(line for line in axes.lines if line.get_linestyle() == "--")
    assert list(zip(*front.get_data(), strict=True)) == [(1, 31), (4, 20)]


def test_a_trade_off_of_diverged_runs_alone_is_refused(tmp_path):
    with pytest.raises(ValueError, match="all of them diverged"):
        plots.plot_pareto([row("wild", run(9e9, diverged=True))], tmp_path / "pareto.png")
    assert not list(tmp_path.iterdir())


def test_the_ties_over_time_are_coloured_by_the_layer_that_is_used(tmp_path, figures):
    # Layer 2 is tied to 1; in the first step it thereby uses layer 0.
    plots.plot_ties([row("a", run(20, ties=((0, 0, 1), (0, 1, 1))))], tmp_path / "ties.png")
    assert (tmp_path / "ties.png").read_bytes().startswith(b"\x89PNG")
    (image,) = figures[0].axes[0].get_images()
    zero, one = to_rgb(color(0)), to_rgb(color(1))
    expected = [[zero, one], [zero, one], [zero, zero]]  # layers downwards, steps to the right
    np.testing.assert_allclose(image.get_array()[CELL // 2 :: CELL, :, :3] / 255, expected)
    assert image.origin == "upper"
    assert list(image.get_extent()) == [0, 8, -0.5, 2.5]
    with pytest.raises(ValueError, match="rows is empty"):
        plots.plot_ties([], tmp_path / "none.png")


def test_own_weights_are_a_bar_and_others_a_thin_line_on_nothing():
    film = tie_film([[0, 0, 2], [0, 1, 1]])
    assert film.shape == (3 * CELL, 2, 4)
    opaque = film.reshape(3, CELL, 2, 4)[..., 3] == 255
    assert opaque.sum(axis=1).tolist() == [[5, 2], [2, 5], [5, 5]]  # layer 2 on top
    assert set(np.unique(film[..., 3])) == {0, 255}


def test_many_layers_have_room_for_bars_and_lines(tmp_path, figures):
    plots.plot_ties([row("deep", run(20, ties=[range(48)] * 2))] * 4, tmp_path / "ties.png")
    figures[0].canvas.draw()
    assert figures[0].axes[0].get_window_extent().height >= 48 * CELL


def test_many_policies_are_coloured_by_kind_and_the_front_is_named(tmp_path, figures):
    def one(program, k):
        base = run(20 + k, params=(1 + k) * 10**6)
        return Run(
            base.folder, {"program": program, "protocol": "online"}, base.steps, base.summary
        )

    rows = [
        row(f"${program}$ {k}", one(program, 3 * k + place))
        for k in range(4)
        for place, program in enumerate(("random_tying", "fixed", "ppo"))
    ]
    plots.plot_pareto(rows, tmp_path / "pareto.png")
    axes, (legend,) = figures[0].axes[0], figures[0].legends
    names = [text.get_text() for text in legend.get_texts()]
    assert len(names) == 12 + 3  # each policy, and each kind above its own
    assert names[0] == "agent that learns in the run"
    points = [line for line in axes.lines if line.get_marker() in plots.MARKERS]
    assert len({line.get_color() for line in points}) == 3
    assert len({(line.get_color(), line.get_marker()) for line in points}) == 12
    assert [text.get_text() for text in axes.texts] == [r"\$random_tying\$ 0"]
    plots.plot_comparison(rows, tmp_path / "comparison.png")
    right = figures[1].axes[1]
    assert len({line.get_color() for line in right.lines}) == 3
    assert len(right.get_legend().get_texts()) == 3


def test_a_comparison_is_one_png_with_each_policy_and_each_run(tmp_path, figures):
    rows = [
        row("random", run(20), run(22), run(21)),
        row("cycle:2", run(30, 8), run(31)),
    ]
    plots.plot_comparison(rows, tmp_path / "comparison.png")
    assert [path.name for path in tmp_path.iterdir()] == ["comparison.png"]
    assert (tmp_path / "comparison.png").read_bytes().startswith(b"\x89PNG")
    left, right = figures[0].axes
    dots = [line.get_xdata().tolist() for line in left.lines if line.get_marker() == "o"]
    assert dots == [[20, 22, 21], [30, 31]]
    means = [line.get_xdata()[0] for line in left.lines if line.get_marker() == "None"]
    assert means == [21, 30.5]
    labels = [label.get_text() for label in left.get_yticklabels()]
    assert labels[0] == "random\n2 independent, 1 M parameters"
    assert [text.get_text() for text in right.get_legend().get_texts()] == ["random", "cycle:2"]
    curve = right.lines[0]
    assert curve.get_xdata().tolist() == [4 * k for k in range(1, 11)]
    expected = np.exp(np.mean(np.log([20 + 10, 22 + 10, 21 + 10])))
    assert curve.get_ydata()[-1] == pytest.approx(expected)


def test_names_with_many_options_take_several_lines_and_nothing_overlaps(tmp_path, figures):
    options = "--env.private norms+scales+lora:4 --env.tie-change soft --env.lr-decay cosine"
    rows = [row(f"random {options} --env.warmup-iters {k}", run(20 + k)) for k in range(4)]
    plots.plot_comparison(rows, tmp_path / "comparison.png")
    plots.plot_ties(rows, tmp_path / "ties.png")
    comparison, over_time = figures
    left, right = comparison.axes
    assert left.get_window_extent().width > 200  # of 1,210: the names don't squeeze the axes
    assert right.get_window_extent().width > 200
    labels = [label.get_window_extent() for label in left.get_yticklabels()]
    assert all(a.y0 >= b.y1 for a, b in itertools.pairwise(labels))
    legend, room = right.get_legend().get_window_extent(), right.get_window_extent()
    assert room.x0 <= legend.x0
    titles = [axes._left_title.get_window_extent() for axes in over_time.axes[:3]]
    assert all(a.x1 <= b.x0 for a, b in itertools.pairwise(titles))


def test_the_steep_beginning_of_a_curve_is_left_out_of_the_scale(tmp_path, figures):
    steep = [1000.0] * 9 + [40.0] * 11 + [30.0] * 20  # from the first quarter on it is 40 at most
    rows = [row("tied", run(20, 40)), row("cycle:2", run(20, 40))]
    for policy in rows:
        for step, perplexity in zip(policy.runs[0].steps, steep, strict=True):
            step["perplexity"] = perplexity
    plots.plot_comparison(rows, tmp_path / "a.png")
    low, high = figures[0].axes[1].get_ylim()
    assert 20 < low < 30
    assert 40 < high < 60


def test_a_curve_that_rises_is_shown_whole_but_for_what_lies_above_its_beginning(tmp_path, figures):
    rising = run(20, 40)
    for step, perplexity in zip(rising.steps, [50.0] * 20 + [9e9] * 20, strict=True):
        step["perplexity"] = perplexity
    plots.plot_comparison([row("wild", rising)], tmp_path / "a.png")
    low, high = figures[0].axes[1].get_ylim()
    assert low < 50 < high < 100


def test_a_diverged_run_is_marked_and_does_not_squeeze_the_others(tmp_path, figures):
    plots.plot_comparison([row("wild", run(20), run(20, diverged=True))], tmp_path / "a.png")
    left = figures[0].axes[0]
    assert left.get_xlim()[1] < 100
    assert left.get_yticklabels()[0].get_text().endswith("1 of 2 diverged")
    plots.plot_comparison([row("wild", run(20, 1, diverged=True))], tmp_path / "b.png")


def test_the_names_of_many_policies_stand_at_the_ends_of_their_curves(tmp_path, figures):
    rows = [row(f"policy {k}", run(20 + (7 * k) % 20)) for k in range(20)]
    plots.plot_comparison(rows, tmp_path / "many.png")
    right = figures[0].axes[1]
    lines = {line.get_label(): line for line in right.lines}
    names = sorted(right.texts, key=lambda text: text.get_position()[1])
    ends = [lines[name.get_text()].get_ydata()[-1] for name in names]
    assert len(ends) == 20
    assert ends == sorted(ends)  # no two of the lines between names and ends cross
    assert [name.xy[1] for name in names] == ends
    assert not right.collections  # bands


def test_a_single_run_is_drawn(tmp_path, figures):
    plots.plot_comparison([row("tied", run(20, 1))], tmp_path / "one.png")
    assert (tmp_path / "one.png").read_bytes().startswith(b"\x89PNG")
    left, right = figures[0].axes
    dots = [line.get_xdata().tolist() for line in left.lines if line.get_marker() == "o"]
    assert dots == [[20]]
    assert right.lines[0].get_xdata().tolist() == [4]


def test_a_comparison_without_rows_or_with_an_unfinished_run_is_refused(tmp_path):
    with pytest.raises(ValueError, match="rows is empty"):
        plots.plot_comparison([], tmp_path / "a.png")
    unfinished = Run(Path("runs/x"), {}, [], None)
    with pytest.raises(ValueError, match="runs/x has no test perplexity"):
        plots.plot_comparison([row("tied", run(20), unfinished)], tmp_path / "a.png")
    assert not list(tmp_path.iterdir())


def test_of_two_policies_of_one_size_only_the_better_is_on_the_front(tmp_path, figures):
    sizes = (17_513, 12_600, 10_137, 7_657)  # the mean of their millions depends on the order
    better = [run(21, params=size) for size in sizes[::-1]]
    for order in (sizes, sizes[::-1]):
        worse = [run(22, params=size) for size in order]
        plots.plot_pareto([row("better", *better), row("worse", *worse)], tmp_path / "pareto.png")
        (axes,) = figures[-1].axes
        assert [text.get_text() for text in axes.texts] == ["better"]


def test_a_policy_with_the_name_of_a_kind_is_no_heading(tmp_path, figures):
    plots.plot_pareto([row("random", run(20)), row("other", run(21))], tmp_path / "pareto.png")
    (legend,) = figures[0].legends
    assert {text.get_fontweight() for text in legend.get_texts()} == {"normal"}
