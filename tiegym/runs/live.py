"""What a program shows of its transformer: the ties while it trains, text when it has trained."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import gymnasium
import torch

from tiegym.atomic_write import write_bytes
from tiegym.runs.input_errors import InputError
from tiegym.runs.journal import Journal
from tiegym.runs.messages import say
from tiegym.transformer.fork_safety import fork_safe

SAMPLE = "sample.txt"
"""The text in a run folder that its trained transformer wrote."""

_PROMPT = 16  # tokens


class ShowTies(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Prints the ties after each step, a line each: a film of the run.

    Args:
        env: A TieEnv with `render_mode="ansi"`, in its `tiegym.runs.replay.Resumable`.
        journal: Of the run. Steps that are answered from it are not shown again.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], journal: Journal) -> None:
        super().__init__(env)
        self._journal = journal

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Steps, then prints."""
        replayed = self._journal.replaying
        result = self.env.step(action)
        if not replayed and sys.stdout is not None:
            try:
                print(self.env.unwrapped.render(), flush=True)
            except OSError:  # its reader has gone
                say("", sys.stdout)
        return result


class WriteSample(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Lets the transformer write some text at the end of each episode; the last one's is kept.

    The text continues the beginning of the validation split. Its draws are a generator's of their
    own, so that the run is the same without it.

    Args:
        env: A TieEnv, wrapped or not.
        folder: The run folder; it gets `SAMPLE`.
        n_tokens: How much to write.
        quiet: Whether to print nothing at the end.
    """

    def __init__(
        self, env: gymnasium.Env[Any, Any], folder: Path, n_tokens: int, quiet: bool = False
    ) -> None:
        super().__init__(env)
        task: Any = env.unwrapped.task  # type: ignore[attr-defined]
        if task.name != "language-modeling":
            raise InputError(
                f"--sample-tokens {n_tokens}: with task={task.name!r} there is no text to go on "
                "with; leave it out"
            )
        self._path, self._n_tokens, self._quiet = folder / SAMPLE, n_tokens, quiet

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Steps; after the last step of an episode, also writes."""
        result = self.env.step(action)
        if result[2] or result[3]:
            write_bytes(self._path, self._sample().encode(errors="replace"))
        return result

    @fork_safe
    def _sample(self) -> str:
        from tiegym.transformer.generation import generate

        inner: Any = self.env.unwrapped
        prompt = torch.from_numpy(inner.corpus.validation[:_PROMPT].astype("int64"))[None]
        tokens = generate(inner.model, prompt, self._n_tokens)[0]
        return str(inner.corpus.tokenizer.decode(tokens.cpu().numpy()))

    def close(self) -> None:
        """Prints the text."""
        if not self._quiet and self._path.is_file():
            say(f"\n{self._path.read_text(errors='replace')}\n", sys.stdout)
        super().close()
