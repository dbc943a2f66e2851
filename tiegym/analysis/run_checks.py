"""Whether a run folder holds one whole run, with the figures that a comparison needs."""

from __future__ import annotations

from typing import Any

from tiegym import parts
from tiegym.analysis import groups
from tiegym.runs.folder import Run
from tiegym.runs.input_errors import InputError
from tiegym.runs.record_checks import is_number


def seed_of(run: Run) -> int:
    """The seed of a run, by which runs of a policy are told apart.

    Raises:
        InputError: If it has none.
    """
    seed = groups.seed(run)
    if seed is None:
        raise InputError(
            f"{run.folder} has no seed, by which runs are told apart: record options with one, "
            'as RecordRun(env, folder, {"options": {"seed": 1}}), or reset(seed=1)'
        )
    return seed


def check_run(run: Run) -> None:
    """Makes sure that what a run reports is one whole episode of its own seed.

    Raises:
        InputError: If it isn't, or a figure that is needed isn't there or is no number.
    """
    if groups.state(run) == "cut off":
        raise InputError(
            f"{run.folder} is not a finished run: go on with its program and --resume, or run it "
            "again if it had fewer steps than an episode"
        )
    _check_figures(run)
    final, budget = groups.final(run), run.config["env"]["max_iters"]
    if "test_perplexity" not in final or (
        final["iteration"] != budget and not final.get("diverged")
    ):
        raise InputError(
            f"{run.folder}: its last episode was cut off after {final['iteration']} of {budget} "
            "iterations, so it has no test perplexity of the whole budget. Run it again without "
            "what truncates it"
        )
    if final.get("seed") != seed_of(run):
        raise InputError(
            f"{run.folder} reports an episode of seed {final.get('seed')}, but the run has seed "
            f"{seed_of(run)}: its last episode is not the one that others with that seed had. Give "
            "each run one episode (no --total-steps); an agent that is to learn over several gets "
            "--pretrain-runs"
        )


FIGURES = (*("val_loss", "n_independent", "trainable_params", "model_state_bytes"),)
"""What a table needs of the end of a run, besides its test perplexity."""


def _check_figures(run: Run) -> None:
    """Names the first figure that is no number: whatever wrote the folder, it isn't a run's."""
    env, final = run.config["env"], groups.final(run)
    places: list[tuple[str, dict[str, Any], tuple[str, ...]]] = [
        ("config.json", env, ("n_layer", "max_iters"))
    ]
    if not final:
        raise InputError(
            f"{run.folder} is no record of a TieEnv's run: it has no figures at its end"
        )
    needed = FIGURES if "test_perplexity" in final else ()
    places.append(("summary.json", final, ("episode", "iteration", *needed)))
    places += [("steps.jsonl", step, ("episode", "iteration", "perplexity")) for step in run.steps]
    for name, values, keys in places:
        for key in keys:
            if not is_number(values.get(key)):
                raise InputError(
                    f"{run.folder / name} is no record of a TieEnv's run: its {key} is "
                    f"{values.get(key)!r}, and must be a number"
                )
    n_parts = 2 if env.get("tie_parts") == "attention+mlp" else 1
    for step in run.steps:
        try:
            parts.validate(step.get("ties", ()), env["n_layer"], n_parts)
        except (TypeError, ValueError) as error:
            raise InputError(
                f"{run.folder / 'steps.jsonl'} is no record of a TieEnv's run: {error}"
            ) from error
    perplexity = final.get("test_perplexity", 1.0)
    if not (is_number(perplexity) and perplexity > 0):
        raise InputError(
            f"{run.folder / 'summary.json'}: its test_perplexity is {perplexity!r}, and must be a "
            "positive number"
        )
