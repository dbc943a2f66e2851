"""The network of `agents.qlearning`, and the environments that it fits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.dqn.policies import DQNPolicy, QNetwork
from torch import Tensor, nn

from tiegym.actions import Actions


class LayerQNetwork(QNetwork):
    """Linear(L, 128), ReLU, Linear(128, L (L+1) / 2) on the tie vector as raw floats.

    Layer i owns the i + 1 outputs from i (i+1) / 2 on: the values of tying it to 0, ..., i-1, then
    that of independence. Of two parts (`tie_parts="attention+mlp"`) both tie vectors go in, and the
    MLPs' outputs come behind those of the attention. With `choices="tie+freeze"` what is frozen
    goes in, too, and each layer has one more output, the last of its own: that of freezing it.
    Where only units of one kind may share weights, those of ties to another kind are never best.
    """

    def __init__(
        self,
        observation_space: spaces.Dict,
        *args: Any,
        kinds: Sequence[str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(observation_space, *args, **kwargs)
        self.actions = layerwise_actions(observation_space, kinds)
        units = range(self.actions.n_units)
        self.allowed = [np.flatnonzero(self.actions.mask(unit)) for unit in units]
        """Of each unit, its actions that differ from each other."""
        choices = self.actions.n_choices
        self.first_output = torch.from_numpy(choices.cumsum() - choices)
        """Of each unit."""
        inputs = self.actions.n_units * (2 if self.actions.freeze else 1)
        self.q_net = nn.Sequential(
            nn.Linear(inputs, 128), nn.ReLU(), nn.Linear(128, int(choices.sum()))
        )
        of_kind = [np.isin(np.arange(n), self.actions.different(u)) for u, n in enumerate(choices)]
        self.of_kind = torch.from_numpy(np.concatenate(of_kind))
        """Of each output, whether it is a choice within the unit's kind."""

    def forward(self, obs: dict[str, Tensor]) -> Tensor:  # type: ignore[override]
        """Values (B, L) of the L actions, for the layer under each observation's cursor.

        All actions from i to L - 1 make layer i independent, so they share one output.
        """
        n_layer = self.actions.n_layer
        layer = obs["layer"].long().reshape(-1, 1)  # (B, 1) in replay, (B,) in predict
        unit = layer
        if "part" in obs:
            unit = layer + obs["part"].long().reshape(-1, 1) * n_layer
        action = torch.arange(int(self.action_space.n), device=layer.device)
        choice = torch.where(action < n_layer, action.minimum(layer), layer + 1)
        state = [obs["ties"].float()]
        if "frozen" in obs:
            state.append(obs["frozen"].float())
        values: Tensor = self.q_net(torch.cat(state, dim=1))  # an output for each unit's choices
        output = self.first_output.to(unit.device)[unit] + choice
        return values.gather(1, output).masked_fill(~self.of_kind.to(unit.device)[output], -1e9)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return super()._get_constructor_parameters() | {"kinds": self.actions.kinds}


class LayerPolicy(DQNPolicy):
    """Greedy over the choices of the layer under the cursor; kinds as of `Actions`."""

    def __init__(self, *args: Any, kinds: Sequence[str] | None = None, **kwargs: Any) -> None:
        self.kinds = kinds  # before super().__init__, which makes the networks
        super().__init__(*args, **kwargs)

    def make_q_net(self) -> QNetwork:
        """A network with its own features extractor, which SB3 wants to exist."""
        net_args = self._update_features_extractor(self.net_args, features_extractor=None)
        return LayerQNetwork(**net_args, kinds=self.kinds).to(self.device)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return super()._get_constructor_parameters() | {"kinds": self.kinds}


def check_layerwise(observation_space: spaces.Space[Any], action_space: spaces.Space[Any]) -> None:
    """Refuses an environment in which the agent couldn't decide layer by layer.

    Raises:
        ValueError: If the spaces aren't those of TieEnv with layerwise actions.
    """
    parts = observation_space.spaces if isinstance(observation_space, spaces.Dict) else {}
    if not {"ties", "layer"} <= parts.keys():
        raise ValueError(
            "the paper's agent needs TieEnv's observations, a Dict with ties and layer, "
            f"not {observation_space}"
        )
    needed = layerwise_actions(observation_space).space()
    if action_space != needed:
        raise ValueError(
            f'the paper\'s agent decides layer by layer: it needs action="layerwise", which is '
            f"{needed}, not {action_space}"
        )


def layerwise_actions(
    observation_space: spaces.Space[Any], kinds: Sequence[str] | None = None
) -> Actions:
    """What the actions of an environment that has these observations mean, layer by layer.

    Args:
        observation_space: Of the environment.
        kinds: As of `Actions`.
    """
    entries = observation_space.spaces  # type: ignore[attr-defined]
    n_parts = 2 if "part" in entries else 1
    n_layer = len(entries["ties"].nvec) // n_parts
    own = None if kinds is None else tuple(kinds)
    return Actions("layerwise", n_layer, n_parts, "frozen" in entries, own)
