"""Diagonal state space layers (S4D) in plain PyTorch: a convolution and a recurrence, one result.

Gu, Gupta, Goel and Ré 2022, *On the Parameterization and Initialization of Diagonal State Space
Models*, arXiv 2206.11893. Each channel has N complex states, x' = A x + u with a diagonal A, and
y = 2 Re(C x) + D u. With a step dt, exactly integrated while u is held (zero-order hold):

    x_t = exp(dt A) x_{t-1} + (exp(dt A) - 1) / A u_t

So y is a convolution of u, which a whole episode is trained by, and a recurrence, which acts. What
an agent does with it is in `agents.decision_network`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

STEPS = (0.01, 1.0)
"""Between which dt is drawn, on a logarithmic scale: time constants of 1 to 100 decisions."""


class S4D(nn.Module):
    """A diagonal state space model for each channel.

    At first A_n = -1/2 + i pi n (S4D-Lin). Complex numbers are kept as pairs of real ones, which
    any file and optimiser takes.

    Args:
        width: Channels H.
        states: Complex states N of each.
    """

    def __init__(self, width: int, states: int) -> None:
        super().__init__()
        low, high = map(math.log, STEPS)
        self.log_step = nn.Parameter(torch.empty(width).uniform_(low, high))
        self.log_decay = nn.Parameter(torch.full((width, states), math.log(0.5)))
        self.frequency = nn.Parameter(math.pi * torch.arange(states).float().repeat(width, 1))
        self.output = nn.Parameter(torch.randn(width, states, 2) * 0.5**0.5)
        self.skip = nn.Parameter(torch.randn(width))

    def discretised(self) -> tuple[Tensor, Tensor]:
        """Dt A, and C (exp(dt A) - 1) / A, complex (H, N) each."""
        a = torch.complex(-self.log_decay.exp(), self.frequency)
        rate = self.log_step.exp()[:, None] * a
        return rate, torch.view_as_complex(self.output) * (rate.exp() - 1) / a

    def forward(self, inputs: Tensor) -> Tensor:
        """All outputs of sequences at once, (B, T, H), by a convolution in Fourier space.

        Args:
            inputs: (B, T, H).
        """
        length = inputs.shape[1]
        rate, out = self.discretised()
        powers = (rate[..., None] * torch.arange(length)).exp()
        kernel = 2 * (out[..., None] * powers).sum(1).real  # (H, T)
        padded = 2 * length  # so that nothing comes round
        spectrum = torch.fft.rfft(inputs.mT, padded) * torch.fft.rfft(kernel, padded)
        outputs: Tensor = torch.fft.irfft(spectrum, padded)[..., :length].mT
        return outputs + self.skip * inputs

    def step(self, inputs: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """The next output (B, H), and the state behind it.

        Args:
            inputs: (B, H).
            state: What the last call returned, complex (B, H, N); zeros before the first.
        """
        rate, out = self.discretised()
        state = rate.exp() * state + inputs[..., None]
        return 2 * (out * state).sum(-1).real + self.skip * inputs, state


class S4Block(nn.Module):
    """A layer norm, an `S4D`, GELU, a gated linear layer, and the residual around them.

    Args:
        width: Channels H.
        states: Complex states N of each.
    """

    def __init__(self, width: int, states: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.s4 = S4D(width, states)
        self.mix = nn.Linear(width, 2 * width)

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, T, H) to (B, T, H)."""
        return inputs + self._mixed(self.s4(self.norm(inputs)))

    def step(self, inputs: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """(B, H) to (B, H); states as of `S4D.step`."""
        outputs, state = self.s4.step(self.norm(inputs), state)
        return inputs + self._mixed(outputs), state

    def _mixed(self, outputs: Tensor) -> Tensor:
        return F.glu(self.mix(F.gelu(outputs)), dim=-1)
