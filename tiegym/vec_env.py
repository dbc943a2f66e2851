"""Gymnasium's vector environments for Stable-Baselines3; the adapter is in `tiegym.sb3_vec_env`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gymnasium.vector import AutoresetMode, VectorEnv

if TYPE_CHECKING:
    from stable_baselines3.common.vec_env import VecEnv


def as_vec_env(vector_env: VectorEnv[Any, Any, Any]) -> VecEnv:
    """A Gymnasium vector environment as Stable-Baselines3's `VecEnv`: its agents learn on it.

    Observations, rewards and seeds are the members' own. The `info` of a member whose episode ends
    is that of its last step, with `terminal_observation` and `TimeLimit.truncated`; what its next
    reset says is in `reset_infos`. MaskablePPO finds the masks of members that have them.
    `VecMonitor` and `VecNormalize` go on top.

    Args:
        vector_env: With autoreset mode SAME_STEP, since a `VecEnv` returns the first observation of
            the next episode at the step that ends one.

    Raises:
        ModuleNotFoundError: Without Stable-Baselines3.
        ValueError: If the autoreset mode is another.

    Examples:
        >>> import gymnasium, tiegym
        >>> from gymnasium.vector import AutoresetMode
        >>> many = gymnasium.make_vec(
        ...     "TieEnv-v0",
        ...     num_envs=2,
        ...     vectorization_mode="sync",
        ...     vector_kwargs={"autoreset_mode": AutoresetMode.SAME_STEP},
        ...     corpus="synthetic:40000",
        ...     max_iters=8,
        ... )
        >>> env = tiegym.as_vec_env(many)
        >>> env.seed(0)
        [0, 1]
        >>> env.reset()["ties"].shape
        (2, 6)
    """
    mode = vector_env.metadata.get("autoreset_mode")
    if mode is None or AutoresetMode(mode) is not AutoresetMode.SAME_STEP:
        raise ValueError(
            f"autoreset_mode={mode} of {type(vector_env.unwrapped).__name__}: Stable-Baselines3 "
            "needs SAME_STEP. Make it with autoreset_mode=gymnasium.vector.AutoresetMode.SAME_STEP "
            "(with a vectorization_mode, gymnasium.make_vec takes that in vector_kwargs)"
        )
    try:
        from tiegym.sb3_vec_env import GymnasiumVecEnv
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "as_vec_env needs Stable-Baselines3: pip install 'tiegym[agents]'", name=error.name
        ) from error
    return GymnasiumVecEnv(vector_env)
