"""What transformers that are trained together can't do; no PyTorch."""

from __future__ import annotations

from typing import Any

from tiegym.config import TieConfig


def check_population(config: TieConfig) -> None:
    """Checks that transformers of a configuration can be trained together.

    Raises:
        ValueError: If an argument asks for what only a single one can do.
    """
    alone: dict[str, tuple[Any, ...]] = {
        "model": ("gpt",),
        "compile": (False,),
        "checkpoint_activations": (False,),
        "tie_change": ("hard",),
        "quantize": (None,),
        "factorize": (None,),
    }
    for name, allowed in alone.items():
        if (value := getattr(config, name)) not in allowed:
            raise ValueError(
                f"{name}={value!r} can't be had for a population: leave {name}={allowed[0]!r}, or "
                'take TieEnv-v0, gymnasium.make_vec("TieEnv-v0", ...) for many'
            )
    if others := [name for name in config.feature_names if name in ("agreement", "taylor")]:
        raise ValueError(
            f"features={config.features!r} has {others[0]}, of gradients at single positions, "
            "which a population doesn't keep apart: leave it out, or take TieEnv-v0, "
            'gymnasium.make_vec("TieEnv-v0", ...) for many'
        )
