"""What all pictures share: labels, the look of axes, and how a figure becomes pixels or a file.

Nothing touches pyplot: its global state belongs to the user.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from tiegym.atomic_write import write_bytes

Theme = Literal["light", "dark"]
"""For pages with a light or a dark ground."""

GROUNDS: dict[Theme, str] = {"light": "white", "dark": "#0D1117"}
INKS: dict[Theme, str] = {"light": "#222222", "dark": "#E6E6E6"}

LONGEST_LABEL = 90
"""Characters of a label; what is longer loses its middle."""


def plain(label: str) -> str:
    r"""A label that is drawn as it reads, whatever is in it.

    matplotlib takes what is between two dollars for mathematics, and leaves labels that begin with
    an underscore out of legends; control characters draw boxes, or break lines.

    Examples:
        >>> print(plain("$x$ costs 1 $\n"))
        \$x\$ costs 1 \$\n
    """
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in label)
    if len(shown) > LONGEST_LABEL:
        half = LONGEST_LABEL // 2
        shown = f"{shown[:half]}\u2026{shown[-half:]}"
    shown = f" {shown}" if shown.startswith("_") else shown
    return shown.replace("$", r"\$")


def tidy(axes: Axes) -> None:
    """Takes away what carries no information, and sets small labels."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.tick_params(labelsize=9)
    axes.xaxis.label.set_fontsize(9.5)
    axes.yaxis.label.set_fontsize(9.5)


def in_lines(label: str) -> str:
    """As `plain`, in as many lines as a long name needs: that of a policy with its options, say.

    Examples:
        >>> print(in_lines("random --env.private lora:4 --env.tie-change soft"))
        random --env.private lora:4
        --env.tie-change soft
    """
    return "\n".join(textwrap.wrap(plain(label), 34, break_on_hyphens=False))


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


def recolor(figure: Figure, theme: Theme) -> None:
    """Gives a figure a ground and an ink other than matplotlib's white and black."""
    ground, ink = GROUNDS[theme], INKS[theme]
    figure.set_facecolor(ground)
    for axes in figure.axes:
        axes.set_facecolor(ground)
        axes.tick_params(color=ink)
        for side in axes.spines.values():
            side.set_color(ink)
    figure.canvas.draw()  # makes the labels of ticks
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        text.set_color(ink)


def figure_pixels(figure: Figure) -> npt.NDArray[np.uint8]:
    """A figure as red, green and blue, uint8 (H, W, 3)."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()  # type: ignore[no-untyped-call]


def save_png(figure: Figure, path: str | Path) -> None:
    """Writes a figure as a PNG file, atomically."""
    FigureCanvasAgg(figure)
    buffer = BytesIO()
    figure.savefig(buffer, format="png", facecolor=figure.get_facecolor())
    write_bytes(path, buffer.getvalue())
