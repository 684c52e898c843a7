"""A variational autoencoder as people write it by hand in PyTorch, with a DataLoader and ``.item()`` at each step."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from .dense import arrays, dense, linear
from .job import HIDDEN, LATENTS, PIXELS, Array, Job, Turn, versions

__all__ = ["make"]


class DenseVAE(nn.Module):
    """784-500-500-20 and back; the loss is a sum over the batch, in nats."""

    def __init__(self, activation: str) -> None:
        super().__init__()
        self.hidden = dense([PIXELS, *HIDDEN], activation, ends_active=True)
        self.mean = nn.Linear(HIDDEN[-1], LATENTS)
        self.log_variance = nn.Linear(HIDDEN[-1], LATENTS)
        self.decoder = dense([LATENTS, *HIDDEN[::-1], PIXELS], activation)

    def loss(self, x: Tensor) -> Tensor:
        hidden = self.hidden(x)
        mean, log_variance = self.mean(hidden), self.log_variance(hidden)
        logits = self.decoder(sample(mean, log_variance))
        return F.binary_cross_entropy_with_logits(logits, x, reduction="sum") + divergence(mean, log_variance)

    def weights(self) -> Mapping[str, Array]:
        encoder = arrays("encoder", *linear(self.hidden), [self.mean, self.log_variance])
        return {**encoder, **arrays("decoder", *linear(self.decoder))}


class ImageVAE(nn.Module):
    """The convolutional networks of jensen with a discretised logistic likelihood written by hand."""

    def __init__(self) -> None:
        from jensen import nets

        from .ours import IMAGE, IMAGE_LATENTS

        super().__init__()
        self.encoder = nets.conv_encoder(IMAGE, 2 * IMAGE_LATENTS)
        self.decoder = nets.conv_decoder(IMAGE_LATENTS, IMAGE, parameters=2)

    def loss(self, x: Tensor) -> Tensor:
        mean, log_variance = self.encoder(x).chunk(2, dim=1)
        location, log_scale = self.decoder(sample(mean, log_variance)).chunk(2, dim=1)
        fit = discretized_logistic(x.flatten(1), location + 0.5, log_scale.clamp(min=-7) - 2)
        return divergence(mean, log_variance) - fit.sum()

    def weights(self) -> Mapping[str, Array]:
        return {}


def sample(mean: Tensor, log_variance: Tensor) -> Tensor:
    return mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)


def divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    return -0.5 * torch.sum(1 + log_variance - mean.pow(2) - log_variance.exp())


def discretized_logistic(x: Tensor, location: Tensor, log_scale: Tensor) -> Tensor:
    """The log-mass of the bin of x, as in the code of PixelCNN++."""
    centred, inverse, half = x - location, torch.exp(-log_scale), 1 / 510
    upper, lower = inverse * (centred + half), inverse * (centred - half)
    inside = torch.log((torch.sigmoid(upper) - torch.sigmoid(lower)).clamp(min=1e-12))
    first, last = upper - F.softplus(upper), -F.softplus(lower)
    return torch.where(x < 0.001, first, torch.where(x > 0.999, last, inside))


class Plain:
    """Trains with a hand-written loop."""

    def __init__(self, job: Job, *, images: bool) -> None:
        self.versions = versions("torch")
        self.job = job
        torch.manual_seed(job.seed)
        self.model = ImageVAE() if images else DenseVAE(job.activation)
        self.rows = torch.from_numpy(job.load())

    def run(self, turn: Turn) -> None:
        """Trains; a turn is an epoch."""
        loader = DataLoader(TensorDataset(self.rows), batch_size=self.job.batch, shuffle=True)
        optimizer = torch.optim.Adam(self.model.parameters(), lr=self.job.rate)
        for _ in range(self.job.turns):
            total = 0.0
            for (x,) in loader:
                optimizer.zero_grad()
                loss = self.model.loss(x)
                loss.backward()
                total += loss.item()
                optimizer.step()
            turn(len(self.rows), total / len(self.rows))

    def weights(self) -> Mapping[str, Array]:
        """What was learned."""
        return self.model.weights()


def make(job: Job, *, images: bool = False) -> Plain:
    """The contender."""
    return Plain(job, images=images)
