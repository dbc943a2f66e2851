"""The images of a run: whatever they show, they are drawn whole."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from tiegym.pictures.tie_film import draw_film, draw_similarity, layer_axis, show_film


def is_whole(image):
    """Whether there is ink, and none of it at the edge, where it would be cut off."""
    inner, edges = image[2:-2, 2:-2], (image[:2], image[-2:], image[:, :2], image[:, -2:])
    return inner.std() > 10 and all((edge == 255).all() for edge in edges)


@pytest.mark.parametrize("n_layer", [2, 6, 48])
@pytest.mark.parametrize("n_parts", [1, 2])
def test_an_image_is_whole_at_any_depth(n_layer, n_parts):
    ties = [[0] * n_layer * n_parts, [*range(n_layer)] * n_parts]
    assert is_whole(draw_film(ties, [1, 10_000], n_layer))
    shape = (n_layer, n_layer) if n_parts == 1 else (2, n_layer, n_layer)
    assert is_whole(draw_similarity(np.random.default_rng(0).uniform(-1, 1, shape)))


def test_an_episode_of_one_step_and_weights_that_are_no_numbers_are_shown():
    assert is_whole(draw_film([[0, 0]], [1]))
    assert is_whole(draw_similarity(np.array([[1, np.nan], [np.nan, 1]])))


@pytest.mark.parametrize(("n_layer", "numbers"), [(1, [0]), (2, [0, 1]), (6, [0, 2, 4])])
def test_layers_are_numbered_by_whole_numbers(n_layer, numbers):
    axes = Figure().subplots()
    show_film(axes, [[0] * n_layer], 1, n_layer)
    layer_axis(axes, n_layer, ticks=4)
    low, high = axes.get_ylim()
    assert [tick for tick in axes.get_yticks() if low <= tick <= high] == numbers


def test_a_film_of_hundreds_of_layers_has_an_end(tmp_path):
    pixels = draw_film([[0] * 700, [*range(700)]], [1, 2])
    assert pixels.shape[:2] == (6000, 900)
