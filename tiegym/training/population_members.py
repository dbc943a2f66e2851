"""Many transformers of one configuration: who holds which weights, and each one's random streams.

A member is what one `tiegym.training.trainer.Trainer` would hold; such a trainer makes each one's
beginning. How they train together is in `tiegym.training.population`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tiegym import parts
from tiegym import ties as tie_vectors
from tiegym.config import TieConfig
from tiegym.data.corpora import Corpus
from tiegym.ties import Ties
from tiegym.training.gpt_workload import GPTWorkload
from tiegym.training.population_limits import check_population
from tiegym.training.population_rows import Owner, Rows
from tiegym.training.resolve import resolve_loss_chunk
from tiegym.training.trainer import Trainer
from tiegym.transformer.block import block_sizes
from tiegym.transformer.isolation import isolated
from tiegym.transformer.private import private_sizes


class Members:
    """N transformers, their optimisers' states, their batches and their random streams.

    Members are named by their numbers, 0 to N-1. `reset` must be called for a member before
    anything else of it.

    Args:
        config: All sizes and values, of every member.
        corpus: The tokens.
        n_members: N.

    Raises:
        ValueError: See `check_population` and `Trainer`.
    """

    @isolated
    def __init__(self, config: TieConfig, corpus: Corpus, n_members: int) -> None:
        """Copies the tokens to the device; weights come with `reset`."""
        check_population(config)
        self.config, self.n_members = config, n_members
        self.single = Trainer(config, corpus)
        """Makes each member's beginning."""
        workload = self.single.workload
        assert isinstance(workload, GPTWorkload)
        self.device, self.shape, self.data = workload.device, workload.shape, workload.data
        self.compute_dtype = workload.compute_dtype
        self.loss_chunk = resolve_loss_chunk(config.loss_chunk, self.shape.vocab_size, self.device)
        self.n_units = config.n_parts * config.n_layer
        names = [*parts.PARTS[config.tie_parts]]
        norms, width = not self.shape.private_parts.norms, config.n_embd
        sizes: dict[str, dict[str, tuple[int, ...]]] = {
            "token_embedding": {"token_embedding": (self.shape.vocab_size, width)},
            "position_embedding": {"position_embedding": (config.block_size, width)},
            "final_norm": {"final_norm_weight": (width,), "final_norm_bias": (width,)},
            **{name: block_sizes(width, name, norms) for name in names},
            "private": private_sizes(self.shape.private_parts, width),
        }
        self.stores = {
            name: Rows(of_owner, self.device, workload.dtype)
            for name, of_owner in sizes.items()
            if of_owner
        }
        self.unit_stores = [self.stores[name] for name in names]
        everyone = range(n_members)
        self.ties = np.zeros((n_members, self.n_units), dtype=np.int64)
        """Of each member, (N, P L)."""
        self.frozen = np.zeros((n_members, self.n_units), dtype=np.bool_)
        """Which of its units train no more, (N, P L)."""
        self._begun: set[int] = set()
        self.batch_streams = [torch.Generator(self.device) for _ in everyone]
        self.dropout_streams = [torch.Generator(self.device) for _ in everyone]
        size = (n_members, config.eval_batches * config.batch_size, config.block_size)
        self.validation_sets = tuple(
            torch.zeros(size, dtype=torch.int64, device=self.device) for _ in range(2)
        )
        """Inputs and targets of each member, (N, eval_batches B, T) both."""

    # Ties

    def store(self, unit: int) -> Rows:
        """What has the weights of a unit."""
        return self.unit_stores[unit // self.config.n_layer]

    def roots(self, member: int) -> list[int]:
        """The unit whose weights each unit of a member uses."""
        roots: list[int] = parts.roots(self.ties[member], self.config.n_layer).tolist()
        return roots

    @isolated
    def reset(self, seeds: Mapping[int, int], ties: Mapping[int, Ties]) -> None:
        """Starts new training runs of some members; see `Trainer.reset`.

        Args:
            seeds: Of each of them.
            ties: With which each begins, (P L,).
        """
        self._begun |= seeds.keys()
        trained = np.zeros(self.n_units, dtype=np.bool_)
        self._put({member: ties[member] for member in seeds}, dict.fromkeys(seeds, trained))
        for member, seed in seeds.items():
            self.single.reset(seed, ties[member])
            self._take(member, self.single.state())

    def forget(self) -> None:
        """Frees all that members hold, in whatever state it is; `reset` begins them anew."""
        self._begun.clear()
        for store in self.stores.values():
            store.change([], [], {})

    @isolated
    @torch.no_grad()
    def retie(self, ties: Mapping[int, Ties], frozen: Mapping[int, Any]) -> None:
        """Puts the ties of some members into force; see `tiegym.transformer.tying.retie`.

        Args:
            ties: Of each of them, (P L,).
            frozen: Which of its units train no more, (P L,).
        """
        self._put(ties, frozen)

    def _put(self, ties: Mapping[int, Ties], frozen: Mapping[int, Any]) -> None:
        before = {member: self.roots(member) for member in ties}
        for member, vector in ties.items():
            self.ties[member] = parts.validate(vector, self.config.n_layer, self.config.n_parts)
            self.frozen[member] = frozen[member]
        members = sorted(self._begun)
        for store in self.unit_stores:
            trained, still, sources = list[Owner](), list[Owner](), dict[Owner, Owner]()
            for member in members:
                vector = parts.forest(self.ties[member], self.config.n_layer)
                for unit in tie_vectors.independent_layers(vector):
                    if self.store(unit) is store:
                        owner = (member, unit)
                        (still if self.frozen[member, unit] else trained).append(owner)
                        source = (member, before[member][unit]) if member in before else owner
                        if source in store.row:
                            sources[owner] = source
            # Side by side lies what members use at one place, not what one member has.
            trained.sort(key=_by_place)
            still.sort(key=_by_place)
            store.change(trained, still, sources)
        for name, store in self.stores.items():
            if store not in self.unit_stores:
                places = range(self.config.n_layer if name == "private" else 1)
                owners = [(member, place) for place in places for member in members]
                constant = self.config.embeddings == "frozen" and name.endswith("embedding")
                kept = {owner: owner for owner in owners if owner in store.row}
                store.change([] if constant else owners, owners if constant else [], kept)

    def state_bytes(self) -> dict[int, int]:
        """Bytes of weights, gradients and optimiser state that each member holds."""
        found: dict[int, int] = {}
        for store in self.stores.values():
            for member, held in store.state_bytes().items():
                found[member] = found.get(member, 0) + held
        return found

    def expected_state_bytes(self, ties: Sequence[int], frozen: Sequence[bool]) -> int:
        """What `state_bytes` will say of a member with these ties, once it has weights.

        Args:
            ties: Of all units, (P L,).
            frozen: Which of them train no more, (P L,).
        """
        n_layer, total = self.config.n_layer, 0
        for name, store in self.stores.items():
            if store in self.unit_stores:
                continue
            places = n_layer if name == "private" else 1
            constant = self.config.embeddings == "frozen" and name.endswith("embedding")
            total += places * store.row_bytes(trains=not constant)
        for unit, (tie, still) in enumerate(zip(ties, frozen, strict=True)):
            if tie == unit % n_layer:
                total += self.store(unit).row_bytes(trains=not still)
        return total

    @isolated
    def state(self, member: int) -> dict[str, Tensor]:
        """Copies of everything that a member's next iteration depends on.

        Named as in `Trainer.state`, so that a `Trainer` of the same configuration can go on.
        """
        tensors = {
            "rng.batches": self.batch_streams[member].get_state(),
            "rng.dropout": self.dropout_streams[member].get_state(),
            "validation.inputs": self.validation_sets[0][member].clone(),
            "validation.targets": self.validation_sets[1][member].clone(),
        }
        for prefix, store, owner in self._owned(member):
            for name, value in store.of(owner, store.weights).items():
                tensors[f"model.{prefix}{name}"] = value.clone()
            row = store.row[owner]
            if row >= store.n_trained or not store.steps[row]:
                continue
            for key, moments in (("exp_avg", store.exp_avg), ("exp_avg_sq", store.exp_avg_sq)):
                for name, value in store.of(owner, moments).items():
                    tensors[f"optimizer.{key}.{prefix}{name}"] = value.clone()
            for name in store.sizes:
                steps = torch.tensor(float(store.steps[row]), dtype=torch.float32)
                tensors[f"optimizer.step.{prefix}{name}"] = steps
        return tensors

    @isolated
    @torch.no_grad()
    def load_state(
        self, member: int, ties: Ties, tensors: Mapping[str, Tensor], frozen: Any
    ) -> None:
        """Lets a member go on from a state; arguments as of `Trainer.load_state`.

        Args:
            member: Its number.
            ties: The ties of that state, (P L,).
            tensors: From a file, check them with `tiegym.training.state.check_state` first.
            frozen: Which units were frozen, (P L,).
        """
        self._begun.add(member)
        self._put({member: ties}, {member: frozen})
        self._take(member, tensors)

    @torch.no_grad()
    def _take(self, member: int, tensors: Mapping[str, Tensor]) -> None:
        """Copies a state into the rows that are there for it; without moments they begin anew."""
        self.batch_streams[member].set_state(tensors["rng.batches"].cpu())
        self.dropout_streams[member].set_state(tensors["rng.dropout"].cpu())
        for mine, name in zip(self.validation_sets, ("inputs", "targets"), strict=True):
            mine[member] = tensors[f"validation.{name}"].to(self.device)
        for prefix, store, owner in self._owned(member):
            for name, value in store.of(owner, store.weights).items():
                value.copy_(tensors[f"model.{prefix}{name}"])
            store.begin_anew(owner)
            steps = tensors.get(f"optimizer.step.{prefix}{next(iter(store.sizes))}")
            if steps is None or store.row[owner] >= store.n_trained:
                continue
            store.steps[store.row[owner]] = int(steps)
            for key, moments in (("exp_avg", store.exp_avg), ("exp_avg_sq", store.exp_avg_sq)):
                for name, value in store.of(owner, moments).items():
                    value.copy_(tensors[f"optimizer.{key}.{prefix}{name}"])

    def _owned(self, member: int) -> Iterator[tuple[str, Rows, Owner]]:
        """What of a member has rows: how the weights' names begin, the store and the owner."""
        names = parts.unit_names(self.n_units, self.config.n_layer)
        for name in ("token_embedding", "position_embedding", "final_norm"):
            yield "", self.stores[name], (member, 0)
        for unit in sorted(set(self.roots(member))):
            yield f"blocks.{names[unit]}.", self.store(unit), (member, unit)
        if "private" in self.stores:
            for layer in range(self.config.n_layer):
                yield f"private.{layer}.", self.stores["private"], (member, layer)


def _by_place(owner: Owner) -> Owner:
    member, unit = owner
    return unit, member
