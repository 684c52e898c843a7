"""A generative adversarial network, small enough for a CPU: what samples are compared with, and no part of jensen."""

from __future__ import annotations

import time

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel

from jensen.noise import seeded

__all__ = ["Discriminator", "Generator", "draw", "train_gan"]

LATENTS, WIDTH, BATCH, RATE, BETAS, DECAY = 64, 32, 64, 2e-4, (0.5, 0.999), 0.999


class Generator(nn.Module):
    """Normal noise, shape (B, 64), to grey images between 0 and 1, shape (B, H, W), with sides that four divides."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        height, width = shape[0] // 4, shape[1] // 4
        self.net = nn.Sequential(
            nn.Linear(LATENTS, 2 * WIDTH * height * width, bias=False),
            nn.Unflatten(1, (2 * WIDTH, height, width)),
            nn.BatchNorm2d(2 * WIDTH),
            nn.ReLU(),
            nn.ConvTranspose2d(2 * WIDTH, WIDTH, 4, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(WIDTH),
            nn.ReLU(),
            nn.ConvTranspose2d(WIDTH, 1, 4, stride=2, padding=1),
        )

    def forward(self, z: Tensor) -> Tensor:
        grey: Tensor = torch.sigmoid(2 * self.net(z)[:, 0])  # (1 + tanh) / 2
        return grey


class Discriminator(nn.Module):
    """Grey images, shape (B, H, W), to the logit of their being real, shape (B,)."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        places = (shape[0] // 4) * (shape[1] // 4)
        self.net = nn.Sequential(
            nn.Conv2d(1, WIDTH, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(WIDTH, 2 * WIDTH, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Flatten(),
            nn.Dropout(0.3),
            nn.Linear(2 * WIDTH * places, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        logit: Tensor = self.net(2 * x[:, None] - 1)[:, 0]
        return logit


def train_gan(grey: Tensor, seconds: float, seed: int) -> tuple[nn.Module, int]:
    r"""Trains on grey images, shape (N, H, W), for a time; the generator with averaged weights, and the steps taken.

    The discriminator minimises :math:`-\log D(x) - \log(1 - D(G(z)))`, the generator the non-saturating
    :math:`-\log D(G(z))`.

    References:
        Goodfellow et al. (2014), Generative adversarial nets. Radford, Metz, Chintala (2016), Unsupervised
        representation learning with deep convolutional generative adversarial networks. Yazıcı et al. (2019), The
        unusual effectiveness of averaging in GAN training.
    """
    shape = tuple(grey.shape[1:])
    with seeded(seed, "gan"):
        generator, discriminator = Generator(shape), Discriminator(shape)
        average = AveragedModel(generator, avg_fn=_averaged, use_buffers=True)
        for_generator, for_discriminator = (
            torch.optim.Adam(part.parameters(), lr=RATE, betas=BETAS) for part in (generator, discriminator)
        )
        steps, end = 0, time.perf_counter() + seconds
        while time.perf_counter() < end:
            real = grey[torch.randint(len(grey), (BATCH,))]
            made = generator(torch.randn(BATCH, LATENTS))
            loss = F.softplus(-discriminator(real)).mean() + F.softplus(discriminator(made.detach())).mean()
            _step(for_discriminator, loss)
            _step(for_generator, F.softplus(-discriminator(made)).mean())
            average.update_parameters(generator)
            steps += 1
    return average.module.eval(), steps


def _averaged(average: Tensor, value: Tensor, steps: Tensor | int) -> Tensor:
    """A moving average that looks back over no more than the steps taken, so that it forgets where it began."""
    if not value.is_floating_point():
        return value
    decay = min(DECAY, (1 + int(steps)) / (10 + int(steps)))
    return torch.lerp(average, value, 1 - decay)


def _step(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


@torch.no_grad()
def draw(generator: nn.Module, rows: int, seed: int) -> Tensor:
    """Grey images, shape (rows, H, W)."""
    with seeded(seed, "draw"):
        return torch.cat([generator(z) for z in torch.randn(rows, LATENTS).split(1000)])
