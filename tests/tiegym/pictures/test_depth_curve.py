"""The picture of perplexity against depth."""

import pytest
from matplotlib.figure import Figure

from tiegym.pictures import depth_curve
from tiegym.pictures.depth_curve import plot_depth_curve

CURVES = {"routers": [(4.0, 10.0), (2.0, 12.0)], "$first$": [(1.0, 40.0), (4.0, 10.0)]}


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_each_curve_is_a_line_in_the_order_of_depth(tmp_path, monkeypatch, theme):
    made = []
    monkeypatch.setattr(
        depth_curve, "Figure", lambda *args, **named: made.append(Figure(*args, **named)) or made[0]
    )
    plot_depth_curve(CURVES, tmp_path / "depth.png", theme, "a title")
    (axes,) = made[0].axes
    assert [line.get_xdata().tolist() for line in axes.lines] == [[2, 4], [1, 4]]
    assert [line.get_ydata().tolist() for line in axes.lines] == [[12, 10], [40, 10]]
    assert [line.get_label() for line in axes.lines] == ["routers", r"\$first\$"]
    assert (tmp_path / "depth.png").read_bytes().startswith(b"\x89PNG")


def test_nothing_to_draw_is_an_error(tmp_path):
    for curves in ({}, {"routers": []}):
        with pytest.raises(ValueError, match="must be at least one, each with points"):
            plot_depth_curve(curves, tmp_path / "depth.png")
