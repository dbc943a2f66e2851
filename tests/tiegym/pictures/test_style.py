"""Labels are drawn as they read."""

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from tiegym.pictures.style import plain

HOSTILE = [
    "$x$",
    "$\\frac{1}$",
    "$",
    "a $ b $ c",
    "\\$x\\$",
    "__x",
    "_",
    "a\x1b[31mb",
    "a\nb",
    "\ud800",
]


@pytest.mark.parametrize("label", HOSTILE)
def test_no_label_is_taken_for_mathematics_or_left_out(label):
    figure = Figure()
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.set_title(plain(label))
    axes.plot([1, 2], label=plain(label))
    axes.legend()
    figure.canvas.draw()
    text, mathematics = Text()._preprocess_math(plain(label))
    assert mathematics is False
    assert text.lstrip(" ") == label.encode("unicode_escape").decode().replace("\\\\", "\\")
    assert len(axes.get_legend().get_texts()) == 1


def test_a_long_label_keeps_both_ends():
    shown = plain("a" * 500 + "b" * 500)
    assert len(shown) < 100
    assert shown.startswith("aaa")
    assert shown.endswith("bbb")
    assert np.unique(list(shown)).tolist() == ["a", "b", "…"]
