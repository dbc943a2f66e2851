"""What the programs share that go on from a trained model, of which next to nothing trains on."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium

from baselines.retrain import read_source, source_env, source_path, spent_iterations
from tiegym import parts
from tiegym.analysis.groups import program
from tiegym.config import TieConfig
from tiegym.policies.fixed import FixedTies
from tiegym.runs.input_errors import InputError, as_input_errors, input_errors
from tiegym.runs.options import RunOptions
from tiegym.runs.program import open_run, run_policy
from tiegym.runs.ranks import refuse_ranks
from tiegym.runs.recorder import RecordRun
from tiegym.training.frozen_workload import FrozenWorkload
from tiegym.training.gpt_workload import GPTWorkload
from tiegym.transformer.gpt import TiedTransformer
from tiegym.transformer.model_file import find_model, load_gpt


@dataclass(frozen=True)
class FrozenOptions(RunOptions):
    """Options of a program that goes on from a trained model."""

    run: Path | None = None
    """The trained model, which must be given: the folder of a finished run that kept it (--export),
    or a file that an environment exported."""

    def source_record(self) -> dict[str, Any] | None:
        """See `RunOptions.source_record`; what it takes over is the model."""
        if self.run is None:
            return None
        record: dict[str, Any] = {"run": self.run}
        if not self.run.is_file():  # of a file nobody knows what made it
            record["program"] = program(read_source(self.run))
        with as_input_errors():
            content = find_model(self.run).read_bytes()
        return record | {"model_sha256": hashlib.sha256(content).hexdigest()}


def read_model(run: Path | None) -> tuple[Path, TiedTransformer]:
    """The file of a trained model, and the model.

    Raises:
        InputError: If none is given, the run isn't finished, or kept no model or a damaged one.
    """
    if run is None or not run.is_file():
        read_source(run)
    assert run is not None
    with as_input_errors():
        file = find_model(run)
        return file, load_gpt(file)


def env_of(run: Path | None, env: TieConfig, **changes: Any) -> TieConfig:
    """The environment that goes on from a trained model, all layers of which are to be frozen.

    Args:
        run: See `FrozenOptions`.
        env: What is asked for.
        **changes: What else the program sets. `private` is that of the model if it isn't given.

    Raises:
        InputError: As `read_model`, or if the model has another number of layers, or the
            environment doesn't go with what is set here.
    """
    file, model = read_model(run)
    if model.shape.n_layer != env.n_layer:
        raise InputError(
            f"{run} is of {model.shape.n_layer} layers, but env.n_layer={env.n_layer}: "
            "they must be the same"
        )
    values: dict[str, Any] = {
        "private": model.shape.private,
        "quantize": model.shape.quantize,
        "factorize": model.shape.factorize,
        "choices": "tie+freeze",
        "tie_parts": "block" if model.n_parts == 1 else "attention+mlp",
        "tie_change": "hard",
        "init": "gpt2",
        "init_std": 0.02,
        "residual_scale": "depth",
        "action": "joint",
        "embeddings": "frozen",
        "initial_ties": tuple(model.ties.tolist()),
        "initial_weights": str(file),
    }
    with as_input_errors(ValueError):
        return dataclasses.replace(env, **values | changes)


def env_beside(run: Path | None, env: TieConfig, **changes: Any) -> TieConfig:
    """`env_of` for a part that trains beside a frozen model, whose layers run one by one.

    They are neither compiled nor computed again in a backward pass.

    Args:
        run: As of `env_of`.
        env: As of `env_of`.
        **changes: As of `env_of`.

    Raises:
        InputError: As `env_of`.
    """
    return env_of(run, env, compile=False, checkpoint_activations=False, **changes)


def open_frozen(options: FrozenOptions, name: str) -> RecordRun:
    """`open_run`, whose record names the model and what it cost.

    Args:
        options: Their environment has the model's file as `initial_weights`.
        name: The program, as of `open_run`.

    Raises:
        InputError: As `open_run`, and if torchrun has started several ranks.
    """
    # Other ranks would make the environment's own trainer, and train the whole model.
    refuse_ranks("it trains a part beside a frozen model")
    assert options.run is not None
    record = options.source_record()
    env = open_run(options, name, protocol="pretrained", source=record)
    if not options.run.is_file():  # of a file nobody knows at which cost it was made
        env.note(extra_iterations=spent_iterations(read_source(options.run)))
    return env


def train_frozen(
    options: FrozenOptions,
    config: TieConfig,
    name: str,
    beside: Callable[[GPTWorkload], FrozenWorkload] | None = None,
    wrapper: Callable[[RecordRun], gymnasium.Env[Any, Any]] = lambda env: env,
) -> Path:
    """Runs a program with all frozen that has weights, from the first step on.

    Args:
        options: The program's.
        config: Its environment: what `env_of` or `env_beside` returned.
        name: The program, as of `open_run`.
        beside: Puts a part that trains beside the frozen model; None adds nothing.
        wrapper: Of the run, within which it is stepped.

    Returns:
        The run folder.

    Raises:
        InputError: As `open_frozen`.
        ValueError: As `beside`.
    """
    options = dataclasses.replace(options, env=config)
    with open_frozen(options, name) as env:
        if beside is not None:
            inside: Any = env.unwrapped
            inside.workload = workload = beside(inside.workload)
            env.note(part_bytes=workload.part_bytes)
        run_policy(wrapper(env), all_frozen(env, config), options.seed, options.steps)
    return env.folder


def all_frozen(env: gymnasium.Env[Any, Any], config: TieConfig) -> FixedTies:
    """The policy that freezes all that has weights, from the first step on."""
    ties = parts.parse(config.initial_ties, config.n_layer, config.n_parts)
    return FixedTies(ties, env.action_space, ties == parts.layers(len(ties), config.n_layer))


def model_env(args: Sequence[str]) -> TieConfig | None:
    """What arguments of the environment default to on a command line with --run: the model's.

    Of a file, which names neither corpus nor budget, they are the sizes.
    """
    given = source_path(args)
    if given is None or not given.is_file():
        return source_env(args)
    with input_errors():
        shape = read_model(given)[1].shape
        return TieConfig(
            n_layer=shape.n_layer,
            n_head=shape.n_head,
            n_embd=shape.n_embd,
            block_size=shape.block_size,
        )
