"""A table of runs laid out for TieBench, and the TieEnv that it was recorded from; no PyTorch."""

from __future__ import annotations

import dataclasses
import math
import os
import re
from typing import Any

import numpy as np
import numpy.typing as npt

from tiegym.bench.table import (
    NAMES_IN_TABLES,
    NOT_IN_TABLES,
    Split,
    Table,
    load_table,
    shipped_tables,
)
from tiegym.bench.tree import Tree
from tiegym.bench.values import independent_share, node_rewards
from tiegym.config import Reward, TieConfig, default_arguments
from tiegym.spaces import make_observation_space

COUNTS = (
    *("n_independent", "trainable_params", "model_state_bytes", "stored_bytes"),
    *("iteration", "tokens"),
)
"""The entries of info that the node decides alone, and that are plain integers."""

_LN2 = math.log(2)

_WORD = re.compile(r"[a-z0-9][a-z0-9.:-]*|hf:[\w.:/-]+", re.ASCII)
"""What a table may call its text, whether it is a name that `NAMES_IN_TABLES` follows or not."""


class Recorded:
    """What a table says, laid out by node for quick look-up; one and many environments share it.

    Args:
        table: See `tiegym.bench.environment.TieBench`.
        split: See `tiegym.bench.environment.TieBench`.
        reward: See `tiegym.bench.environment.TieBench`.
        param_cost: See `tiegym.bench.environment.TieBench`.
        config: See `tiegym.bench.environment.TieBench`.

    Raises:
        FileNotFoundError: See `tiegym.bench.environment.TieBench`.
        ValueError: See `tiegym.bench.environment.TieBench`.
    """

    def __init__(
        self,
        table: str | os.PathLike[str],
        split: Split,
        reward: Reward,
        param_cost: float,
        config: dict[str, Any],
    ) -> None:
        """Loads and lays out."""
        self.table = load_tree(table)
        self.config = _config(self.table, reward, param_cost, config)
        self.tree: Tree = self.table.tree
        self.split = split
        self.runs = self.table.rows_of(split)
        self.rewards = node_rewards(self.table, reward, param_cost)
        self.children = self.tree.children.tolist()
        self.val, self.train = self.table.losses("val"), self.table.losses("train")
        self.test = self.table.losses("test")
        self.by_run, self.columns = self._lay_out()
        self.by_node = [
            {key: values[node] for key, values in self.columns.items()}
            for node in range(len(self.tree.ties))
        ]
        self._facts = [self._facts_of(node) for node in range(len(self.tree.ties))]

    def leave_out(self, seed: int) -> None:
        """Draws no run of this seed from now on; the split need not have it.

        Raises:
            ValueError: If none would be left.
        """
        others = self.runs[np.array(self.table.all_seeds)[self.runs] != seed]
        if not len(others):
            raise ValueError(
                f"table {self.table.name!r} has no other recorded run than that of seed={seed} in "
                "this split: take another seed"
            )
        self.runs = others

    def numbers_of(self, run: Any, members: int) -> npt.NDArray[np.int64]:
        """The recorded runs that `options={"run": ...}` of a reset asks for, (members,).

        Args:
            run: The number of one in the split, for all members, or one for each of them.
            members: How many these are.

        Raises:
            ValueError: If the split has no such run, or there isn't one for each member.
        """
        try:
            numbers = np.asarray(run)
        except ValueError:  # lists of different lengths
            numbers = np.array(None)
        if numbers.dtype.kind not in "iu" or numbers.shape not in ((), (members,)):
            each = "an integer" if members == 1 else f"an integer, or {members} of them"
            raise ValueError(f'options={{"run": {run!r}}}: run must be {each}')
        if not (numbers.min() >= 0 and numbers.max() < len(self.runs)):
            raise ValueError(
                f'options={{"run": {run!r}}}: the {self.split} split of table '
                f"{self.table.name!r} has the runs 0 to {len(self.runs) - 1}"
            )
        return np.broadcast_to(numbers, members).astype(np.int64)

    def _lay_out(self) -> tuple[dict[str, npt.NDArray[Any]], dict[str, npt.NDArray[Any]]]:
        """What depends on the run and the node, (R, N, ...), and on the node alone, (N, ...)."""
        tree, config, segment = self.tree, self.config, self.tree.segment
        n, facts = config.n_layer, self.table.facts
        spaces = make_observation_space(config)
        stats = np.zeros((len(self.val), len(segment), 3 * n), dtype=np.float32)
        stats[:, 1:] = self.table.arrays["stats"][:, segment[1:]]
        losses = np.stack([self.train, self.val], axis=2).astype(np.float32)
        by_run = {"loss": losses.clip(0, config.divergence_loss), "layer_stats": stats}
        iteration = np.minimum(tree.depth * config.iters_per_step, config.max_iters)
        independent = np.rint(independent_share(tree) * n).astype(np.int64)
        params = np.array(facts["params"])[independent - 1]  # all weights: none is frozen
        columns = {
            "ties": tree.ties.astype(spaces["ties"].dtype),
            "layer": tree.layer,
            "budget": (iteration / config.max_iters).astype(np.float32)[:, None],
            "n_independent": independent,
            "trainable_params": params,
            "model_state_bytes": np.array(facts["model_state_bytes"])[independent - 1],
            "stored_bytes": params * np.float32().itemsize,  # as tables are made
            "iteration": iteration,
            "tokens": iteration * config.batch_size * config.block_size,
            "action_mask": (np.arange(n) <= tree.layer[:, None]).astype(np.int8),
            "ended": tree.children[:, 0] < 0,
        }
        return by_run, columns

    def _facts_of(self, node: int) -> dict[str, int]:
        """The figures of a node that are plain numbers and the same in all runs."""
        return {key: int(self.columns[key][node]) for key in COUNTS}

    def info(self, run: int, node: int) -> dict[str, Any]:
        """TieEnv's info of a run at a node; fresh arrays."""
        per_token = self.table.facts["bytes_per_token"]
        loss = self.val.item(run, node)
        info = {
            "perplexity": math.exp(loss),
            "bits_per_byte": loss / _LN2 / per_token["validation"],
            "train_loss": self.train.item(run, node),
            "val_loss": loss,
            "ties": self.tree.ties[node].copy(),
            **self._facts[node],
            "diverged": False,
            "test_perplexity": math.inf,  # the same keys at every step, as TieEnv's
            "test_bits_per_byte": math.inf,
            "action_mask": self.columns["action_mask"][node].copy(),
        }
        if self.columns["ended"][node]:
            test = self.test.item(run, node)
            info["test_perplexity"] = math.exp(test)
            info["test_bits_per_byte"] = test / _LN2 / per_token["test"]
        return info


def check_shows_nothing(render_mode: Any) -> None:
    """Refuses a way to show a recorded run.

    Raises:
        ValueError: If it isn't None.
    """
    if render_mode is not None:
        raise ValueError(f"render_mode={render_mode!r}: a table shows nothing; leave None")


def load_tree(name: str | os.PathLike[str]) -> Table:
    """Reads a table that has decisions; see `tiegym.bench.table.load_table`.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If it is damaged, or holds fixed sharings alone.
    """
    table = load_table(name)
    if not table.is_tree:
        trees = [tree for tree in shipped_tables() if tree.startswith("tree-")]
        choose = f"choose {', '.join(trees)}" if trees else "make one whose name begins with tree-"
        raise ValueError(f"table={name!r} holds fixed sharings and no decisions: {choose}")
    return table


def real_config(table: str, reward: Reward = "neg_log_ppl", param_cost: float = 0.0) -> TieConfig:
    """The configuration of the TieEnv that a tree was recorded from, with a reward of one's own.

    Its corpus is the name of the table's text, and is not checked: a local text has to be put in
    its place where the TieEnv is built.

    Args:
        table: Its name or path.
        reward: As of TieEnv.
        param_cost: As of TieEnv.

    Raises:
        FileNotFoundError: See `load_tree`.
        ValueError: See `load_tree`; or if the reward has no such price.
    """
    return _config(load_tree(table), reward, param_cost, {})


def config_to_train(table: str) -> TieConfig:
    """`real_config` for who builds the TieEnv: its text is opened.

    Where the table's word for its text isn't a name for certain, it may be that of a file where
    the program runs, and the corpus is then one that nothing opens: the text has to be given.

    Args:
        table: Its name or path.

    Raises:
        FileNotFoundError: See `load_tree`.
        ValueError: See `load_tree`.
    """
    config = real_config(table)
    if not NAMES_IN_TABLES["corpus"].fullmatch(config.corpus):
        object.__setattr__(config, "corpus", f"table:{load_tree(table).name}")
    return config


def _config(table: Table, reward: Reward, param_cost: float, given: dict[str, Any]) -> TieConfig:
    """The table's configuration with another reward.

    Raises:
        TypeError: If an argument is none of TieEnv's.
        ValueError: If it isn't what the table was made with, or the table's own are none that it
            can have been made with.
    """
    usual = default_arguments()  # what an older table doesn't name, it had as it is by default
    recorded = usual | table.facts["config"]
    for name, value in given.items():
        if name not in recorded:
            raise TypeError(f"TieBench got an unexpected keyword argument {name!r}")
        if value != recorded[name]:
            raise ValueError(
                f"{name}={value!r}: table {table.name!r} was made with {recorded[name]!r}. Leave "
                "it out, choose another table, or make one with `python -m tiegym.bench.make`"
            )
    config = dataclasses.replace(_made_with(table), reward=reward, param_cost=param_cost)
    # Set without a check: the text itself is not needed, and needn't be on this machine.
    object.__setattr__(config, "corpus", recorded["corpus"])
    return config


def _made_with(table: Table) -> TieConfig:
    """The configuration that a table was made with, but for its text and its reward.

    Raises:
        ValueError: If it can't be.
    """
    usual = default_arguments()
    recorded = usual | table.facts["config"]
    if unknown := sorted(recorded.keys() - usual.keys()):
        raise ValueError(
            f"table {table.name!r} was made with {', '.join(unknown)}, which this tiegym doesn't "
            "know: use the version that made it"
        )
    if others := {name: recorded[name] for name in NOT_IN_TABLES if recorded[name] != usual[name]}:
        raise ValueError(
            f"table {table.name!r} was made with {others}: TieBench has whole blocks that share "
            "weights or train their own, from initial weights that are drawn, and nothing else"
        )
    for name, allowed in (("corpus", _WORD), ("tokenizer", NAMES_IN_TABLES["tokenizer"])):
        if not isinstance(recorded[name], str) or not allowed.fullmatch(recorded[name]):
            raise ValueError(
                f"table {table.name!r} says {name}={recorded[name]!r}, which is no name: a table "
                "may not name files. Make it with `python -m tiegym.bench.make`"
            )
    values = {name: recorded[name] for name in usual.keys() - {"corpus", "reward", "param_cost"}}
    if isinstance(values["initial_ties"], list):
        values["initial_ties"] = tuple(values["initial_ties"])
    try:
        config = TieConfig(**values)
    except (OSError, TypeError, ValueError) as error:
        raise ValueError(
            f"table {table.name!r} is damaged: no TieEnv is as it says: {error}"
        ) from error
    n_decisions = table.tree.n_decisions
    if config.action != "layerwise" or config.steps_per_episode != n_decisions:
        raise ValueError(
            f"table {table.name!r} is damaged: it holds {n_decisions} layerwise decisions, but "
            f"says action={config.action!r} and {config.steps_per_episode} steps"
        )
    return config
