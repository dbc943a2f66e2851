import subprocess
import sys

import gymnasium
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tiegym.small import SMALL
from tiegym import ties as tie_vectors
from tiegym.pictures.colors import PALETTE, text_color
from tiegym.pictures.episode_picture import (
    SIZE,
    draw_ties,
    print_text,
    terminal_text,
    ties_text,
)

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
    upper, lower = slice(0, int(0.7 * SIZE[0])), slice(int(0.7 * SIZE[0]), None)
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
    palette = {tuple(bytes.fromhex(c[1:])) for c in PALETTE[:-1]}
    assert len(colours([0, 0, 0, 0]) & palette) == 1
    assert len(colours([0, 1, 0, 1]) & palette) == 2
    assert len(colours([0, 1, 2, 3]) & palette) == 4


def test_drawing_leaves_pyplot_alone():
    program = (
        "import sys, numpy, tiegym.pictures.episode_picture as p;"
        "p.draw_ties(numpy.zeros(3, dtype=int), [(4, 9.0)], 8);"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize("n_layer", [6, 48])
def test_layers_stand_in_a_column_the_first_at_the_bottom(n_layer):
    def rows_of(ties, layer):
        """The rows of pixels that change when a layer becomes independent."""
        changed = ties.copy()
        changed[layer] = layer
        frame = draw_ties(ties, HISTORY, 40) != draw_ties(changed, HISTORY, 40)
        nodes = frame[65 : int(0.7 * SIZE[0]), 90:106]  # below the title, which changes too
        return np.flatnonzero(nodes.any(axis=(1, 2))).mean()

    ties = tie_vectors.pattern("tied", n_layer)
    heights = [rows_of(ties, layer) for layer in range(1, n_layer, 5)]
    assert heights == sorted(heights, reverse=True)


def test_the_text_is_one_line_that_says_where_the_episode_stands():
    assert ties_text(TIES, 85.31, 40, 4000).plain == (
        "iteration   40/4000  perplexity 85.31  3/6 independent  AABBAC"
    )


def test_the_text_of_many_layers_fits_a_line_of_a_terminal():
    ties = tie_vectors.pattern("cycle:12", 48)
    text = ties_text(ties, 49.372, 12_345, 56_400).plain
    assert text == "12345/56400  ppl 49.37  12/48  " + 4 * "ABCDEFGHIJKL"
    assert len(text) <= 80


def test_the_text_names_roots_by_number_when_letters_run_out():
    text = ties_text(tie_vectors.pattern("independent", 53), 1.0, 0, 4).plain
    assert text.endswith("53/53  " + " ".join(map(str, range(53))))


def test_a_terminal_shows_who_shares_weights_by_colour_and_who_owns_them_by_ground(monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    text = terminal_text(ties_text(np.array([0, 0, 2]), 9.0, 4, 8))
    blue, green = (";".join(map(str, bytes.fromhex(text_color(k)[1:]))) for k in (0, 2))
    assert f"\x1b[1;37;48;2;{blue}mA\x1b[0m\x1b[1;38;2;{blue}mA\x1b[0m" in text
    assert text.endswith(f"\x1b[1;37;48;2;{green}mB\x1b[0m")
    assert "\n" not in text


def test_what_is_no_terminal_gets_plain_letters(capsys):
    print_text(ties_text(TIES, 85.31, 40, 4000))
    assert capsys.readouterr().out == ties_text(TIES, 85.31, 40, 4000).plain + "\n"


@given(st.integers(0, 2**32 - 1), st.integers(1, 48))
def test_layers_have_the_same_letter_exactly_if_they_use_the_same_weights(seed, n_layer):
    ties = tie_vectors.sample(n_layer, np.random.default_rng(seed))
    letters = ties_text(ties, 1.0, 0, 4).plain.split()[-1]
    roots = tie_vectors.roots(ties)
    same_letter = np.equal.outer(list(letters), list(letters))
    np.testing.assert_array_equal(same_letter, np.equal.outer(roots, roots))
    first = sorted(letters.index(letter) for letter in set(letters))
    assert first == tie_vectors.independent_layers(ties)


def test_gymnasium_makes_a_film_of_a_run(tmp_path):
    env = gymnasium.make("tiegym:TieEnv-v0", render_mode="rgb_array", **SMALL)
    film = gymnasium.wrappers.RecordVideo(env, str(tmp_path / "film"))
    film.reset(seed=0)
    while not film.step(1)[2]:
        pass
    film.close()
    (path,) = (tmp_path / "film").glob("*.mp4")
    from moviepy import VideoFileClip  # here, as it takes a second

    with VideoFileClip(str(path)) as clip:
        assert clip.size == [SIZE[1], SIZE[0]]
        assert clip.fps == env.metadata["render_fps"]
        assert clip.n_frames == 7  # as reset, and after each step
