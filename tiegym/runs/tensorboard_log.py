"""What TensorBoard shows of a run besides its scalars: images, and its line in the HParams tab.

`tiegym.runs.recorder` calls these. All that they need is in the run folder and in the
environment, so that a run which is taken up again goes on where it was.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium

from tiegym.runs.folder import WHERE_AND_HOW
from tiegym.runs.json_files import flat, read_json
from tiegym.runs.printable import printable

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

_FIRST_IMAGES = 128  # steps


def can_write(folder: Path) -> bool:
    """Whether TensorBoard can write into a folder: it takes names in UTF-8 only."""
    try:
        str(folder).encode()
    except UnicodeEncodeError:
        warnings.warn(
            f"{printable(str(folder))}: TensorBoard takes no names that aren't UTF-8, so that it "
            "gets no events of this run; all else is recorded",
            stacklevel=2,
        )
        return False
    return True


def begin(writer: SummaryWriter, folder: Path) -> None:
    """Gives the run a line in the HParams tab: its program, options and environment.

    TensorBoard puts the last values of the scalars beside them. It finds out by itself which
    hyperparameters the runs under one folder have, which `SummaryWriter.add_hparams` would
    prevent by fixing those of the first run for all.
    """
    _, start, _ = _hparams(hyperparameters(read_json(folder / "config.json")))
    writer.file_writer.add_summary(start)  # type: ignore[attr-defined]


def end(writer: SummaryWriter) -> None:
    """Marks the run as finished in the HParams tab."""
    _, _, finished = _hparams({})
    writer.file_writer.add_summary(finished)  # type: ignore[attr-defined]


def hyperparameters(config: dict[str, Any]) -> dict[str, bool | float | str]:
    """What the HParams tab shows of a run's `config.json`; what isn't a number is text."""
    options = {
        name: value
        for name, value in (config.get("options") or {}).items()
        if name not in WHERE_AND_HOW
    }
    everything = {
        "program": config.get("program", ""),
        **flat(options),
        **flat({"env": config["env"]}),
    }
    return {
        name: value if isinstance(value, bool | int | float) else printable(str(value))
        for name, value in everything.items()
    }


def images_due(steps: int) -> bool:
    """Whether a running episode shows its images after this many steps: 128, 256, 512, ..."""
    return steps >= _FIRST_IMAGES and steps & (steps - 1) == 0


def add_images(
    writer: SummaryWriter,
    ties: Sequence[Sequence[int]],
    iterations: Sequence[int],
    env: gymnasium.Env[Any, Any],
    x: int,
) -> None:
    """Adds the tie vector over time, and the similarity of the layers as they are.

    Args:
        writer: Where to.
        ties: The ties after each step of the episode.
        iterations: Of the episode, after each step.
        env: Its `model` is asked for the weights; without one there is no similarity. Its `config`
            says how many layers there are.
        x: Iterations, of all episodes.
    """
    from tiegym.pictures.tie_film import draw_film, draw_similarity
    from tiegym.transformer.layer_stats import layer_similarity

    n_layer = getattr(getattr(env.unwrapped, "config", None), "n_layer", None)
    writer.add_image("tie/film", draw_film(ties, iterations, n_layer), x, dataformats="HWC")
    model = getattr(env.unwrapped, "model", None)
    if model is not None:
        similarity = draw_similarity(layer_similarity(model))
        writer.add_image("tie/similarity", similarity, x, dataformats="HWC")


def event_files(folder: Path) -> list[Path]:
    """The files of a run's own events, the oldest first."""
    return sorted(folder.glob("events.out.tfevents.*"), key=lambda path: path.stat().st_mtime_ns)


def keep_images(writer: SummaryWriter, files: Sequence[Path], before: float) -> None:
    """Takes the images of earlier event files over, as they were drawn and when.

    A resumed run writes its scalars again, from its rows; its images can't be drawn again, since
    the weights of those steps are gone.

    Args:
        writer: Where to.
        files: Half an event at the end of one, of a process that was killed, is left out.
        before: Images of steps from this one on, in iterations, are left out: they come again.
    """
    from tensorboard.backend.event_processing import event_file_loader  # type: ignore[import-untyped]

    kept = set()
    for file in files:
        for event in event_file_loader.LegacyEventFileLoader(str(file)).Load():
            images = [value for value in event.summary.value if value.HasField("image")]
            key = (event.step, *(value.tag for value in images))
            if images and event.step < before and key not in kept:
                kept.add(key)
                add = writer.file_writer.add_event  # type: ignore[attr-defined]
                add(event, event.step, event.wall_time)


def _hparams(values: dict[str, bool | float | str]) -> tuple[Any, Any, Any]:
    from torch.utils.tensorboard.summary import hparams

    return hparams(values, {})  # type: ignore[no-untyped-call, no-any-return]
