"""Norms only: a trained model goes on with everything frozen but its layer norms.

    python -m baselines.norms_only --run runs/fixed-tied-seed0 --seed 1

After "LN-simple" of Zhao et al. 2023 (arXiv 2312.11420), which trains the layer norms of a
pretrained model alone. The run that the model comes from must be finished, and have kept its model
(--export). Its ties stay; each layer gets layer norms of its own, which begin with those that it
had. So a transformer whose layers share all weights learns to tell them apart by their norms.

The environment is that of the run; its arguments on the command line change it. In a comparison,
`baselines.compare "norms-only --run runs/fixed-tied-seed0"`, it is that of the comparison. Whatever
is given, env.private is norms, env.choices tie+freeze, env.embeddings frozen, env.action joint, and
ties and weights at the start are those of the model.
"""

from __future__ import annotations

import dataclasses
import hashlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from baselines.retrain import read_source, source_env, spent_iterations
from tiegym import parts
from tiegym.config import TieConfig
from tiegym.policies.fixed import FixedTies
from tiegym.runs.input_errors import InputError
from tiegym.runs.options import RunOptions
from tiegym.runs.program import open_run, run_policy, run_program
from tiegym.transformer.model_file import find_model, load_model


@dataclass(frozen=True)
class Options(RunOptions):
    """Train nothing but the layer norms of a model that is trained already."""

    run: Path | None = None
    """Folder of the finished run that the model is of; must be given."""


def env_of(run: Path | None, env: TieConfig) -> TieConfig:
    """The environment in which nothing but norms trains, from a run's model on.

    Raises:
        InputError: If the run isn't finished, kept no model or a damaged one, or had another number
            of layers; or if the environment doesn't go with what is set here.
    """
    source = read_source(run)
    try:
        file = find_model(source.folder)
        model = load_model(file)
    except (OSError, ValueError) as error:
        raise InputError(str(error)) from error
    if model.shape.n_layer != env.n_layer:
        raise InputError(
            f"{source.folder} is of {model.shape.n_layer} layers, but env.n_layer={env.n_layer}: "
            "they must be the same"
        )
    try:
        return dataclasses.replace(
            env,
            private="norms",
            choices="tie+freeze",
            tie_parts="block" if model.n_parts == 1 else "attention+mlp",
            tie_change="hard",
            init="gpt2",
            residual_scale="depth",
            action="joint",
            embeddings="frozen",
            initial_ties=tuple(model.ties.tolist()),
            initial_weights=str(file),
        )
    except ValueError as error:
        raise InputError(str(error)) from error


def train(options: Options) -> Path:
    """Trains the norms; returns the run folder.

    Raises:
        InputError: If the run isn't finished, kept no model, or its model doesn't fit.
    """
    env_config = env_of(options.run, options.env)
    options = dataclasses.replace(options, env=env_config)
    source = read_source(options.run)
    ties = parts.parse(env_config.initial_ties, env_config.n_layer, env_config.n_parts)
    model = Path(str(env_config.initial_weights)).read_bytes()
    with open_run(
        options,
        "norms-only",
        protocol="pretrained",
        source={
            "run": source.folder,
            "program": source.config["program"],
            "model_sha256": hashlib.sha256(model).hexdigest(),
        },
    ) as env:
        env.note(extra_iterations=spent_iterations(source))
        own = ties == parts.layers(len(ties), env_config.n_layer)
        policy = FixedTies(ties, env.action_space, frozen=own)
        run_policy(env, policy, options.seed, options.steps)
    return env.folder


def main(args: Sequence[str] | None = None) -> None:
    """Runs the program."""
    args = sys.argv[1:] if args is None else args
    run_program(Options, train, args, source_env(args))


if __name__ == "__main__":
    main()
