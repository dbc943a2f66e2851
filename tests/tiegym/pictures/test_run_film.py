"""The film of a run."""

import itertools

import numpy as np
import pytest
from PIL import Image

from tiegym.pictures import run_film
from tiegym.pictures.colors import color
from tiegym.pictures.run_film import write_film


def steps(count, ties=(0, 1, 0, 3)):
    return [
        {"iteration": 4 * k, "perplexity": 10 + 90 / k, "ties": list(ties)}
        for k in range(1, count + 1)
    ]


def frames(path):
    with Image.open(path) as film:
        for k in range(film.n_frames):
            film.seek(k)
            yield np.asarray(film.convert("RGB"))


def test_a_film_has_a_frame_for_each_step_and_is_small(tmp_path):
    path = tmp_path / "film.gif"
    write_film(steps(6), path, title="a $policy$", test_perplexity=12.5)
    shown = list(frames(path))
    assert len(shown) == 6
    assert all((one != other).any() for one, other in itertools.pairwise(shown))
    assert path.stat().st_size < 100_000
    assert [p.name for p in tmp_path.iterdir()] == ["film.gif"]


@pytest.mark.parametrize(("theme", "ground"), [("light", (255, 255, 255)), ("dark", (13, 17, 23))])
def test_its_grounds_and_layers_have_their_colours(tmp_path, theme, ground):
    write_film(steps(2), tmp_path / "film.gif", theme=theme)
    (first, _) = frames(tmp_path / "film.gif")
    colors = {tuple(c) for c in first.reshape(-1, 3).tolist()}
    assert tuple(first[1, 1]) == ground
    for layer in (0, 1, 3):
        assert tuple(bytes.fromhex(color(layer)[1:])) in colors


def test_a_long_run_is_sampled_to_its_end(tmp_path, monkeypatch):
    write_film(steps(6), tmp_path / "whole.gif")
    monkeypatch.setattr(run_film, "MOST_FRAMES", 3)
    write_film(steps(6), tmp_path / "sampled.gif")
    whole, short = (list(frames(tmp_path / f"{name}.gif")) for name in ("whole", "sampled"))
    assert len(short) == 3
    for k in (0, -1):  # but for rare shades, of which a GIF has no more than 256
        assert np.abs(short[k].astype(int) - whole[k]).mean() < 0.1


def test_what_cannot_be_a_film_is_refused(tmp_path):
    with pytest.raises(ValueError, match="at least one environment step"):
        write_film([], tmp_path / "film.gif")
    with pytest.raises(ValueError, match=r"must end in \.gif"):
        write_film(steps(1), tmp_path / "film.mp4")
    assert not list(tmp_path.iterdir())
