"""Wrappers that turn what the environment says into the form that other libraries read."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from gymnasium.utils import RecordConstructorArgs


class MaskInObservation(
    gymnasium.ObservationWrapper[dict[str, Any], Any, Any], RecordConstructorArgs
):
    """Puts the action mask beside the observation, where masked agents of some libraries want it.

    RLlib's read `{"observations": ..., "action_mask": ...}`, which is the default; Tianshou's read
    `{"obs": ..., "mask": ...}`.

    Args:
        env: A TieEnv, wrapped or not: over `FlattenObservation`, say, or `TieEnvFlat-v0`.
        observation: The key of the observation.
        mask: The key of the mask, int8: 1 for actions that differ from each other. With
            action="joint" it has an entry for each choice of each layer; see
            `TieEnv.action_masks`.

    Raises:
        ValueError: If both keys are the same.

    Examples:
        >>> import gymnasium, tiegym
        >>> env = gymnasium.make("TieEnvFlat-v0", corpus="synthetic:40000", max_iters=8)
        >>> env = tiegym.MaskInObservation(env, "obs", "mask")
        >>> observation, info = env.reset(seed=0)
        >>> observation["obs"].shape, observation["mask"].tolist()
        ((48,), [1, 1, 0, 0, 0, 0])
    """

    def __init__(
        self,
        env: gymnasium.Env[Any, Any],
        observation: str = "observations",
        mask: str = "action_mask",
    ) -> None:
        if observation == mask:
            raise ValueError(f"observation and mask are both {mask!r}: give them different keys")
        RecordConstructorArgs.__init__(self, observation=observation, mask=mask)
        super().__init__(env)
        self._keys = observation, mask
        actions: Any = env.action_space
        n = int(actions.nvec.sum() if isinstance(actions, spaces.MultiDiscrete) else actions.n)
        entries = {observation: env.observation_space, mask: spaces.Box(0, 1, (n,), np.int8)}
        self.observation_space = spaces.Dict(entries)

    def observation(self, observation: Any) -> dict[str, Any]:
        """The observation and the mask of the actions that may follow it."""
        masks: npt.NDArray[np.bool_] = self.env.get_wrapper_attr("action_masks")()
        return dict(zip(self._keys, (observation, masks.astype(np.int8)), strict=True))
