"""What `info` says of an episode: figures for researchers, not for agents."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tiegym import parts
from tiegym.actions import Actions
from tiegym.config import TieConfig
from tiegym.data.tasks.task import Task
from tiegym.episode import Episode
from tiegym.training.trainer import Trainer
from tiegym.transformer import tying


def step_info(episode: Episode, trainer: Trainer, actions: Actions) -> dict[str, Any]:
    """The entries of `info` at every step and reset: plain scalars and fresh arrays.

    The keys are always the same, since many a library stacks infos. The test figures are infinite
    before the end, where nothing has read the test split (not NaN, which is unlike itself: equal
    runs must have equal infos). A task's own metrics are all better when larger; those on the
    validation set are 0 before the first step.

    Args:
        episode: As it stands.
        trainer: Its trainer; nothing is built.
        actions: Its actions.
    """
    config, ties = trainer.config, np.array(episode.ties, dtype=np.int64)
    trained = parts.trained(ties, episode.frozen, config.n_layer)
    if episode.iteration:
        state_bytes = tying.model_state_bytes(trainer.model, trainer.optimizer)
    else:  # as it will be after the first iteration
        state_bytes = trainer.expected_state_bytes(*trained)
    return episode_info(episode, trainer, actions, state_bytes)


def episode_info(
    episode: Episode, trainer: Trainer, actions: Actions, state_bytes: int
) -> dict[str, Any]:
    """The same of an episode whose model is elsewhere.

    Args:
        episode: As it stands.
        trainer: One of its configuration.
        actions: Its actions.
        state_bytes: Bytes of weights, gradients and optimiser state.
    """
    task = trainer.workload.task
    config, ties = trainer.config, np.array(episode.ties, dtype=np.int64)
    trained = parts.trained(ties, episode.frozen, config.n_layer)
    per_token = task.bytes_per_token("validation")
    info = {
        "perplexity": math.exp(episode.loss),
        **({"bits_per_byte": _bits(episode.loss, per_token)} if per_token else {}),
        "train_loss": episode.train_loss,
        "val_loss": episode.loss,
        "ties": ties,
        "n_independent": parts.n_independent(ties, config.n_layer),
        "trainable_params": trainer.trainable_params(*trained),
        "model_state_bytes": state_bytes,
        "stored_bytes": trainer.workload.stored_bytes(ties),
        "iteration": episode.iteration,
        "tokens": episode.iteration * config.batch_size * trainer.workload.rows_as_tokens,
        "diverged": episode.diverged,
        "test_perplexity": math.inf,
        **({"test_bits_per_byte": math.inf} if per_token else {}),
        **{name: episode.metrics.get(name, 0.0) for name in task.metric_names},
        **{f"test_{name}": -math.inf for name in task.metric_names},
    }
    if config.action != "joint":
        info["action_mask"] = actions.mask(episode.unit(config.n_layer)).astype(np.int8)
    if config.choices == "tie+freeze":
        info["frozen"] = np.array(episode.frozen, dtype=np.bool_)
    return info


def test_figures(
    loss: float, metrics: dict[str, float], config: TieConfig, task: Task
) -> dict[str, float]:
    """What `info` says at the end of a loss on the test split, in nats, and of metrics there."""
    figures = {"test_perplexity": math.exp(loss)}
    if per_token := task.bytes_per_token("test", config.test_tokens):
        figures["test_bits_per_byte"] = _bits(loss, per_token)
    return figures | {f"test_{name}": metrics.get(name, 0.0) for name in task.metric_names}


def _bits(loss: float, bytes_per_token: float) -> float:
    """Bits per byte of a loss in nats a token."""
    return loss / math.log(2) / bytes_per_token
