"""Runs that go on: the wrapper around the environment itself that fills a journal or reads it.

What a journal is, is in `tiegym.runs.journal`; what of a run folder is written, in
`tiegym.runs.recorder`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt

from tiegym.runs.input_errors import as_input_errors
from tiegym.runs.journal import Checkpointed, Journal
from tiegym.runs.json_files import plain

DTYPES = frozenset(str(np.dtype(code)) for code in "?bBhHiIlLqQefd")
"""Of the arrays and scalars that an answer may hold: truth values and plain numbers."""


class Answers:
    """The answers of something to the calls of a program: recorded ones first, then its own.

    Args:
        journal: Of the run.
        source: Whose answers they are. As long as they come from the journal it is not in use.
        every_steps: Environment steps between checkpoints; None makes none by steps.
        every_minutes: Minutes between checkpoints; None makes none by time.
    """

    def __init__(
        self,
        journal: Journal,
        source: Checkpointed,
        every_steps: int | None = None,
        every_minutes: float | None = None,
    ) -> None:
        self.journal = journal
        self.source = source
        self.every_steps = every_steps
        self.every_minutes = every_minutes
        self.steps = 0
        """Environment steps since the last checkpoint, which the caller counts."""
        self._time = time.monotonic()

    def answer(
        self, call: str, asked: Any, compute: Callable[[], Any], check: Callable[[Any], object]
    ) -> Any:
        """The recorded answer to a call, or a new one, which is then recorded.

        Args:
            call: Its name.
            asked: Its arguments, plain values or arrays.
            compute: Finds the answer; tuples, dictionaries, arrays and plain values.
            check: Is given a recorded answer, which anybody may have written, and fails at one that
                can't be.

        Raises:
            tiegym.runs.signals.Stopped: If a signal has asked for an end.
            InputError: If the journal or a checkpoint doesn't fit.
        """
        asked = plain(asked)
        if self.journal.replaying:
            self.journal.stop()
            answer = self.journal.replay(call, asked)
            with self.journal.reading("answer of an environment"):
                answer = decode(answer)
                check(answer)
            return answer
        self.before_a_new_answer()
        answer = compute()
        self.journal.append(call, asked, encode(answer))
        return answer

    def before_a_new_answer(self) -> None:
        """Where everything that the program writes of its last step is written."""
        journal = self.journal
        if journal.checkpoint is not None:
            with as_input_errors(ValueError):  # damaged, or of another text or configuration
                self.source.load_checkpoint(journal.checkpoint)
            journal.checkpoint = None
            self.steps, self._time = 0, time.monotonic()
        if journal.signals.received is not None:
            journal.save(self.source)
            journal.stop()
        minutes = (time.monotonic() - self._time) / 60
        if (self.every_steps is not None and self.steps >= self.every_steps) or (
            self.every_minutes is not None and minutes >= self.every_minutes
        ):
            journal.save(self.source)
            self.steps, self._time = 0, time.monotonic()


class Resumable(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Writes down what a TieEnv answers; in a resumed run it first gives the answers there are.

    It must be the innermost wrapper that keeps anything of its own. As long as answers come from
    the journal the environment inside is not in use: all that a program learns from it must come
    through this wrapper's methods.

    Args:
        env: A TieEnv as `gymnasium.make` returns it.
        journal: Of the run.
        every_steps: Environment steps between checkpoints; None makes none by steps.
        every_minutes: Minutes between checkpoints; None makes none by time.
    """

    def __init__(
        self,
        env: gymnasium.Env[Any, Any],
        journal: Journal,
        every_steps: int | None = None,
        every_minutes: float | None = None,
    ) -> None:
        super().__init__(env)
        self.journal = journal
        self.answers = Answers(journal, self, every_steps, every_minutes)
        self._mask: npt.NDArray[np.bool_] | None = None
        self._begun = False

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Resets, or returns what this reset returned before."""
        arguments: dict[str, Any] = {"seed": seed, "options": options}
        observation, info = self.answers.answer(
            "reset", arguments, lambda: self.env.reset(**arguments), self._check_reset
        )
        self._keep_mask(info)
        return observation, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Steps, or returns what this step returned before."""
        observation, reward, terminated, truncated, info = self.answers.answer(
            "step", action, lambda: self.env.step(action), self._check_step
        )
        self.answers.steps += 1
        self._keep_mask(info)
        return observation, reward, terminated, truncated, info

    def action_masks(self) -> npt.NDArray[np.bool_]:
        """The masks of the last answer; see `TieEnv.action_masks`."""
        if self._mask is not None:
            return self._mask.copy()
        if self._begun:  # of actions whose masks are the same at every step, which no answer has
            return self.env.get_wrapper_attr("actions").mask(0)  # type: ignore[no-any-return]
        return self.env.get_wrapper_attr("action_masks")()  # type: ignore[no-any-return]  # fails

    def once(
        self, compute: Callable[[], Any], check: Callable[[Any], object] = lambda value: None
    ) -> Any:
        """What a function finds out from the environment itself, by forks; see `Journal.value`."""
        if not self.journal.replaying:
            self.answers.before_a_new_answer()
        return self.journal.value(compute, check)

    def close(self) -> None:
        """Closes the journal and the environment."""
        self.journal.close()
        super().close()

    def _check_reset(self, answer: Any) -> None:
        observation, info = answer
        check_observation(self.observation_space, observation)
        check_info(info)

    def _check_step(self, answer: Any) -> None:
        observation, reward, terminated, truncated, info = answer
        self._check_reset((observation, info))
        if not isinstance(terminated, bool) or not isinstance(truncated, bool):
            raise TypeError(f"terminated={terminated!r}, truncated={truncated!r}")
        float(reward)

    def _keep_mask(self, info: dict[str, Any]) -> None:
        self._begun = True
        if "action_mask" in info:
            self._mask = np.array(info["action_mask"], dtype=np.bool_)

    def save_checkpoint(self, path: Path) -> None:
        """Writes a checkpoint of the environment."""
        self.env.unwrapped.save_checkpoint(path)  # type: ignore[attr-defined]

    def load_checkpoint(self, path: Path) -> None:
        """Lets the environment go on from a checkpoint."""
        self.env.reset()  # wrappers of gymnasium.make want to have seen one
        self.env.unwrapped.load_checkpoint(path)  # type: ignore[attr-defined]


def encode(value: Any) -> Any:
    """An answer as JSON: `decode` gives the same back, dtypes and all bits included.

    Examples:
        >>> encode((np.array([0.1], dtype=np.float32), {"n": 1}))
        [{'array': [0.10000000149011612], 'dtype': 'float32'}, {'dict': {'n': 1}}]
    """
    if isinstance(value, np.ndarray):
        return {"array": value.tolist(), "dtype": str(value.dtype)}
    if isinstance(value, np.generic):
        return {"scalar": value.item(), "dtype": str(value.dtype)}
    if isinstance(value, dict):
        return {"dict": {key: encode(entry) for key, entry in value.items()}}
    if isinstance(value, tuple):
        return [encode(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):  # which JSON doesn't have
        return {"float": str(value)}
    return value


def decode(value: Any) -> Any:
    """What `encode` was given."""
    if isinstance(value, list):
        return tuple(decode(entry) for entry in value)
    if not isinstance(value, dict):
        return value
    if "dict" in value:
        return {key: decode(entry) for key, entry in value["dict"].items()}
    if "float" in value:
        return float(value["float"])
    if value["dtype"] not in DTYPES:
        raise ValueError(f"dtype {value['dtype']!r} is none of an environment's")
    dtype = np.dtype(value["dtype"])
    return np.array(value["array"], dtype) if "array" in value else dtype.type(value["scalar"])


def check_observation(space: gymnasium.Space[Any], value: Any) -> None:
    """Fails at what has another form than the observations of a space; their bounds aren't checked.

    Raises:
        TypeError: If it isn't made of numbers.
        ValueError: If it has other entries or another shape.
    """
    if isinstance(space, gymnasium.spaces.Dict):
        if space.keys() != dict(value).keys():
            raise ValueError(f"an observation has {', '.join(space)}, and not {', '.join(value)}")
        for key, part in space.items():
            check_observation(part, value[key])
    elif np.shape(value) != space.shape:
        raise ValueError(f"an observation has the shape {space.shape}, and not {np.shape(value)}")
    elif np.asarray(value).dtype.kind not in "biuf":
        raise TypeError(f"{value!r} is no observation")


def check_info(info: Any) -> None:
    """Fails at what is no info of a TieEnv.

    Raises:
        ValueError: If it isn't.
    """
    if not isinstance(info, dict) or type(info.get("iteration")) is not int:
        raise ValueError(f"{info!r} is no info with an iteration")


def innermost(env: gymnasium.Env[Any, Any]) -> gymnasium.Env[Any, Any]:
    """The environment itself, within its `Resumable` if it has one: past all other wrappers."""
    while isinstance(env, gymnasium.Wrapper) and not isinstance(env, Resumable):
        env = env.env
    return env
