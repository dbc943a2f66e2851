"""Regret: how far a policy stays behind the best that could have been done, exactly.

A policy plays the recorded seeds of a split, greedily, an episode for each. Its regret on a seed is
the objective at its end, less that of the best end of the same seed; the objective is that of
`tiegym.bench.exact`, in nats. The best end is the clairvoyant's, which no policy reaches but by
luck: beside it, `known_regrets` has what can be reached without knowing the seed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np

from tiegym.bench.environment import TieBench
from tiegym.bench.exact import known
from tiegym.bench.table import Floats, Judge, Split, Table
from tiegym.bench.tree import Ints
from tiegym.bench.values import objectives

if TYPE_CHECKING:  # it needs PyTorch, which tables don't
    from tiegym.runs.program import Policy


def play(policy: Policy, env: gymnasium.Env[Any, Any]) -> Ints:
    """The nodes in which a policy ends, one for each recorded seed of the split, (R,).

    It is asked for its deterministic actions: what is computed from the nodes is exact. A policy
    that draws all the same gives one draw of each seed, and others when it plays again.

    An episode that a wrapper cuts off ends where it was then, which is no leaf.

    Args:
        policy: The policy.
        env: A TieBench, possibly wrapped.

    Raises:
        TypeError: If the environment is none.
    """
    bench = env.unwrapped
    if not isinstance(bench, TieBench):
        raise TypeError(f"{env} holds no recorded runs: give a TieBench-v0")
    ends = []
    for run in range(len(bench.table.rows_of(bench.split))):
        observation, _ = env.reset(options={"run": run})
        state, start, ended = None, True, False
        while not ended:
            begins = np.array([start])
            action, state = policy.predict(observation, state, begins, deterministic=True)
            observation, _, terminated, truncated, _ = env.step(action)
            start, ended = False, terminated or truncated
        ends.append(bench.node)
    return np.array(ends)


def regret(
    table: Table, ends: Ints, price: float, split: Split = "held-out", loss: Judge = "val"
) -> Floats:
    """Regret against the clairvoyant optimum, in nats, (..., R); never below 0.

    Args:
        table: A tree.
        ends: Leaves, (..., R): the last axis is that of the split's recorded seeds.
        price: In nats, of training all layers independently.
        split: Whose seeds they are.
        loss: By which ends are judged.

    Raises:
        ValueError: If there isn't an end for each seed, or one of them is no leaf.
    """
    at = objectives(table, price, loss)[table.rows_of(split)]  # (R, N)
    ends = np.asarray(ends)
    if ends.shape[-1:] != (len(at),):
        raise ValueError(
            f"ends has the shape {ends.shape}: its last axis must have an end for each of the "
            f"{len(at)} recorded seeds of split {split!r}"
        )
    leaves = table.tree.leaves
    if not np.isin(ends, leaves).all():
        raise ValueError(f"ends={ends.tolist()} must be leaves: {leaves[0]} to {leaves[-1]}")
    result: Floats = at[np.arange(len(at)), ends] - at[:, leaves].min(axis=1)
    return result


def known_regrets(
    table: Table, price: float, split: Split = "held-out", loss: Judge = "val"
) -> dict[str, Floats]:
    """Regret of what `tiegym.bench.exact.known` knows, for each recorded seed, (R,); best first.

    Random policies have their expectation. Fixed sharings and shallow models are no sequences of
    decisions: they begin where no decision can, and may be better than the best one.

    Args:
        table: A tree.
        price: See `regret`.
        split: Whose seeds they are.
        loss: By which ends are judged.
    """
    found = known(table, price, split, loss)
    (best,) = (k.objective for k in found if k.policy == "clairvoyant")
    return {k.policy: k.objective - best for k in found if k.policy != "clairvoyant"}
