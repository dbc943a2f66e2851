"""Estimates with their intervals."""

import pytest
from matplotlib.figure import Figure

from tiegym.pictures import forest
from tiegym.pictures.forest import Estimate, plot_forest


def test_each_estimate_is_drawn_with_its_interval_and_full_if_starred(tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(forest, "Figure", lambda **given: made.append(Figure(**given)) or made[-1])
    estimates = [Estimate("plain", 0.1, 0.05, 0.15), Estimate("soft", 0.02, -0.01, 0.05, True)]
    plot_forest({"a": estimates, "b": estimates[::1]}, "nats", tmp_path / "forest.png")
    assert (tmp_path / "forest.png").read_bytes().startswith(b"\x89PNG")
    for axes in made[0].axes:
        spans = [lines.get_segments()[0][:, 0].tolist() for lines in axes.collections]
        assert spans == [[0.05, 0.15], [-0.01, 0.05]]
        dots = [line for line in axes.lines if line.get_marker() == "o"]
        assert [dot.get_xdata()[0] for dot in dots] == [0.1, 0.02]
        assert [dot.get_markerfacecolor() == "white" for dot in dots] == [True, False]
        assert [line.get_xdata()[0] for line in axes.lines[:2]] == [0, 0.1]  # zero, and the first
    labels = [label.get_text() for label in made[0].axes[0].get_yticklabels()]
    assert labels == ["plain", "soft"]


@pytest.mark.parametrize("panels", [{}, {"a": []}, {"a": [Estimate("x", 0, 0, 0)], "b": []}])
def test_panels_without_the_same_estimates_are_refused(panels, tmp_path):
    with pytest.raises(ValueError, match="all with the same names"):
        plot_forest(panels, "nats", tmp_path / "none.png")
