"""Pictures of the trade-off and of the ties over time."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from tiegym import plots
from tiegym.run_folders import Run


def run(perplexity, params=10**6, ties=((0, 0, 0), (0, 1, 1)), diverged=False):
    steps = [
        {"episode": 0, "iteration": 4 * (k + 1), "ties": list(vector)}
        for k, vector in enumerate(ties)
    ]
    final = {"episode": 0, "trainable_params": params, "test_perplexity": perplexity}
    return Run(Path("run"), {}, steps, {"final": final | {"diverged": diverged}})


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
        row("small", run(30, 10**6), run(32, 10**6)),
        row("large", run(20, 4 * 10**6)),
        row("worse", run(25, 5 * 10**6), run(9e9, 10**6, diverged=True)),
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
    zero, one = to_rgb(plots.color(0)), to_rgb(plots.color(1))
    expected = [[zero, zero], [zero, one], [zero, one]]  # layers upwards, steps to the right
    np.testing.assert_allclose(image.get_array(), expected)
    assert list(image.get_extent()) == [0, 8, -0.5, 2.5]
    with pytest.raises(ValueError, match="rows is empty"):
        plots.plot_ties([], tmp_path / "none.png")
