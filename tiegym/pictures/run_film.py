"""A run as a short film: whose weights each layer uses, beside the perplexity so far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from tiegym.atomic_write import write_bytes
from tiegym.pictures.colors import GREY, ON_DARK, PALETTE
from tiegym.pictures.episode_picture import NODES, draw_layers
from tiegym.pictures.style import (
    GROUNDS,
    Theme,
    figure_pixels,
    perplexity_axis,
    plain,
    recolor,
    tidy,
)
from tiegym.pictures.tie_film import sampled

MOST_FRAMES = 50

_SIZE, _DPI = (7.6, 3.4), 100  # inches, and pixels for each
_FRAME, _LAST = 180, 3000  # milliseconds; the last stays
_LINES: dict[Theme, str] = {"light": PALETTE[0], "dark": ON_DARK[0]}


def write_film(
    steps: Sequence[Mapping[str, Any]],
    path: str | Path,
    *,
    title: str = "",
    test_perplexity: float | None = None,
    n_layer: int | None = None,
    theme: Theme = "light",
) -> None:
    """Writes the film of an episode as a GIF, atomically.

    Args:
        steps: The rows of one episode, with `iteration`, `ties` and `perplexity`, which is that on
            the validation set. Of more than `MOST_FRAMES` an even sample is shown.
        path: Where to.
        title: Above the curve, such as the policy's name.
        test_perplexity: At the end, if there is one: the last frame says it.
        n_layer: Layers L, where `ties` are those of both parts, (2L,); see `tiegym.parts`.
        theme: For pages with a light or a dark ground.

    Raises:
        ValueError: If there is no step, or `path` doesn't end in .gif.
    """
    if not steps:
        raise ValueError("steps is empty: a film needs at least one environment step")
    if Path(path).suffix != ".gif":
        raise ValueError(f"path={str(path)!r} must end in .gif")
    chosen = sampled(len(steps), MOST_FRAMES)
    images = []
    for k in chosen:
        last = test_perplexity if k == len(steps) - 1 else None
        images.append(_frame(steps, int(k), title, last, theme, n_layer))
    frames = _with_one_palette(images)
    buffer = BytesIO()
    frames[0].save(
        buffer,
        format="GIF",
        save_all=True,
        append_images=frames[1:],
        duration=[*[_FRAME] * (len(frames) - 1), _LAST],
        loop=0,
        optimize=True,
    )
    write_bytes(path, buffer.getvalue())


def _with_one_palette(images: Sequence[npt.NDArray[np.uint8]]) -> list[Image.Image]:
    """Images (H, W, 3) with the 256 colours that cover most of them; grounds and fills stay exact.

    What doesn't change from one of them to the next then takes no room in the file.
    """
    codes = [image.astype(np.int64) @ (1 << 16, 1 << 8, 1) for image in images]
    every, counts = np.unique_counts(np.concatenate(codes))
    colors = np.column_stack((every >> 16, every >> 8 & 255, every & 255))
    palette = colors[np.argsort(-counts, kind="stable")[:256]]
    nearest = np.abs(colors[:, None] - palette).sum(axis=-1).argmin(axis=1).astype(np.uint8)
    frames = []
    for code in codes:
        frame = Image.fromarray(nearest[np.searchsorted(every, code)])
        frame.putpalette(
            palette.astype(np.uint8).tobytes()
        )  # from then on, grey values are places in it
        frames.append(frame)
    return frames


def _frame(
    steps: Sequence[Mapping[str, Any]],
    at: int,
    title: str,
    test: float | None,
    theme: Theme,
    n_layer: int | None,
) -> npt.NDArray[np.uint8]:
    figure = Figure(figsize=_SIZE, dpi=_DPI)
    margins = {"left": 0.065, "right": 0.975, "top": 0.9, "bottom": 0.14, "wspace": 0.2}
    layers, curve = figure.subplots(1, 2, width_ratios=(1, 1.35), gridspec_kw=margins)
    ties = np.array(steps[at]["ties"])
    frozen = steps[at].get("frozen")
    shown = isinstance(frozen, list) and [type(flag) for flag in frozen] == [bool] * len(ties)
    draw_layers(layers, ties, GROUNDS[theme], n_layer, frozen if shown else None)
    layers.set_xlabel(NODES.replace(", ", "\n"))
    _draw_curve(curve, steps, at, test, _LINES[theme])
    curve.set_title(plain(title), loc="left", fontsize=11)
    recolor(figure, theme)
    return figure_pixels(figure)


def _draw_curve(
    axes: Axes, steps: Sequence[Mapping[str, Any]], at: int, test: float | None, line: str
) -> None:
    iterations = [step["iteration"] for step in steps]
    perplexity = [step["perplexity"] for step in steps]
    axes.plot(iterations[: at + 1], perplexity[: at + 1], color=line, linewidth=1.8)
    axes.plot(iterations[at], perplexity[at], "o", color=line, markersize=5, clip_on=False)
    says = f"iteration {iterations[at]} of {iterations[-1]}\nvalidation: {perplexity[at]:.4g}"
    if test is not None:
        says += f"\ntest: {test:.4g}"
    axes.text(0.97, 0.95, says, transform=axes.transAxes, ha="right", va="top", fontsize=10)
    perplexity_axis(axes, "y", perplexity)
    low, high = min(perplexity), max(perplexity)
    axes.set_ylim(low / 1.05, high * 1.05)
    axes.set_xlim(0, iterations[-1])
    axes.set_xlabel("iteration")
    axes.set_ylabel("validation perplexity")
    tidy(axes)
    axes.grid(axis="y", color=GREY, alpha=0.3, linewidth=0.8)
