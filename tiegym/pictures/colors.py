"""Colours for things that are told apart: layers by whose weights they use, policies by kind.

Colours are chosen in OKLab (Ottosson 2020), in which distances are roughly those that people see.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

PALETTE = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#7F5AA8",
    "#6B6B6B",
)
"""Okabe and Ito's colours for all kinds of colour vision, less the yellow that white swallows and
the black of text; with a violet and a grey in their place."""

ON_DARK = (
    "#4BA6E0",
    "#F08A45",
    "#2EC49A",
    "#E09BC4",
    "#F0B840",
    "#8CCBF0",
    "#AE90D6",
    "#A8A8A8",
)
"""`PALETTE` for lines on a dark ground: the same hues, lighter."""

GREY = "#666666"

_LIGHTNESS = np.linspace(0.42, 0.82, 9)
_CHROMA = (0.05, 0.09, 0.13, 0.17, 0.21, 0.25)
_HUES = np.linspace(0, 2 * np.pi, 72, endpoint=False)
_TO_LMS = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
_TO_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)
_NO_GREEN_CONES = np.array(
    [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ]
)
"""What deuteranopia, the most frequent colour blindness, makes of linear RGB (Machado, Oliveira
and Fernandes 2009)."""

_LUMINANCE = np.array([0.2126, 0.7152, 0.0722])
_BOTH = 0.179
"""Relative luminance with the same contrast, 4.58, to black and to white."""


def color(index: int) -> str:
    """The colour of the index-th thing, such as of layer `index`.

    The first eight are `PALETTE`; each further one is as far as can be from all before it, for
    people with and without red-green blindness. No two have the same as long as there are others,
    of which there are hundreds; from there on they begin anew.

    Examples:
        >>> color(0), len({color(index) for index in range(48)})
        ('#0072B2', 48)
    """
    return _colors(_rounded(index))[index]


def _rounded(index: int) -> int:
    """How many colours are made at once, to have that of an index."""
    return 48 * (index // 48 + 1)


@lru_cache(maxsize=8)
def _colors(count: int) -> tuple[str, ...]:
    lightness, chroma, hue = np.meshgrid(_LIGHTNESS, _CHROMA, _HUES, indexing="ij")
    lab = np.stack((lightness, chroma * np.cos(hue), chroma * np.sin(hue)), axis=-1)
    return _spread(PALETTE, _shown(_linear(lab.reshape(-1, 3))), count)


def _spread(first: Sequence[str], others: Sequence[str], count: int) -> tuple[str, ...]:
    """So many colours: the first ones, then always the one that is farthest from all before."""
    found = list(first)
    seen = _seen(others)
    chosen = _seen(found).swapaxes(0, 1)
    nearest = np.min([_distances(seen, point) for point in chosen], axis=0)
    while len(found) < count:
        k = int(nearest.argmax())
        if nearest[k] == 0:
            return tuple(itertools.islice(itertools.cycle(found), count))
        found.append(others[k])
        nearest = np.minimum(nearest, _distances(seen, seen[:, k]))
    return tuple(found[:count])


def _shown(linear: Floats) -> list[str]:
    """Those of many colours (N, 3) that a screen can show, each once."""
    inside = ((linear >= 0) & (linear <= 1)).all(axis=-1)
    return list(dict.fromkeys(_hex(value) for value in linear[inside]))


def _seen(colors: Sequence[str]) -> Floats:
    """OKLab of N colours with normal and with red-green blind vision, (2, N, 3)."""
    linear = np.array([rgb(value) for value in colors])
    return np.array([oklab(linear), oklab(np.clip(linear @ _NO_GREEN_CONES.T, 0, 1))])


def _distances(seen: Floats, point: Floats) -> Floats:
    """From colours (2, N, 3) to one (2, 3): by the vision that tells them apart least, (N,)."""
    normal, blind = np.linalg.norm(seen - point[:, None], axis=-1)
    return np.asarray(np.minimum(normal, 2 * blind))


def text_color(index: int) -> str:
    """As `color`, for coloured text on a ground that is not known: black, white, or between.

    All have a contrast of at least 4.5 (WCAG 2.2) to black and to white: so they are of one
    luminance, and fewer can be told apart than of `color`.
    """
    return _text_colors(_rounded(index))[index]


@lru_cache(maxsize=8)
def _text_colors(count: int) -> tuple[str, ...]:
    steps = np.linspace(0.3, 0.75, 901)  # of lightness: fine enough for the contrast
    others: dict[str, None] = {}
    for chroma, hue in itertools.product((0.02, *_CHROMA), _HUES):
        a, b = chroma * np.cos(hue), chroma * np.sin(hue)
        linear = _linear(np.column_stack((steps, np.full_like(steps, a), np.full_like(steps, b))))
        best = linear[np.abs(linear @ _LUMINANCE - _BOTH).argmin()]
        others |= dict.fromkeys(_shown(best[None]))
    hexes = list(others)
    first = []
    for value in PALETTE:  # the nearest that can be read, so that pictures and text are alike
        distances = np.linalg.norm(_seen(hexes)[0] - oklab(rgb(value)), axis=-1)
        first.append(hexes[int(distances.argmin())])
    return _spread(list(dict.fromkeys(first)), hexes, count)


def contrast(first: str, second: str) -> float:
    """Contrast of two colours by WCAG 2.2, from 1 to 21.

    Examples:
        >>> contrast("#000000", "#FFFFFF")
        21.0
    """
    low, high = sorted(float(rgb(value) @ _LUMINANCE) for value in (first, second))
    return (high + 0.05) / (low + 0.05)


def rgb(value: str) -> Floats:
    """Linear RGB of a colour such as #0072B2, (3,), from 0 to 1."""
    shown = np.array([int(value[k : k + 2], 16) for k in (1, 3, 5)]) / 255
    return np.where(shown <= 0.04045, shown / 12.92, ((shown + 0.055) / 1.055) ** 2.4)


def oklab(linear: Floats) -> Floats:
    """Lightness, green to red and blue to yellow of linear RGB, (..., 3)."""
    return np.asarray(np.cbrt(linear @ _TO_LMS.T) @ _TO_LAB.T)


def _linear(lab: Floats) -> Floats:
    return (lab @ np.linalg.inv(_TO_LAB).T) ** 3 @ np.linalg.inv(_TO_LMS).T


def _hex(linear: Floats) -> str:
    shown = np.where(
        linear <= 0.0031308, 12.92 * linear, 1.055 * np.clip(linear, 0, 1) ** (1 / 2.4) - 0.055
    )
    return "#" + "".join(f"{round(255 * float(value)):02X}" for value in shown)
