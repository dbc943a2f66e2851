"""The figures of each layer of many transformers; see `tiegym.transformer.layer_stats`."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from tiegym.training.population_members import Members
from tiegym.transformer.isolation import isolated
from tiegym.transformer.layer_stats import sampled, squashed


@isolated
@torch.no_grad()
def sample_weights(population: Members, members: Sequence[int]) -> Tensor:
    """A fixed sample of the weights that each layer uses, float32 (members, P L, n).

    The entries of `tiegym.transformer.layer_stats.sample_weights`.
    """
    samples = []
    for store in population.unit_stores:
        entries = torch.cat(
            [
                start + sampled(torch.arange(math.prod(size), device=population.device).view(size))
                for (start, _), size in zip(store.spans.values(), store.sizes.values(), strict=True)
                if len(size) == 2
            ]
        )
        samples.append(store.weights.index_select(1, entries).float())
    longest = max(sample.shape[1] for sample in samples)
    samples = [F.pad(sample, (0, longest - sample.shape[1])) for sample in samples]
    return _by_unit(population, members, samples)


@isolated
@torch.no_grad()
def layer_stats(population: Members, members: Sequence[int], before: Tensor) -> Tensor:
    """The figures of the features after an environment step, float32 (members, P L, F).

    Args:
        population: With the gradients of its last iteration.
        members: Some of it.
        before: Their `sample_weights` of the same ties before the iterations.
    """
    norms = []
    for store in population.unit_stores:
        of_rows = torch.zeros(len(store.owners), dtype=torch.float32, device=population.device)
        gradients = store.gradients
        of_rows[: store.n_trained] = torch.linalg.vector_norm(gradients, dim=1).float()
        norms.append(of_rows)
    figures = squashed(
        before,
        sample_weights(population, members),
        _by_unit(population, members, norms),
        population.config.n_layer,
    )
    stats = torch.stack([figures[name] for name in population.config.feature_names], dim=-1)
    return stats.nan_to_num(0.0).clamp(-1, 1)


def _by_unit(population: Members, members: Sequence[int], of_rows: Sequence[Tensor]) -> Tensor:
    """Something of the rows of each store that units use, (members, P L, ...)."""
    n_layer = population.config.n_layer
    units = []
    for member in members:
        for unit, root in enumerate(population.roots(member)):
            row = population.unit_stores[unit // n_layer].row[member, root]
            units.append(of_rows[unit // n_layer][row])
    return torch.stack(units).view(len(members), population.n_units, *units[0].shape)
