import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure

from tiegym import plots
from tiegym import ties as tie_vectors
from tiegym.pictures import SIZE, draw_ties, plot_comparison, ties_text
from tiegym.run_folders import Run

TIES = np.array([0, 0, 2, 2, 0, 5])
HISTORY = [(4, 180.0), (8, 120.0), (12, 90.0)]


@pytest.mark.parametrize("n_layer", [2, 6, 48])
@pytest.mark.parametrize("pattern", ["tied", "independent"])
@pytest.mark.parametrize("history", [[], [(4, 1e9)], HISTORY])
def test_every_frame_has_one_size_and_something_on_it(n_layer, pattern, history):
    frame = draw_ties(tie_vectors.pattern(pattern, n_layer), history, 40)
    assert frame.shape == (*SIZE, 3)
    assert frame.dtype == np.uint8
    assert frame.std() > 5
    assert (frame[[0, -1]] == 255).all()  # nothing is cut off above or below


def test_a_frame_shows_the_ties_and_the_perplexity():
    frame = draw_ties(TIES, HISTORY, 40)
    np.testing.assert_array_equal(draw_ties(TIES, HISTORY, 40), frame)
    upper, lower = slice(0, SIZE[0] // 2), slice(SIZE[0] // 2, None)
    other_ties = draw_ties(np.array([0, 0, 1, 2, 0, 5]), HISTORY, 40)
    assert (other_ties[upper] != frame[upper]).any()
    np.testing.assert_array_equal(other_ties[lower], frame[lower])
    other_history = draw_ties(TIES, HISTORY[:2], 40)
    assert (other_history[lower] != frame[lower]).any()


def test_layers_that_share_weights_share_a_colour():
    def colours(ties):
        frame = draw_ties(np.array(ties), [], 40)
        return {tuple(c) for c in frame.reshape(-1, 3)}

    # Without the grey, which the edges of black text have too.
    palette = {tuple(bytes.fromhex(c[1:])) for c in plots.PALETTE[:-1]}
    assert len(colours([0, 0, 0, 0]) & palette) == 1
    assert len(colours([0, 1, 0, 1]) & palette) == 2
    assert len(colours([0, 1, 2, 3]) & palette) == 4


def test_drawing_leaves_pyplot_alone():
    program = (
        "import sys, numpy, tiegym.pictures as p;"
        "p.draw_ties(numpy.zeros(3, dtype=int), [(4, 9.0)], 8);"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_the_text_is_one_line_that_says_where_the_episode_stands():
    assert ties_text(TIES, 85.31, 40, 4000) == (
        "iteration   40/4000  perplexity 85.31  3/6 independent  AABBAC"
    )


def test_the_text_names_roots_by_number_when_letters_run_out():
    text = ties_text(tie_vectors.pattern("independent", 53), 1.0, 0, 4)
    assert text.endswith("independent  " + " ".join(map(str, range(53))))


@given(st.integers(0, 2**32 - 1), st.integers(1, 48))
def test_layers_have_the_same_letter_exactly_if_they_use_the_same_weights(seed, n_layer):
    ties = tie_vectors.sample(n_layer, np.random.default_rng(seed))
    letters = ties_text(ties, 1.0, 0, 4).split()[-1]
    roots = tie_vectors.roots(ties)
    same_letter = np.equal.outer(list(letters), list(letters))
    np.testing.assert_array_equal(same_letter, np.equal.outer(roots, roots))
    first = sorted(letters.index(letter) for letter in set(letters))
    assert first == tie_vectors.independent_layers(ties)


# Comparisons


def run(perplexity, n_steps=10, diverged=False, **final):
    steps = [
        {"episode": 0, "iteration": 4 * k, "perplexity": perplexity + 100 / k}
        for k in range(1, n_steps + 1)
    ]
    figures = {"episode": 0, "n_independent": 2, "trainable_params": 10**6, "diverged": diverged}
    figures |= {"test_perplexity": 4.8e8 if diverged else perplexity} | final
    return Run(Path("run"), {}, steps, {"final": figures})


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


def test_a_comparison_is_one_png_with_each_policy_and_each_run(tmp_path, figures):
    rows = [row("random", run(20), run(22), run(21)), row("cycle:2", run(30, 8), run(31))]
    plot_comparison(rows, tmp_path / "comparison.png")
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


def test_a_diverged_run_is_marked_and_does_not_squeeze_the_others(tmp_path, figures):
    plot_comparison([row("wild", run(20), run(20, diverged=True))], tmp_path / "a.png")
    left = figures[0].axes[0]
    assert left.get_xlim()[1] < 100
    assert left.get_yticklabels()[0].get_text().endswith("1 of 2 diverged")
    plot_comparison([row("wild", run(20, 1, diverged=True))], tmp_path / "b.png")


def test_many_policies_and_a_single_run_are_drawn(tmp_path):
    plot_comparison([row("tied", run(20, 1))], tmp_path / "one.png")
    plot_comparison([row(f"policy {k}", run(20 + k)) for k in range(20)], tmp_path / "many.png")


def test_a_comparison_without_rows_or_with_an_unfinished_run_is_refused(tmp_path):
    with pytest.raises(ValueError, match="rows is empty"):
        plot_comparison([], tmp_path / "a.png")
    unfinished = Run(Path("runs/x"), {}, [], None)
    with pytest.raises(ValueError, match="runs/x has no test perplexity"):
        plot_comparison([row("tied", run(20), unfinished)], tmp_path / "a.png")
    assert not list(tmp_path.iterdir())
