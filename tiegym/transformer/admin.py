"""Admin's start (Liu et al. 2020, arXiv 2004.08249) for blocks with their norms in front.

Admin is made for blocks with the norm behind: x_k = norm(w_k x_{k-1} + f_k(x_{k-1})) for the
residual branches f_1 to f_N, N = 2 L. A first batch shows the variance of each branch, and w_k^2
becomes the sum of those before it: then no branch has more than its share of the stream, and the
output changes by O(log N), instead of O(N), with the weights. In a block with the norm in front,
x_k = x_{k-1} + g_k f_k(norm(x_{k-1})), the stream itself keeps that sum, and multiplying it is the
same as dividing the branch, whose norm sees no difference. So what is left to set is the gain g_k
of the branch: here it gives every branch the variance of the embedding x_0. Branch k then is 1 of
k + 1 equal shares of the stream behind it, and the sum of the shares grows like log N.

As Admin's w_k, the gains belong to a position, and train: they are its private scales.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from tiegym.transformer.block import block, cast
from tiegym.transformer.gpt import TiedTransformer
from tiegym.transformer.isolation import isolated
from tiegym.transformer.private import cast_private


@isolated
@torch.no_grad()
def balance_branches(model: TiedTransformer, tokens: Tensor) -> None:
    """Sets the private scales so that each residual branch has the variance of the embedding.

    Args:
        model: With private scales; its other weights as they are at the start.
        tokens: A first batch, (B, T). Dropout is left out.
    """
    wide = torch.promote_types(model.token_embedding.dtype, torch.float32)
    x = F.embedding(tokens, model.token_embedding) + model.position_embedding[: tokens.shape[1]]
    x = x.to(wide)
    aim = x.var()
    for layer in range(model.shape.n_layer):
        weights, start = cast(model.shared_weights(layer), wide), x
        part = model.private_part(layer)
        assert part is not None, "admin needs private scales"
        scales = [part.get_parameter(name) for name in ("attention_scale", "mlp_scale")]
        scales[1].zero_()
        for scale in scales:
            scale.fill_(1.0)
            private = cast_private(part.weights, wide)
            branch = block(weights, start, model.shape.n_head, None, private) - x
            variance = branch.var()
            gain = torch.where(variance > 0, (aim / variance).sqrt(), 1.0)
            scale.copy_(gain)
            x = x + gain * branch
