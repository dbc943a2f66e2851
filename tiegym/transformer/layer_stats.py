"""Figures of each layer that an agent can use: the `layer_stats` of an observation.

They are those of `tiegym.features`, all in [-1, 1]. Distances and similarities come from a fixed
sample of each layer's weights (evenly spaced entries of its matrices, from all of their columns),
so that their cost is independent of the width.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tiegym.features import FEATURES
from tiegym.transformer.fork_safety import fork_safe
from tiegym.transformer.isolation import isolated
from tiegym.transformer.tied_model import TiedModel, Weights

__all__ = ["FEATURES", "layer_similarity", "layer_stats", "sample_weights", "sampled"]

_SAMPLE = 1024  # entries of each matrix


@isolated
@torch.no_grad()
def sample_weights(model: TiedModel) -> Tensor:
    """A fixed sample of the weights that each layer uses, float32 (L, n).

    Of two parts: (2L, n), the attention's and then the MLPs', the shorter ones filled with zeros.
    """
    samples = {root: _sample(model.used_weights(root)) for root in set(model.roots)}
    if model.n_parts > 1:
        longest = max(len(sample) for sample in samples.values())
        samples = {root: _filled(sample, longest) for root, sample in samples.items()}
    return torch.stack([samples[root] for root in model.roots])


@isolated
@torch.no_grad()
def layer_stats(
    model: TiedModel,
    before: Tensor,
    features: Sequence[str] = FEATURES,
    others: Mapping[str, Tensor] | None = None,
) -> Tensor:
    """The figures of some features after an environment step, float32 (L, F), each in [-1, 1].

    Of two parts: (2L, F), the attention's and then the MLPs'.

    Args:
        model: After the step's iterations, its last gradients still there.
        before: `sample_weights` of the same ties before the iterations, (L, n).
        features: Their names, in order.
        others: Those of them that aren't computed here, (L,) each.
    """
    norms = {root: _gradient_norm(model.independent(root)) for root in set(model.roots)}
    gradient = torch.stack([norms[root] for root in model.roots])
    figures = squashed(before, sample_weights(model), gradient, model.n_layer)
    stats = torch.stack([{**figures, **(others or {})}[name] for name in features], dim=1)
    return stats.nan_to_num(0.0).clamp(-1, 1)


def squashed(before: Tensor, after: Tensor, gradient: Tensor, n_layer: int) -> dict[str, Tensor]:
    """The figures of `FEATURES` by name, (..., P L) each, of one transformer or of many.

    Args:
        before: `sample_weights` before the iterations, (..., P L, n).
        after: After them.
        gradient: Norm of the last gradient of the weights that each unit uses, (..., P L).
        n_layer: Layers L.
    """
    tiny = torch.finfo(after.dtype).tiny
    distance = (after - before).norm(dim=-1) / before.norm(dim=-1).clamp_min(tiny)
    similarity = torch.ones_like(distance)
    similarity[..., 1:] = torch.cosine_similarity(after[..., 1:, :], after[..., :-1, :], dim=-1)
    similarity[..., ::n_layer] = 1  # of each part's first layer
    gradient = gradient.clamp_min(tiny)
    return {
        "moved": torch.tanh(10 * distance),
        "similarity": similarity,
        "gradient": torch.tanh((gradient / gradient.mean(dim=-1, keepdim=True)).log()),
    }


@fork_safe
@isolated
@torch.no_grad()
def layer_similarity(model: TiedModel) -> npt.NDArray[np.float32]:
    """Cosine similarity of the weights that each two layers use, (L, L), in [-1, 1].

    Of two parts: (2, L, L), that of the attention and that of the MLPs.

    Of the same fixed sample as `layer_stats`; reads weights, and no random stream. It waits for
    the device: not for every step.
    """
    sample = torch.nn.functional.normalize(sample_weights(model), dim=1)
    sample = sample.view(model.n_parts, model.n_layer, -1)
    similarity: npt.NDArray[np.float32] = (sample @ sample.mT).clamp(-1, 1).cpu().numpy()
    return similarity if model.n_parts > 1 else similarity[0]


def _sample(weights: Mapping[str, Tensor]) -> Tensor:
    return torch.cat([sampled(p) for p in weights.values() if p.ndim >= 2]).float()


def sampled(matrix: Tensor) -> Tensor:
    """A fixed sample of a matrix, about 1,024 entries of it: a view of it where it can be one.

    Of a stack of matrices, such as that of a layer's experts, as of one matrix of all their rows.
    """
    columns = matrix.shape[-1]
    return matrix.flatten()[:: _stride(matrix.numel() // columns, columns)]


def _filled(sample: Tensor, length: int) -> Tensor:
    """The sample with zeros behind it, which change neither norms nor products."""
    return torch.nn.functional.pad(sample, (0, length - len(sample)))


def _stride(rows: int, columns: int) -> int:
    """Distance of the entries that are sampled: no divisor of a row, which would skip columns."""
    stride = max(1, rows * columns // _SAMPLE)
    while math.gcd(stride, columns) > 1:
        stride += 1
    return stride


def _gradient_norm(weights: Weights) -> Tensor:
    gradients = [p.grad for p in weights.parameters() if p.grad is not None]
    if not gradients:  # nothing was trained yet
        return next(weights.parameters()).new_zeros((), dtype=torch.float32)
    return torch.nn.utils.get_total_norm(gradients).float()
