"""TieEnvFlat-v0: the environment for clients that take one vector and nothing but an id."""

from __future__ import annotations

from typing import Any, Literal

import gymnasium

from tiegym.env import TieEnv


class FlatTieEnv(TieEnv):
    """`TieEnv` with its observation as one vector, for what takes nothing else.

    **Observation space**: `Box` of float32, the entries of `TieEnv`'s observation one behind the
    other in alphabetical order, integers as one-hot vectors: what
    `gymnasium.wrappers.FlattenObservation` makes of it. Everything else is as in `TieEnv`.

    Examples:
        >>> import gymnasium, tiegym
        >>> env = gymnasium.make("TieEnvFlat-v0", corpus="synthetic:40000", max_iters=8)
        >>> env.observation_space.shape, env.observation_space.dtype
        ((48,), dtype('float32'))
    """

    def __init__(
        self, render_mode: Literal["ansi", "human", "rgb_array"] | None = None, **config: Any
    ) -> None:
        super().__init__(render_mode, **config)
        self._dict_space = self.observation_space
        self.observation_space = gymnasium.spaces.flatten_space(self._dict_space)

    def _observation(self) -> Any:
        return gymnasium.spaces.flatten(self._dict_space, super()._observation())
