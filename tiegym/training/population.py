"""Training many transformers of one configuration at once, each with its own seed, ties and end.

A member is what one `tiegym.training.trainer.Trainer` would train from the same seed, up to
rounding. What they compute together is in `tiegym.transformer.population`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from tiegym.training import population_rows
from tiegym.training.population_members import Members
from tiegym.training.population_places import Together, together, weights_of
from tiegym.training.schedule import rate_factor
from tiegym.transformer.isolation import isolated
from tiegym.transformer.population import Weights, add_rows, losses


class Population(Members):
    """Members that train together; arguments as of `Members`."""

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
        batches = {
            member: [
                tokens.view(iterations[member], *size)
                for tokens in self.data.sample(
                    "train", iterations[member] * size[0], size[1], self.batch_streams[member]
                )
            ]
            for member in members
        }
        result = torch.zeros((len(members), most), dtype=torch.float32, device=self.device)
        # Who has fewer iterations begins later: at the end all have the gradients of their last.
        at = {member: count - most for member, count in iterations.items()}
        active: list[int] = []
        for i in range(most):
            before, active = active, [member for member in members if at[member] + i >= 0]
            if active != before:
                groups = together(self, active, learns=True)
            for store in self.stores.values():
                store.gradients.zero_()
            found = []
            for some in groups:
                inputs, targets = (
                    torch.stack([batches[member][side][at[member] + i] for member in some.members])
                    for side in range(2)
                )
                found.append(self._backward(some, inputs, targets))
            places = [members.index(member) for member in active]
            result[places, [at[member] + i for member in active]] = torch.cat(found).float()
            stores = [store for store in self.stores.values() if store.n_trained]
            if config.grad_clip:
                population_rows.clip(stores, self.n_members, config.grad_clip)
            rates = {
                member: config.learning_rate * rate_factor(config, starts[member] + at[member] + i)
                for member in active
            }
            population_rows.step(stores, rates, config.weight_decay)
        return result

    def _backward(self, some: Together, inputs: Tensor, targets: Tensor) -> Tensor:
        """Adds up the gradients of a batch of each, (M, B, T) both; returns the losses, (M,)."""
        n, found = self.config.grad_accum, []
        micro_batches = zip(inputs.chunk(n, 1), targets.chunk(n, 1), strict=True)
        for tokens, goals in micro_batches:
            weights, leaves = weights_of(some, self.compute_dtype)
            generators = [self.dropout_streams[member] for member in some.members]
            loss = self._losses(weights, tokens, goals, self.config.dropout, generators) / n
            loss.sum().backward()  # type: ignore[no-untyped-call]
            for place, leaf in leaves:
                assert leaf.grad is not None
                assert place.rows is not None
                add_rows(place.store.gradients, place.rows, leaf.grad)
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
        for some in together(self, members, False, self.config.eval_batches):
            inputs, targets = (tokens[list(some.members)] for tokens in self.validation_sets)
            found.append(self._losses(weights_of(some, self.compute_dtype)[0], inputs, targets))
        return torch.cat(found)

    @isolated
    @torch.inference_mode()
    def test_losses(self, members: Sequence[int]) -> list[float]:
        """Losses in nats a token of some members; see `Trainer.test_loss`."""
        config, result = self.config, []
        for some in together(self, members, False, config.eval_batches):
            weights, _ = weights_of(some, self.compute_dtype)
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
