"""The networks of Decision S4: the actor that is told a return, a critic, and their targets.

The actor sees at each decision the observation, the decision before, and the return-to-go: by how
many nats the level (`agents.trajectory_buffer.Seen`) is still to rise. Between these and the
scores of its actions lie the layers of `agents.s4_layers`, over a whole episode at once or one
decision after the other. How it learns is in `agents.decision_s4_learning`.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import Schedule
from torch import Tensor, nn
from torch.nn import functional as F

from agents.s4_layers import S4Block
from agents.trajectory_buffer import Eyes, Seen
from tiegym.actions import Actions

TO_GO = 10.0
"""What a nat of return-to-go is to the actor: what decisions are worth is hundredths of one."""

State = tuple[np.ndarray, ...]
"""The states of all layers, complex (K, B, H, N), and the decisions before, (B,)."""


class Embedding(nn.Module):
    """What is seen as numbers: choices and the unit one-hot, figures as they are.

    Args:
        actions: Of the environment.
        n_figures: G.
    """

    def __init__(self, actions: Actions, n_figures: int) -> None:
        super().__init__()
        self.n_units, self.n_choices = actions.n_units, int(actions.n_choices.max())
        self.width = self.n_units * (self.n_choices + 1) + n_figures

    def forward(self, choices: Tensor, unit: Tensor, figures: Tensor) -> Tensor:
        """(..., width), of (..., U), (...,) and (..., G)."""
        which = F.one_hot(choices, self.n_choices).flatten(-2)
        return torch.cat((which, F.one_hot(unit, self.n_units), figures), dim=-1)


class Actor(nn.Module):
    """Scores of actions, from what was seen, done and asked for so far.

    Args:
        embedding: Of what is seen.
        n_actions: A.
        width: Channels H.
        states: Complex states of each.
        layers: State space layers K.
    """

    def __init__(
        self, embedding: Embedding, n_actions: int, width: int, states: int, layers: int
    ) -> None:
        super().__init__()
        self.embedding = embedding
        self.n_actions = n_actions
        self.seen = nn.Linear(embedding.width, width)
        self.done = nn.Linear(n_actions + 1, width)
        self.to_go = nn.Linear(1, width)
        self.join = nn.Linear(3 * width, width)
        self.blocks = nn.ModuleList(S4Block(width, states) for _ in range(layers))
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, n_actions))

    def inputs(
        self, choices: Tensor, unit: Tensor, figures: Tensor, before: Tensor, to_go: Tensor
    ) -> Tensor:
        """What goes into the first layer, (..., H).

        Args:
            choices: (..., U).
            unit: (...,).
            figures: (..., G).
            before: The last decision, A where there is none, (...,).
            to_go: Return-to-go in nats, (...,).
        """
        done = F.one_hot(before, self.n_actions + 1).to(figures.dtype)
        asked = TO_GO * to_go[..., None].to(figures.dtype)
        parts = self.seen(self.embedding(choices, unit, figures)), self.done(done)
        return self.join(torch.cat((*parts, self.to_go(asked)), dim=-1).tanh())  # type: ignore[no-any-return]

    def forward(self, *seen: Tensor) -> Tensor:
        """Scores of whole episodes, (B, T, A); arguments as of `inputs`, (B, T, ...)."""
        hidden = self.inputs(*seen)
        for block in self.blocks:
            hidden = block(hidden)
        return self.head(hidden)  # type: ignore[no-any-return]

    def step(self, states: Tensor, *seen: Tensor) -> tuple[Tensor, Tensor]:
        """Scores of the next decision, (B, A), and the states behind it.

        Args:
            states: Of all layers, complex (K, B, H, N); zeros before the first decision.
            *seen: As of `inputs`, (B, ...).
        """
        hidden, after = self.inputs(*seen), []
        for block, state in zip(self.blocks, states, strict=True):
            assert isinstance(block, S4Block)
            hidden, state = block.step(hidden, state)
            after.append(state)
        return self.head(hidden), torch.stack(after)


class S4Policy(BasePolicy):
    """Actor and critic, and the slow copies of both that learning aims at.

    Args:
        observation_space: Of a TieEnv with layerwise actions.
        action_space: Of it.
        lr_schedule: Of AdamW; constant.
        eyes: How observations are seen.
        width: Channels H of the actor, and units of the critic's two layers.
        states: Complex states of each channel.
        layers: State space layers.
        weight_decay: Of AdamW.
    """

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        lr_schedule: Schedule,
        eyes: Eyes,
        width: int,
        states: int,
        layers: int,
        weight_decay: float,
    ) -> None:
        super().__init__(observation_space, action_space)
        self.eyes, self.shape = eyes, (layers, width, states)
        embedding = Embedding(eyes.actions, eyes.n_figures)
        masks = [eyes.actions.mask(unit) for unit in range(eyes.actions.n_units)]
        self.masks = torch.from_numpy(np.stack(masks))
        n = self.masks.shape[1]
        self.actor = Actor(embedding, n, width, states, layers)
        self.critic = nn.Sequential(
            *(nn.Linear(embedding.width, width), nn.ReLU()),
            *(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, n)),
        )
        learnt = [*self.actor.parameters(), *self.critic.parameters()]
        self.optimizer = torch.optim.AdamW(
            learnt, lr=lr_schedule(1), weight_decay=weight_decay, fused=True
        )
        self.target_actor = copy.deepcopy(self.actor).requires_grad_(False)
        self.target_critic = copy.deepcopy(self.critic).requires_grad_(False)
        self.target_level: Tensor
        self.register_buffer("target_level", torch.zeros((), dtype=torch.float64))

    def allowed(self, scores: Tensor, unit: Tensor) -> Tensor:
        """Scores (..., A) with none for what a unit (...,) can't be told, or is told twice."""
        return scores.masked_fill(~self.masks[unit], -1e9)

    @torch.no_grad()
    def decide(
        self, seen: Seen, state: State | None, start: np.ndarray | None
    ) -> tuple[Tensor, np.ndarray]:
        """Scores of the allowed actions (B, A), and the states of all layers behind this decision.

        Args:
            seen: B observations.
            state: Of the last decision; None at the first.
            start: Whether an episode begins, (B,); None is that none does, but at the first.
        """
        layers, width, n = self.shape
        shape = layers, len(seen.unit), width, n
        before = np.full(shape[1], self.actor.n_actions)
        hidden = np.zeros(shape, np.complex64)
        if state is not None:
            kept = ~np.reshape(np.zeros(shape[1], bool) if start is None else start, -1)
            hidden, before = (
                np.where(kept[:, None, None], state[0], hidden),
                np.where(kept, state[1], before),
            )
        to_go = self.target_level - torch.from_numpy(seen.level)
        tensors = [torch.from_numpy(array) for array in (*seen[:3], before)]
        scores, after = self.actor.step(torch.from_numpy(hidden), *tensors, to_go)
        return self.allowed(scores, tensors[1]), after.numpy()

    def predict(
        self,
        observation: Any,
        state: State | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, State | None]:
        """The best actions, or drawn ones; the state has to be handed on to the next call.

        Args:
            observation: One, or (B, ...) of them.
            state: What the last call returned; None at the first.
            episode_start: Whether an episode begins, (B,).
            deterministic: Take the best; else draw by their probabilities, from PyTorch's global
                generator.
        """
        seen = self.eyes.see(observation)
        scores, hidden = self.decide(seen, state, episode_start)
        drawn = scores.argmax(1) if deterministic else scores.softmax(1).multinomial(1)[:, 0]
        actions = drawn.numpy()
        one = np.ndim(observation["ties"]) == 1
        return (actions[0] if one else actions), (hidden, actions)

    def _predict(self, observation: Any, deterministic: bool = False) -> Tensor:
        """The actions at the beginning of an episode, as tensors."""
        arrays = {key: value.numpy() for key, value in observation.items()}
        return torch.as_tensor(self.predict(arrays, deterministic=deterministic)[0])
