"""What all pictures share: colours, the look of axes, and how a figure becomes pixels or a file.

Nothing touches pyplot: its global state belongs to the user.
"""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from tiegym.atomic_write import write_bytes

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

GREY = "#666666"


def color(index: int) -> str:
    """The colour of the index-th thing; they repeat after `len(PALETTE)`."""
    return PALETTE[index % len(PALETTE)]


def tidy(axes: Axes) -> None:
    """Takes away what carries no information, and sets small labels."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.tick_params(labelsize=9)
    axes.xaxis.label.set_fontsize(9.5)
    axes.yaxis.label.set_fontsize(9.5)


def perplexity_axis(axes: Axes, which: Literal["x", "y"], values: Sequence[float]) -> None:
    """Scales an axis for perplexities: logarithmic where they spread, labels in plain numbers."""
    low, high = min(values), max(values)
    axis = axes.xaxis if which == "x" else axes.yaxis
    if high > 4 * low:
        axes.set(**{f"{which}scale": "log"})
        decades = np.log10(high / low)
        labelled = (1, 1.5, 2, 3, 5, 7) if decades < 1 else (1, 2, 5) if decades < 2.5 else (1,)
        axis.set_major_locator(LogLocator(subs=labelled, numticks=8))
    else:
        axis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 2.5, 5, 10]))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.6g}"))


def figure_pixels(figure: Figure) -> npt.NDArray[np.uint8]:
    """A figure as red, green and blue, uint8 (H, W, 3)."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()  # type: ignore[no-untyped-call]


def save_png(figure: Figure, path: str | Path) -> None:
    """Writes a figure as a PNG file, atomically."""
    FigureCanvasAgg(figure)
    buffer = BytesIO()
    figure.savefig(buffer, format="png", facecolor="white")
    write_bytes(path, buffer.getvalue())
