"""A small convolutional classifier, whose last hidden layer is the space in which drawn images are compared."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from jensen.noise import seeded

__all__ = ["FEATURES", "Classifier", "accuracy", "coins", "features", "fingerprint", "train_classifier"]

FEATURES = 64
_RATE, _BATCH, _ROWS = 2e-3, 100, 1000


class Classifier(nn.Module):
    """Three convolutions that halve a grey image, shape (B, H, W), a hidden layer of 64 features, and the logits."""

    def __init__(self, shape: tuple[int, ...], classes: int) -> None:
        super().__init__()
        places = 1
        for side in shape:
            places *= -(-side // 8)
        self.body = nn.Sequential(
            nn.Conv2d(1, 16, 3, stride=2, padding=1),
            nn.SiLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1),
            nn.SiLU(),
            nn.Conv2d(32, 64, 3, stride=2, padding=1),
            nn.SiLU(),
            nn.Flatten(),
            nn.Linear(64 * places, FEATURES),
            nn.SiLU(),
        )
        self.head = nn.Linear(FEATURES, classes)
        self.register_buffer("mean", torch.zeros(FEATURES))
        self.register_buffer("scale", torch.ones(FEATURES))

    mean: Tensor
    scale: Tensor

    def hidden(self, x: Tensor) -> Tensor:
        """The values of the last hidden layer, shape (B, 64)."""
        found: Tensor = self.body(x[:, None] - 0.5)
        return found

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(F.dropout(self.hidden(x), 0.3, self.training))
        return logits

    def features(self, x: Tensor) -> Tensor:
        """The values of the last hidden layer, each with mean 0 and variance 1 over the training images."""
        return (self.hidden(x) - self.mean) / self.scale

    @torch.no_grad()
    def standardise(self, x: Tensor) -> None:
        """Makes features of these images have mean 0 and variance 1."""
        values = torch.cat([self.hidden(rows) for rows in x.split(_ROWS)])
        self.mean.copy_(values.mean(0))
        self.scale.copy_(values.std(0).clamp_min(1e-3))


def coins(grey: Tensor) -> Tensor:
    """Zeros and ones with the grey levels as probabilities of ones: the rule by which MNIST is binarised."""
    return torch.bernoulli(grey)


def train_classifier(grey: Tensor, labels: Tensor, epochs: int, seed: int) -> Classifier:
    """Trains a classifier of grey images, shape (N, H, W); half of each batch is binarised, so that it knows both."""
    with _one_thread(), seeded(seed, "classifier"):
        model = Classifier(tuple(grey.shape[1:]), int(labels.max()) + 1)
        steps = epochs * -(-len(grey) // _BATCH)
        optimizer = torch.optim.Adam(model.parameters(), lr=_RATE)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        for _ in range(epochs):
            for index in torch.randperm(len(grey)).split(_BATCH):
                x, half = grey[index], len(index) // 2
                loss = F.cross_entropy(model(torch.cat([coins(x[:half]), x[half:]])), labels[index])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
        model.eval().standardise(coins(grey))
    return model


@contextmanager
def _one_thread() -> Iterator[None]:
    # The order of sums, and with it the classifier, must not depend on the number of threads: figures that were
    # recorded before an interruption would be in other features than those after it.
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@torch.no_grad()
def accuracy(model: Classifier, x: Tensor, labels: Tensor) -> float:
    """The share of images whose class is found."""
    found = torch.cat([model(rows).argmax(1) for rows in x.split(_ROWS)])
    return float((found == labels).double().mean())


@torch.no_grad()
def features(model: Classifier, x: Tensor) -> NDArray[np.float64]:
    """The features of images, shape (N, H, W), as an array of shape (N, 64)."""
    found: NDArray[np.float64] = torch.cat([model.features(rows) for rows in x.split(_ROWS)]).double().numpy()
    return found


def fingerprint(model: Classifier) -> str:
    """The first digits of a hash of its weights."""
    digest = hashlib.sha256()
    for value in model.state_dict().values():
        digest.update(value.contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
