"""Tunes DQN and the transformer that it ties together, with Ray Tune.

    python -m baselines.hyperparameters --trials 40 --out runs/tuned

Optuna proposes settings of the agent and of the environment, ASHA ends trials whose validation loss
is behind that of others after as many iterations. It needs `pip install 'tiegym[tune]'`. Stopped,
the same command goes on; a trial that was going on begins anew.

An example to be changed: what is tuned, and within what, is in `space`.
"""

from __future__ import annotations

import dataclasses
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium

from agents import dqn
from baselines.ray_cluster import connect
from baselines.ray_options import Resources, address_of
from tiegym.analysis.find import TUNING_SEEDS
from tiegym.config import TieConfig
from tiegym.runs.commands import python_command, read_command_line
from tiegym.runs.input_errors import InputError, at_least
from tiegym.runs.json_files import plain, read_json, write_json
from tiegym.runs.messages import complain, say
from tiegym.runs.processes import RunsFailed, long_work
from tiegym.runs.same_run import check_options

OPTIONS = "options.json"
"""What a search began with, in its folder: it goes on with nothing else."""


@dataclass(frozen=True)
class Options:
    """Tune DQN and the transformer that it ties."""

    trials: int = 40
    """Settings that are tried."""
    engine: str = "ray"
    """ray, which starts a Ray on this machine, or ray:ADDRESS; see `baselines.compare`."""
    workers: int | None = None
    """Trials at a time; None is as many as there is room for."""
    gpus_per_run: float = 0.0
    """GPUs that a trial takes."""
    seed: int = TUNING_SEEDS[0]
    """Of all trials; at least 1,000,001, so that it is none that a comparison has."""
    out: Path = Path("runs/hyperparameters")
    """Where Ray Tune keeps what it has tried."""
    env: TieConfig = field(default_factory=TieConfig)
    """The environment, but for what is tuned."""

    def __post_init__(self) -> None:
        """Checks the options.

        Raises:
            InputError: If one is out of range.
        """
        at_least(self, 1, "trials")
        if self.seed < TUNING_SEEDS[0]:
            raise InputError(
                f"seed={self.seed} must be at least {TUNING_SEEDS[0]}: comparisons have those from "
                "0, and what was tuned is to be judged on others"
            )
        if self.workers is not None and self.workers < 1:
            raise InputError(f"workers={self.workers} must be at least 1, or None to choose")
        Resources(1, self.gpus_per_run)
        if address_of(self.engine) is None:
            raise InputError(f"engine={self.engine!r} has no Tune: choose ray or ray:ADDRESS")


def space() -> dict[str, Any]:
    """What is tuned: options of `agents.dqn`, those of the environment after "env."."""
    from ray import tune

    return {
        "learning_rate": tune.loguniform(1e-4, 1e-2),
        "exploration_fraction": tune.uniform(0.1, 0.6),
        "env.learning_rate": tune.loguniform(3e-4, 3e-3),
        "env.iters_per_step": tune.choice([2, 4, 8]),
    }


def agent_options(settings: Mapping[str, Any], options: Options) -> dqn.Options:
    """The options of a trial."""
    of_env = {k.removeprefix("env."): v for k, v in settings.items() if k.startswith("env.")}
    of_agent = {k: v for k, v in settings.items() if not k.startswith("env.")}
    env = dataclasses.replace(options.env, **of_env)
    return dqn.Options(seed=options.seed, env=env, **of_agent)


class Reports(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Tells Ray Tune the validation loss after each step."""

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Steps; does not return if the trial is to end."""
        from ray import tune

        result = self.env.step(action)
        tune.report({key: result[4][key] for key in ("val_loss", "iteration", "n_independent")})
        return result


def trial(settings: Mapping[str, Any], options: Options, cwd: Path) -> None:
    """One run under an agent with these settings; paths are seen from a working directory."""
    import torch

    os.chdir(cwd)  # Tune has gone elsewhere
    torch.set_num_threads(1)
    given = agent_options(settings, options)
    env = Reports(gymnasium.make("tiegym:TieEnv-v0", **dataclasses.asdict(given.env)))
    dqn.make_model(given, env).learn(given.steps)


def search(options: Options) -> Any:
    """Tries settings, or goes on with it; returns Ray Tune's `ResultGrid`.

    Raises:
        InputError: If Ray or Optuna isn't installed, or no cluster is there.
    """
    address = address_of(options.engine)
    assert address is not None
    connect(address, options.workers)
    try:
        from ray import tune
        from ray.tune.schedulers import ASHAScheduler
        from ray.tune.search.optuna import OptunaSearch

        sampler = OptunaSearch(metric="val_loss", mode="min", seed=options.seed)
    except ImportError as error:
        raise InputError(f"{error}: pip install 'tiegym[tune]'") from error
    resources = {"cpu": 1, "gpu": options.gpus_per_run}
    trainable = tune.with_resources(partial(trial, options=options, cwd=Path.cwd()), resources)
    folder = options.out.resolve()
    if tune.Tuner.can_restore(folder):
        _check_same(options)
        return tune.Tuner.restore(str(folder), trainable, resume_unfinished=True).fit()
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / OPTIONS, _identity(options))
    iterations = options.env.max_iters
    scheduler = ASHAScheduler(
        time_attr="iteration", max_t=iterations, grace_period=max(1, iterations // 8)
    )
    tuner = tune.Tuner(
        trainable,
        param_space=space(),
        tune_config=tune.TuneConfig(
            metric="val_loss",
            mode="min",
            num_samples=options.trials,
            max_concurrent_trials=options.workers,
            scheduler=scheduler,
            search_alg=sampler,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(name=folder.name, storage_path=str(folder.parent), verbose=1),
    )
    return tuner.fit()


def _identity(options: Options) -> dict[str, Any]:
    """What decides the trials, wherever they run; as a run's record has it."""
    where = ("engine", "workers", "gpus_per_run", "out")
    return {"options": {k: v for k, v in plain(options).items() if k not in where}}


def _check_same(options: Options) -> None:
    """Refuses to go on with a search that is another one; an older one doesn't say what it is.

    Raises:
        InputError: If so, naming what differs; or if what it says can't be read.
    """
    file = options.out / OPTIONS
    if not file.exists():
        complain(f"{options.out} doesn't say with which options it began: give the same")
        return
    try:
        theirs = read_json(file)
    except (OSError, ValueError) as error:
        raise InputError(f"{error}; give another --out") from error
    check_options(options.out, theirs, _identity(options))


def compare_command(settings: Mapping[str, Any], env: TieConfig) -> str:
    """The command that compares DQN with these settings to DQN as it is.

    Both have random actions beside them, those of the tuned one with its transformer: else what was
    tuned of that would count for the agent.

    Args:
        settings: Of `space`.
        env: The environment that they were found in.
    """
    words, null = ["dqn"], ["random-raw"]
    for name, value in settings.items():
        given = [f"--{name.replace('_', '-')}", f"{value:.3g}"]
        words += given
        null += given if name.startswith("env.") else []
    policies = dict.fromkeys((shlex.join(words), "dqn", "random", "random-raw", shlex.join(null)))
    return python_command("baselines.compare", *policies, *env_arguments(env))


def env_arguments(env: TieConfig) -> list[str]:
    """The words of a command line that make an environment of the default one."""
    words = []
    for field_ in dataclasses.fields(env):
        name, value = f"env.{field_.name.replace('_', '-')}", getattr(env, field_.name)
        if value == field_.default:
            continue
        if isinstance(value, bool):
            words.append(f"--{name}" if value else f"--env.no-{name.removeprefix('env.')}")
        else:
            given = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
            words += [f"--{name}", given]
    return words


def main(args: Sequence[str] | None = None) -> None:
    """Runs the program."""
    options = read_command_line(Options, "baselines.hyperparameters", __doc__, args=args)
    with long_work():
        results = search(options)
        if results.errors:
            raise RunsFailed(f"{len(results.errors)} trials failed: {options.out} says why")
        if results.num_terminated < len(results):  # Tune ends at Ctrl-C as if it had done its work
            raise KeyboardInterrupt
        best = results.get_best_result()
    say(f"lowest validation loss: {best.metrics['val_loss']:.4f} nats", sys.stdout)
    say(f"to judge it: {compare_command(best.config, options.env)}", sys.stdout)
    say(f"all trials: {options.out}", sys.stdout)


if __name__ == "__main__":
    main()
