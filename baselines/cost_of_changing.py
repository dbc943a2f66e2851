"""What removes the cost of changing ties: the study `sharing` of `baselines.results`.

A run under changing ties ends worse than one that has the ties of its end from the beginning. The
difference of the two test losses, paired by seed, is what changing costs. Both have the same
parameters, of whatever kind; so the cost is compared between variants of what is shared, which have
the same parameters up to the step of a width: where something is private, layers are narrower.

The protocol stands in docs/results.md.
"""

from __future__ import annotations

import dataclasses
import functools
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from baselines.compare import read_row
from baselines.policies import ComparedPolicy, parse_policy
from baselines.running import run_pairs
from baselines.running_options import RunningOptions
from tiegym import ties as tie_vectors
from tiegym.analysis.intervals import Difference, holm, paired_difference
from tiegym.analysis.rows import Row, make_row
from tiegym.config import TieChange, TieConfig, TieParts
from tiegym.data.corpora import load_corpus
from tiegym.runs.folder import Run
from tiegym.runs.input_errors import InputError
from tiegym.training.resolve import transformer_shape


@dataclass(frozen=True)
class Variant:
    """What is shared, how it changes, and the recipe; the default is none of it."""

    private: str = "none"
    tie_change: TieChange = "hard"
    tie_parts: TieParts = "block"
    decay: bool = False
    """Warm-up and cosine instead of a constant learning rate."""

    def __str__(self) -> str:
        """Its name: what differs from the plain one."""
        given = [str(getattr(self, f.name)) for f in dataclasses.fields(self)[:3]]
        default = [str(f.default) for f in dataclasses.fields(self)[:3]]
        names = [g for g, d in zip(given, default, strict=True) if g != d]
        return ", ".join([*names, *["cosine"] * self.decay]) or "plain"

    @property
    def hard(self) -> Variant:
        """The same with hard changes, as which everything that never changes is run."""
        return dataclasses.replace(self, tie_change="hard")


PLAIN = Variant()
VARIANTS = (
    PLAIN,
    *(Variant(private) for private in ("norms", "scales", "lora:1", "lora:4")),
    *(Variant(private, "soft") for private in ("lora:1", "lora:4")),
    Variant(tie_parts="attention+mlp"),
    *(Variant(decay=True), Variant("lora:4", decay=True), Variant("lora:4", "soft", decay=True)),
)
CONTRASTS = (
    *((variant, PLAIN) for variant in VARIANTS[1:]),
    *((variant, variant.hard) for variant in VARIANTS if variant.tie_change == "soft"),
)
"""Whose cost is compared with whose: 13 tests for each policy that changes ties."""

CHANGING = ("random", "qlearning")
"""Random tying, on which the primary comparison rests, and the paper's agent."""
FIXED = ("sequence:3", "tied")
"""Patterns, which change nothing: what a variant is worth to them at equal parameters."""
SEEDS = 10
LEAST_SEEDS = 8

Rows: TypeAlias = Mapping[tuple[Variant, str], Row]
"""By variant and policy; "kept random" has the ties that "random" ends with, from the start."""


def env_of(variant: Variant, policy: str, env: TieConfig) -> TieConfig:
    """The environment of a policy in a variant.

    With `decay` a tenth of the iterations warms up to twice the rate, from which a cosine falls to
    0: the sum of all rates is that of the constant one.
    """
    recipe: dict[str, Any] = {}
    if variant.decay:
        recipe = {"warmup_iters": env.max_iters // 10, "lr_decay": "cosine"}
        recipe["learning_rate"] = 2 * env.learning_rate
    return dataclasses.replace(
        env,
        n_embd=width(variant.private, policy, env),
        private=variant.private,
        tie_change=variant.tie_change,
        tie_parts=variant.tie_parts,
        **recipe,
    )


@functools.cache
def width(private: str, policy: str, env: TieConfig) -> int:
    """The width with which the trainable parameters are nearest to those of `env`, private none.

    Args:
        private: As in `TieConfig.private`.
        policy: Says how many layers are independent: as many as a pattern has, or on average of
            uniformly random ties.
        env: Widths are multiples of its number of heads.
    """
    plain = dataclasses.replace(env, private="none", tie_change="hard", init="gpt2")
    shape = transformer_shape(plain, load_corpus(env.corpus, env.tokenizer))

    def params(n_embd: int, private: str) -> float:
        own = dataclasses.replace(shape, n_embd=n_embd, private=private)
        return own.params(0) + n_independent(policy, env.n_layer) * own.block_params

    aim = params(env.n_embd, "none")
    widths = range(env.n_head, env.n_embd + 1, env.n_head)
    return min(widths, key=lambda n_embd: abs(params(n_embd, private) - aim))


def n_independent(policy: str, n_layer: int) -> float:
    """Independent layers of a pattern, or the mean of uniformly random ties."""
    if policy in CHANGING:
        return tie_vectors.expected_independent(n_layer)
    return tie_vectors.n_independent(tie_vectors.pattern(policy, n_layer))


def run(env: TieConfig, seeds: Sequence[int], options: RunningOptions) -> Rows:
    """Runs what is missing, in `options.runs_dir`, and reads it all.

    Raises:
        InputError: As `run_pairs`; or if random tying drew other ties in a variant than in that
            with hard changes, whose kept ties it is held against.
        RunsFailed: As `run_pairs`.
    """
    policies = {
        (variant, name): parse_policy(name, env_of(variant, name, env))
        for variant in VARIANTS
        for name in (*CHANGING, *(FIXED if _is_whole(variant) else ()))
    }
    run_pairs([(policy, seed) for seed in seeds for policy in policies.values()], options)
    rows = {key: read_row(policy, seeds, options.runs_dir) for key, policy in policies.items()}
    kept = {
        (variant, name, seed): _kept(policies[variant, name], name, variant, seed, env, options)
        for seed in seeds
        for variant, name in policies
        if name in CHANGING and (variant == variant.hard or name != "random")
    }
    run_pairs([(policy, seed) for (_, _, seed), policy in kept.items()], options)
    for variant, name in policies:
        if name in CHANGING:
            of = variant.hard if name == "random" else variant
            runs: list[Run] = []
            for seed in seeds:
                runs += read_row(kept[of, name, seed], [seed], options.runs_dir).runs
            rows[variant, f"kept {name}"] = make_row(f"kept {name}, {variant}", runs)
            _check_ties(rows[variant, name], rows[variant, f"kept {name}"])
    return rows


def _is_whole(variant: Variant) -> bool:
    """Whether patterns are run in it: with other parts or changes their runs are the same."""
    return variant == dataclasses.replace(variant, tie_change="hard", tie_parts="block")


def _kept(
    policy: ComparedPolicy,
    name: str,
    variant: Variant,
    seed: int,
    env: TieConfig,
    options: RunningOptions,
) -> ComparedPolicy:
    """Training from scratch with the ties that a run ended with."""
    source = shlex.quote(str(policy.folder(options.runs_dir, seed)))
    return parse_policy(f"retrain --run {source}", env_of(variant.hard, name, env))


def _check_ties(changing: Row, kept: Row) -> None:
    for run, other in zip(changing.runs, kept.runs, strict=True):
        assert run.summary is not None
        assert other.summary is not None
        if run.summary["final"]["ties"] != other.summary["final"]["ties"]:
            raise InputError(
                f"{other.folder} kept other ties than {run.folder} ended with: remove both to run "
                "them again"
            )


def costs(rows: Rows, variant: Variant, policy: str) -> list[float]:
    """What changing costs in each seed: test loss over that of the kept ties, in nats."""
    changing, kept = rows[variant, policy].losses, rows[variant, f"kept {policy}"].losses
    return [changing[seed] - kept[seed] for seed in sorted(changing)]


def cost(rows: Rows, variant: Variant, policy: str) -> Difference:
    """The mean over seeds, with its interval."""
    each = costs(rows, variant, policy)
    return paired_difference(each, [0.0] * len(each))


@dataclass(frozen=True)
class Contrast:
    """How much less changing costs in a variant than in another; negative is less."""

    variant: Variant
    against: Variant
    difference: Difference
    p_holm: float
    """Among all `CONTRASTS` of the policy."""


def contrasts(rows: Rows, policy: str) -> list[Contrast]:
    """All comparisons of costs of a policy, each paired by seed."""
    found = [
        paired_difference(costs(rows, variant, policy), costs(rows, against, policy))
        for variant, against in CONTRASTS
    ]
    adjusted = holm([1.0 if d.p_value is None else d.p_value for d in found])
    return [
        Contrast(*pair, difference, p_holm)
        for pair, difference, p_holm in zip(CONTRASTS, found, adjusted, strict=True)
    ]


def each_run(rows: Rows) -> list[dict[str, Any]]:
    """A line for each run of each row: all that the tables are made of.

    With soft changes the kept ties of random tying are the runs of the variant with hard ones.
    """
    lines = []
    for (variant, policy), row in rows.items():
        for seed, run in zip(row.seeds, row.runs, strict=True):
            assert run.summary is not None
            final = run.summary["final"]
            lines.append(
                {
                    "variant": str(variant),
                    "policy": policy,
                    "seed": seed,
                    "n_embd": run.config["env"]["n_embd"],
                    "test_loss": row.losses[seed],
                    "val_loss": final["val_loss"],
                    "trainable_params": final["trainable_params"],
                    "n_independent": final["n_independent"],
                    "diverged": bool(final.get("diverged")),
                    "ties": " ".join(map(str, final["ties"])),
                    "folder": Path(run.folder).name,
                }
            )
    return lines
