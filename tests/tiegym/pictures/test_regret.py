"""The picture of regret: what is drawn where, on which scale."""

import numpy as np
import pytest
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from PIL import Image

from tiegym.pictures import regret as picture
from tiegym.pictures.regret import Curve, plot_regret

DQN = Curve(
    "dqn", (100, 1000, 10_000), [(0.09, 0.08, 0.1), (0.05, 0.04, 0.06), (0.02, -0.01, 0.05)]
)
PPO = Curve(
    "_ppo$", (100, 1000, 10_000), [(0.1, 0.09, 0.11), (0.07, 0.05, 0.09), (0.03, 0.02, 0.04)]
)
LEVELS = {"random": 0.1, "best pattern": 0.015}


@pytest.fixture
def drawn(monkeypatch):
    """The axes of the pictures that a test makes."""
    made = []

    class Kept(Figure):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            made.append(self)

    monkeypatch.setattr(picture, "Figure", Kept)
    return lambda: made[-1].axes[0]


def test_each_agent_has_a_line_with_its_intervals_and_all_else_a_level(tmp_path, drawn):
    plot_regret([DQN, PPO], LEVELS, tmp_path / "regret.png")
    dqn, ppo, random, pattern = drawn().lines
    assert dqn.get_ydata().tolist() == [0.09, 0.05, 0.02]
    assert ppo.get_ydata().tolist() == [0.1, 0.07, 0.03]
    assert np.log10(dqn.get_xdata()) == pytest.approx([2, 3, 4], abs=0.05)
    assert (dqn.get_xdata() < ppo.get_xdata()).all()  # beside each other
    assert list(random.get_ydata()) == [0.1, 0.1]
    assert list(pattern.get_ydata()) == [0.015, 0.015]
    assert random.is_dashed()
    assert not dqn.is_dashed()
    bars = [c for c in drawn().collections if isinstance(c, LineCollection)]
    spans = [[(low[1], high[1]) for low, high in bar.get_segments()] for bar in bars]
    bottom = drawn().get_ylim()[0]
    assert spans[0] == [(0.08, 0.1), (0.04, 0.06), (bottom, 0.05)]  # it begins below 0
    assert spans[1] == [(0.09, 0.11), (0.05, 0.09), (0.02, 0.04)]
    names = {text.get_text() for text in drawn().texts}
    assert names == {"dqn", r" _ppo\$", "random", "best pattern"}


def test_both_axes_are_logarithmic_where_every_mean_is_above_zero(tmp_path, drawn):
    plot_regret([DQN, PPO], LEVELS, tmp_path / "regret.png")
    assert (drawn().get_xscale(), drawn().get_yscale()) == ("log", "log")
    assert drawn().get_ylim()[0] == pytest.approx(0.01)
    ticks = [label.get_text() for label in drawn().get_xticklabels()]
    assert ticks == ["100", "1,000", "10,000"]


@pytest.mark.parametrize("level", [0.0, -0.03])
def test_what_has_no_regret_is_in_the_picture(tmp_path, drawn, level):
    plot_regret([DQN, PPO], {**LEVELS, "best pattern": level}, tmp_path / "regret.png")
    assert drawn().get_yscale() == "linear"
    assert drawn().get_ylim()[0] < level


def test_names_stand_at_the_ends_of_their_lines_where_there_is_room(tmp_path, drawn):
    levels = {"high": 0.1, "also high": 0.0999, "low": -0.08}
    plot_regret([DQN], levels, tmp_path / "regret.png")
    axes = drawn()
    place = {text.get_text(): text.xyann[1] for text in axes.texts}  # a share of the height
    bottom, top = axes.get_ylim()
    for name, level in {"low": -0.08, "dqn": 0.02}.items():
        assert place[name] == pytest.approx((level - bottom) / (top - bottom), abs=0.01)
    assert place["high"] - place["also high"] > 0.03  # a line of text


def test_agents_without_regret_alone_can_be_drawn(tmp_path):
    best = Curve("dqn", (100,), [(0.0, 0.0, 0.0)])
    plot_regret([best], {}, tmp_path / "regret.png")
    assert (tmp_path / "regret.png").is_file()


@pytest.mark.parametrize(("theme", "ground"), [("light", (255,) * 3), ("dark", (13, 17, 23))])
def test_the_picture_has_the_ground_of_the_page(tmp_path, theme, ground):
    path = tmp_path / "regret.png"
    plot_regret([DQN], LEVELS, path, theme)
    pixels = np.asarray(Image.open(path).convert("RGB"))
    assert tuple(pixels[0, 0]) == ground
    values, counts = np.unique(pixels.reshape(-1, 3), axis=0, return_counts=True)
    assert tuple(values[counts.argmax()]) == ground
    ink = pixels.sum(axis=2).min() if theme == "light" else pixels.sum(axis=2).max()
    assert abs(int(ink) - 3 * {"light": 0x22, "dark": 0xE6}[theme]) < 30


def test_a_picture_of_no_agent_is_refused(tmp_path):
    with pytest.raises(ValueError, match="curves is empty"):
        plot_regret([], LEVELS, tmp_path / "regret.png")
