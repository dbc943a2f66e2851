"""Training many transformers of one configuration at once, each with its own seed, ties and end.

A member is what one `tiegym.training.trainer.Trainer` would train from the same seed, up to
rounding; such a trainer makes each member's beginning. What they compute together is in
`tiegym.transformer.population`, where their weights are in `tiegym.training.population_rows`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tiegym import parts
from tiegym import ties as tie_vectors
from tiegym.config import TieConfig
from tiegym.data.corpora import Corpus
from tiegym.ties import Ties
from tiegym.training import population_rows
from tiegym.training.population_rows import Owner, Rows
from tiegym.training.resolve import resolve_dtype, resolve_loss_chunk
from tiegym.training.schedule import rate_factor
from tiegym.training.trainer import Trainer
from tiegym.transformer.block import block_sizes
from tiegym.transformer.isolation import isolated
from tiegym.transformer.layer_stats import sampled, squashed
from tiegym.transformer.population import Stacked, Weights, losses
from tiegym.transformer.private import private_sizes

ACTIVATION_BYTES = {"cpu": 2**25, "cuda": 2**33}
"""Of how many activations at a time members are trained together: on a CPU such as its cache has
room for, on a GPU a tenth of a large one."""


def check_population(config: TieConfig) -> None:
    """Checks that transformers of a configuration can be trained together.

    Raises:
        ValueError: If an argument asks for what only a single one can do.
    """
    alone: dict[str, tuple[Any, ...]] = {
        "compile": (False,),
        "checkpoint_activations": (False,),
        "tie_change": ("hard",),
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


@dataclass(frozen=True)
class _Place:
    """The rows of a store that some members use at one place.

    Attributes:
        store: The store.
        index: The row of each member, (M,).
        trained: Which of the members train it there, (k,); None is all, if any does.
        rows: The rows of these, (k,); None if none does.
    """

    store: Rows
    index: Tensor
    trained: Tensor | None = None
    rows: Tensor | None = None

    def values(self) -> dict[str, Tensor]:
        """The weights by name, copies (M, ...)."""
        return self.store.views(self.store.weights.index_select(0, self.index))

    def stacked(self, dtype: torch.dtype) -> Stacked:
        """The weights in a dtype, and where their gradients go."""
        gradients = {} if self.rows is None else self.store.columns(self.store.gradients)
        values = {name: value.to(dtype) for name, value in self.values().items()}
        return Stacked(values, gradients, self.trained, self.rows)


@dataclass(frozen=True)
class _Together:
    """Members that are computed at a time, and the rows that they use.

    Attributes:
        members: Their numbers.
        single: What each has once, by the store's name.
        layers: What each uses in each layer, by unit, and what is private there.
    """

    members: tuple[int, ...]
    single: Mapping[str, _Place]
    layers: Sequence[Mapping[str, _Place]]


class Population:
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
        self.device, self.shape, self.data = self.single.device, self.single.shape, self.single.data
        dtype, self.compute_dtype = resolve_dtype(config.dtype, self.device)
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
            name: Rows(of_owner, self.device, dtype) for name, of_owner in sizes.items() if of_owner
        }
        self._of_units = [self.stores[name] for name in names]
        everyone = range(n_members)
        self.ties = np.zeros((n_members, self.n_units), dtype=np.int64)
        """Of each member, (N, P L)."""
        self.frozen = np.zeros((n_members, self.n_units), dtype=np.bool_)
        """Which of its units train no more, (N, P L)."""
        self._begun: set[int] = set()
        self._batches = [torch.Generator(self.device) for _ in everyone]
        self._dropout = [torch.Generator(self.device) for _ in everyone]
        size = (n_members, config.eval_batches * config.batch_size, config.block_size)
        self.validation_sets = tuple(
            torch.zeros(size, dtype=torch.int64, device=self.device) for _ in range(2)
        )
        """Inputs and targets of each member, (N, eval_batches B, T) both."""

    # Ties

    def _store(self, unit: int) -> Rows:
        return self._of_units[unit // self.config.n_layer]

    def _roots(self, member: int) -> list[int]:
        roots: list[int] = parts.roots(self.ties[member], self.config.n_layer).tolist()
        return roots

    @isolated
    def reset(self, seeds: Mapping[int, int], ties: Ties) -> None:
        """Starts new training runs of some members; arguments as of `Trainer.reset`.

        Args:
            seeds: Of each of them.
            ties: With which they begin, (P L,).
        """
        self._begun |= seeds.keys()
        self._put(dict.fromkeys(seeds, ties), dict.fromkeys(seeds, np.zeros(self.n_units, bool)))
        for member, seed in seeds.items():
            self.single.reset(seed, ties)
            self._take(member, self.single.state())

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
        before = {member: self._roots(member) for member in ties}
        for member, vector in ties.items():
            self.ties[member] = parts.validate(vector, self.config.n_layer, self.config.n_parts)
            self.frozen[member] = frozen[member]
        members = sorted(self._begun)
        for store in self._of_units:
            trained, still, sources = list[Owner](), list[Owner](), dict[Owner, Owner]()
            for member in members:
                vector = parts.forest(self.ties[member], self.config.n_layer)
                for unit in tie_vectors.independent_layers(vector):
                    if self._store(unit) is store:
                        owner = (member, unit)
                        (still if self.frozen[member, unit] else trained).append(owner)
                        source = (member, before[member][unit]) if member in before else owner
                        if source in store.row:
                            sources[owner] = source
            store.change(trained, still, sources)
        for name, store in self.stores.items():
            if store not in self._of_units:
                places = range(self.config.n_layer if name == "private" else 1)
                owners = [(member, place) for member in members for place in places]
                constant = self.config.embeddings == "frozen" and name.endswith("embedding")
                kept = {owner: owner for owner in owners if owner in store.row}
                store.change([] if constant else owners, owners if constant else [], kept)

    # Training and evaluation

    @isolated
    def train(self, iterations: Mapping[int, int], starts: Mapping[int, int]) -> Tensor:
        """Runs training iterations of some members, all at once.

        Args:
            iterations: How many, of each of them; not all need as many.
            starts: Iterations of each one's episode before these.

        Returns:
            Their losses in nats, float32 (members, most iterations); of those that were told to
            stop earlier the last ones are 0.
        """
        config, members = self.config, list(iterations)
        most = max(iterations.values())
        size = (config.batch_size, config.block_size)
        batches = [
            [
                tokens.view(iterations[member], *size)
                for tokens in self.data.sample(
                    "train", iterations[member] * size[0], size[1], self._batches[member]
                )
            ]
            for member in members
        ]
        result = torch.zeros((len(members), most), dtype=torch.float32, device=self.device)
        last: list[int] = []
        for i in range(most):
            active = [k for k, member in enumerate(members) if i < iterations[member]]
            if active != last:
                last, together = active, self._together([members[k] for k in active], True)
            for store in self.stores.values():
                store.gradients.zero_()
            found = []
            for some in together:
                inputs, targets = (
                    torch.stack([batches[members.index(member)][at][i] for member in some.members])
                    for at in range(2)
                )
                found.append(self._backward(some, inputs, targets))
            result[active, i] = torch.cat(found).float()
            stores = [store for store in self.stores.values() if store.n_trained]
            if config.grad_clip:
                population_rows.clip(stores, self.n_members, config.grad_clip)
            rates = {
                members[k]: config.learning_rate * rate_factor(config, starts[members[k]] + i)
                for k in active
            }
            population_rows.step(stores, rates, config.weight_decay)
        return result

    def _backward(self, some: _Together, inputs: Tensor, targets: Tensor) -> Tensor:
        """Adds up the gradients of a batch of each, (M, B, T) both; returns the losses, (M,)."""
        n, found = self.config.grad_accum, []
        micro_batches = zip(inputs.chunk(n, 1), targets.chunk(n, 1), strict=True)
        for tokens, goals in micro_batches:
            weights, leaves = self._weights(some)
            generators = [self._dropout[member] for member in some.members]
            loss = self._losses(weights, tokens, goals, self.config.dropout, generators) / n
            loss.sum().backward()  # type: ignore[no-untyped-call]
            for store, index, leaf in leaves:
                assert leaf.grad is not None
                store.gradients.index_add_(0, index, leaf.grad.flatten(1))
            found.append(loss.detach())
        return torch.stack(found).sum(0)

    def _losses(
        self,
        weights: Weights,
        tokens: Tensor,
        targets: Tensor,
        dropout: float = 0.0,
        generators: Sequence[torch.Generator] = (),
    ) -> Tensor:
        n_head, dtype = self.config.n_head, self.compute_dtype
        chunk = self.loss_chunk
        return losses(weights, tokens, targets, n_head, dtype, chunk, dropout, generators)

    @isolated
    @torch.inference_mode()
    def validation_losses(self, members: Sequence[int]) -> Tensor:
        """Losses in nats of some members on their fixed validation sets, float32 (members,)."""
        found = []
        for some in self._together(members, False, self.config.eval_batches):
            inputs, targets = (tokens[list(some.members)] for tokens in self.validation_sets)
            found.append(self._losses(self._weights(some)[0], inputs, targets))
        return torch.cat(found)

    @isolated
    @torch.inference_mode()
    def test_losses(self, members: Sequence[int]) -> list[float]:
        """Losses in nats a token of some members; see `Trainer.test_loss`."""
        config, result = self.config, []
        for some in self._together(members, False, config.eval_batches):
            weights, _ = self._weights(some)
            total, count = torch.zeros(len(some.members), dtype=torch.float64), 0
            for windows in self.data.windows(
                "test",
                config.block_size,
                config.batch_size * config.eval_batches,
                config.test_tokens,
            ):
                inputs, targets = (
                    tokens.expand(len(some.members), *tokens.shape) for tokens in windows
                )
                total += self._losses(weights, inputs, targets).double().cpu() * windows[1].numel()
                count += windows[1].numel()
            result += (total / count).tolist()
        return result

    # Which rows members use

    def _together(self, members: Sequence[int], learns: bool, batches: int = 1) -> list[_Together]:
        """Members in groups that are computed at a time, and what each uses where."""
        config, shape = self.config, self.shape
        tokens = config.batch_size * config.block_size * batches
        numbers = 3 * shape.vocab_size + 8 * config.n_embd
        if learns:  # kept for the backward pass
            tokens //= config.grad_accum
            numbers = 3 * shape.vocab_size + 16 * config.n_embd * config.n_layer
        room = ACTIVATION_BYTES.get(self.device.type, 2**25)
        at_a_time = max(1, room // (tokens * numbers * self.compute_dtype.itemsize))
        return [
            self._group(members[k : k + at_a_time], learns)
            for k in range(0, len(members), at_a_time)
        ]

    def _group(self, members: Sequence[int], learns: bool) -> _Together:
        roots = {member: self._roots(member) for member in members}
        places: list[dict[str, _Place]] = []
        for layer in range(self.config.n_layer):
            of_layer: dict[str, _Place] = {}
            for unit in range(layer, self.n_units, self.config.n_layer):
                owners = [(member, roots[member][unit]) for member in members]
                trains = [
                    learns and (root == unit or self.config.tie_grad == "sum") for _, root in owners
                ]
                of_layer[f"unit {unit}"] = self._place(self._store(unit), owners, trains)
            if "private" in self.stores:
                owners = [(member, layer) for member in members]
                trains = [learns] * len(owners)
                of_layer["private"] = self._place(self.stores["private"], owners, trains)
            places.append(of_layer)
        once = [(member, 0) for member in members]
        single = {
            name: self._place(self.stores[name], once, [learns] * len(once))
            for name in ("token_embedding", "position_embedding", "final_norm")
        }
        return _Together(tuple(members), single, places)

    def _place(self, store: Rows, owners: list[Owner], trains: list[bool]) -> _Place:
        rows = [store.row[owner] for owner in owners]
        learn = [k for k, row in enumerate(rows) if trains[k] and row < store.n_trained]

        def tensor(values: list[int]) -> Tensor:
            return torch.tensor(values, dtype=torch.int64, device=self.device)

        if not learn:
            return _Place(store, tensor(rows))
        everyone = len(learn) == len(rows)
        trained = tensor([rows[k] for k in learn])
        return _Place(store, tensor(rows), None if everyone else tensor(learn), trained)

    def _weights(self, some: _Together) -> tuple[Weights, list[tuple[Rows, Tensor, Tensor]]]:
        """The weights that a group uses, and which leaves get their gradients from autograd."""
        embeddings, leaves = {}, []
        for name in ("token_embedding", "position_embedding"):
            place = some.single[name]
            values = place.values()[name]
            if place.rows is not None:
                values.requires_grad_()
                leaves.append((place.store, place.rows, values))
            embeddings[name] = values
        layers, private = [], []
        for of_layer in some.layers:
            stacked = {name: place.stacked(self.compute_dtype) for name, place in of_layer.items()}
            if "private" in stacked:
                private.append(stacked.pop("private"))
            layers.append({name: w for w in stacked.values() for name in w.values})
        final = some.single["final_norm"].stacked(self.compute_dtype)
        return Weights(**embeddings, final_norm=final, layers=layers, private=private), leaves

    # Figures and states

    @isolated
    @torch.no_grad()
    def sample_weights(self, members: Sequence[int]) -> Tensor:
        """A fixed sample of the weights that each layer uses, float32 (members, P L, n).

        The entries of `tiegym.transformer.layer_stats.sample_weights`.
        """
        samples = []
        for store in self._of_units:
            entries = torch.cat(
                [
                    start + sampled(torch.arange(math.prod(size), device=self.device).view(size))
                    for (start, _), size in zip(
                        store.spans.values(), store.sizes.values(), strict=True
                    )
                    if len(size) == 2
                ]
            )
            samples.append(store.weights.index_select(1, entries).float())
        longest = max(sample.shape[1] for sample in samples)
        samples = [F.pad(sample, (0, longest - sample.shape[1])) for sample in samples]
        return self._by_unit(members, samples)

    @isolated
    @torch.no_grad()
    def layer_stats(self, members: Sequence[int], before: Tensor) -> Tensor:
        """The figures of the features after an environment step, float32 (members, P L, F).

        Args:
            members: Some.
            before: Their `sample_weights` of the same ties before the iterations.
        """
        norms = []
        for store in self._of_units:
            of_rows = torch.zeros(len(store.owners), device=self.device)
            gradients = store.gradients
            of_rows[: store.n_trained] = torch.linalg.vector_norm(gradients, dim=1).float()
            norms.append(of_rows)
        figures = squashed(
            before,
            self.sample_weights(members),
            self._by_unit(members, norms),
            self.config.n_layer,
        )
        stats = torch.stack([figures[name] for name in self.config.feature_names], dim=-1)
        return stats.nan_to_num(0.0).clamp(-1, 1)

    def _by_unit(self, members: Sequence[int], of_rows: Sequence[Tensor]) -> Tensor:
        """Something of the rows of each store that units use, (members, P L, ...)."""
        n_layer = self.config.n_layer
        units = []
        for member in members:
            for unit, root in enumerate(self._roots(member)):
                row = self._of_units[unit // n_layer].row[member, root]
                units.append(of_rows[unit // n_layer][row])
        return torch.stack(units).view(len(members), self.n_units, *units[0].shape)

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
            if store in self._of_units:
                continue
            places = n_layer if name == "private" else 1
            constant = self.config.embeddings == "frozen" and name.endswith("embedding")
            total += places * store.row_bytes(trains=not constant)
        for unit, (tie, still) in enumerate(zip(ties, frozen, strict=True)):
            if tie == unit % n_layer:
                total += self._store(unit).row_bytes(trains=not still)
        return total

    @isolated
    def state(self, member: int) -> dict[str, Tensor]:
        """Copies of everything that a member's next iteration depends on.

        Named as in `Trainer.state`, so that a `Trainer` of the same configuration can go on.
        """
        tensors = {
            "rng.batches": self._batches[member].get_state(),
            "rng.dropout": self._dropout[member].get_state(),
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
        self._batches[member].set_state(tensors["rng.batches"].cpu())
        self._dropout[member].set_state(tensors["rng.dropout"].cpu())
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
        for unit in sorted(set(self._roots(member))):
            yield f"blocks.{names[unit]}.", self._store(unit), (member, unit)
        if "private" in self.stores:
            for layer in range(self.config.n_layer):
                yield f"private.{layer}.", self.stores["private"], (member, layer)
