"""What `info` says of an episode: figures for researchers, not for agents."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from tiegym import parts
from tiegym.actions import Actions
from tiegym.config import TieConfig
from tiegym.data.corpora import Corpus
from tiegym.episode import Episode
from tiegym.training.trainer import Trainer
from tiegym.transformer import tying


def step_info(episode: Episode, trainer: Trainer, corpus: Corpus) -> dict[str, Any]:
    """The entries of `info` at every step and reset: plain scalars and fresh arrays.

    The keys are always the same, since many a library stacks infos. The test figures are infinite
    before the end, where nothing has read the test split (not NaN, which is unlike itself: equal
    runs must have equal infos).

    Args:
        episode: As it stands.
        trainer: Its trainer; nothing is built.
        corpus: Its corpus.
    """
    trained = parts.trained(np.array(episode.ties), episode.frozen, trainer.config.n_layer)
    if episode.iteration:
        state_bytes = tying.model_state_bytes(trainer.model, trainer.optimizer)
    else:  # as it will be after the first iteration
        state_bytes = trainer.expected_state_bytes(*trained)
    return episode_info(episode, trainer, corpus, state_bytes)


def episode_info(
    episode: Episode, trainer: Trainer, corpus: Corpus, state_bytes: int
) -> dict[str, Any]:
    """The same of an episode whose model is elsewhere.

    Args:
        episode: As it stands.
        trainer: One of its configuration.
        corpus: Its corpus.
        state_bytes: Bytes of weights, gradients and optimiser state.
    """
    config, ties = trainer.config, np.array(episode.ties, dtype=np.int64)
    trained = parts.trained(ties, episode.frozen, config.n_layer)
    info = {
        "perplexity": math.exp(episode.loss),
        "bits_per_byte": episode.loss / math.log(2) / corpus.bytes_per_token("validation"),
        "train_loss": episode.train_loss,
        "val_loss": episode.loss,
        "ties": ties,
        "n_independent": parts.n_independent(ties, config.n_layer),
        "trainable_params": trainer.trainable_params(*trained),
        "model_state_bytes": state_bytes,
        "iteration": episode.iteration,
        "tokens": episode.iteration * config.batch_size * config.block_size,
        "diverged": episode.diverged,
        "test_perplexity": math.inf,
        "test_bits_per_byte": math.inf,
    }
    if config.action != "joint":
        info["action_mask"] = action_mask(episode, config).astype(np.int8)
    if config.choices == "tie+freeze":
        info["frozen"] = np.array(episode.frozen, dtype=np.bool_)
    return info


def action_mask(episode: Episode, config: TieConfig) -> npt.NDArray[np.bool_]:
    """The actions that differ from each other; see `TieEnv.action_masks`."""
    return Actions.of(config).mask(episode.unit(config.n_layer))


def test_figures(loss: float, config: TieConfig, corpus: Corpus) -> dict[str, float]:
    """`test_perplexity` and `test_bits_per_byte` of a test loss in nats a token."""
    bytes_per_token = corpus.bytes_per_token("test", config.test_tokens, config.block_size)
    return {
        "test_perplexity": math.exp(loss),
        "test_bits_per_byte": loss / math.log(2) / bytes_per_token,
    }
