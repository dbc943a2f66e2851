"""Colours that are told apart, and read on any ground."""

import itertools
import re

import numpy as np
import pytest

from tiegym import ties as tie_vectors
from tiegym.pictures.colors import ON_DARK, PALETTE, color, contrast, oklab, rgb, text_color
from tiegym.pictures.episode_picture import terminal_text, ties_text


def distances(values):
    """Between all pairs of colours, in OKLab."""
    lab = oklab(np.array([rgb(value) for value in values]))
    apart = np.linalg.norm(lab[:, None] - lab[None], axis=-1)
    return apart[np.triu_indices(len(values), 1)]


def test_forty_eight_layers_have_as_many_colours_that_eyes_tell_apart():
    assert distances([color(k) for k in range(48)]).min() > 0.07
    assert distances([color(k) for k in range(8)]).min() > 0.09


def test_neighbours_are_further_apart_than_any_two():
    values = [color(k) for k in range(48)]
    neighbours = [distances(pair)[0] for pair in itertools.pairwise(values)]
    assert min(neighbours) > 0.1


def test_a_layer_has_the_same_colour_however_many_there_are():
    assert [color(k) for k in range(8)] == list(PALETTE)
    first = [color(k) for k in range(48)]
    assert len({color(k) for k in range(100)}) == 100
    assert [color(k) for k in range(48)] == first


def test_every_colour_is_seen_on_white_and_on_black():
    for k in range(48):
        assert contrast(color(k), "#FFFFFF") > 1.4
        assert contrast(color(k), "#000000") > 1.4
    assert all(contrast(value, "#161616") > 4.5 for value in ON_DARK)


@pytest.mark.parametrize("ground", ["#000000", "#FFFFFF"])
def test_coloured_text_can_be_read_on_black_and_on_white(ground):
    assert min(contrast(text_color(k), ground) for k in range(96)) >= 4.5
    assert len({text_color(k) for k in range(96)}) == 96


@pytest.mark.parametrize("n_layer", [6, 48, 60])
def test_what_a_terminal_shows_of_ties_can_be_read(n_layer, monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)

    def hexes(pattern, text):
        found = re.findall(pattern + r"2;(\d+);(\d+);(\d+)m", text)
        return ["#{:02X}{:02X}{:02X}".format(*map(int, value)) for value in found]

    own = terminal_text(ties_text(tie_vectors.pattern("independent", n_layer), 9.0, 4, 8))
    grounds = hexes(r"\x1b\[1;37;48;", own)
    assert len(grounds) == len(set(grounds)) == n_layer
    assert all(contrast(ground, "#FFFFFF") >= 4.5 for ground in grounds)
    half = terminal_text(
        ties_text(tie_vectors.pattern(f"cycle:{n_layer // 2}", n_layer), 9.0, 4, 8)
    )
    letters = hexes(r"\x1b\[1;38;", half)
    assert len(letters) == n_layer // 2
    assert all(contrast(x, ground) >= 4.5 for x in letters for ground in ("#000000", "#FFFFFF"))


def test_contrast_is_that_of_the_guidelines():
    assert contrast("#777777", "#FFFFFF") == pytest.approx(4.48, abs=0.01)
    assert contrast("#FFFFFF", "#777777") == contrast("#777777", "#FFFFFF")


def test_there_is_a_colour_for_every_layer_however_many():
    assert len({color(index) for index in range(288)}) == 288
    many = [color(index) for index in range(700)]
    assert len(many) == 700
    assert many[:288] == [color(index) for index in range(288)]
    assert text_color(5000).startswith("#")
