"""The roles that pieces of a model play, and the plain records that pass between them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.distributions import Distribution

__all__ = [
    "BoundKind",
    "Draw",
    "Estimate",
    "Evidence",
    "Given",
    "Group",
    "Likelihood",
    "Model",
    "Objective",
    "Posterior",
    "Prior",
    "Shared",
]

BoundKind = Literal["exact", "lower", "estimate", "none"]
Evidence = Literal["exact", "lower", "predictive", "none"]
"""What the log-weights of a model say about log p(x): all, a lower bound, one on that of new rows, or nothing."""


@dataclass(frozen=True)
class Given:
    r"""What is known beside the data and reaches every role.

    Arguments:
        condition: What the model is conditioned on, shape (B, \*C).
        index: The number of each row in its data set, shape (B,).
        shared: A draw of the latents of the whole data set, shape (\*G), or one for each sample, shape (K, 1, \*G).
        labels: The number of the class of each row where it is observed and -1 where it is not, shape (B,).
    """

    condition: Tensor | None = None
    index: Tensor | None = None
    shared: Tensor | None = None
    labels: Tensor | None = None

    def rows(self, index: slice | Tensor) -> Given:
        """What is known beside some of the rows."""
        chosen = {name: value[index] for name, value in self._by_row().items()}
        return replace(self, **chosen)

    def to(self, device: torch.device) -> Given:
        """The same on a device."""
        shared = None if self.shared is None else self.shared.to(device)
        return replace(self, shared=shared, **{name: value.to(device) for name, value in self._by_row().items()})

    def _by_row(self) -> dict[str, Tensor]:
        found = {"condition": self.condition, "index": self.index, "labels": self.labels}
        return {name: value for name, value in found.items() if value is not None}


@runtime_checkable
class Prior(Protocol):
    """A module whose forward returns p(z), batch shape () or (B,).

    A prior may have ``unpack(z)``, which turns the z that is drawn and scored into what the likelihood takes, such as
    a dictionary of named and constrained values.
    """

    def __call__(self, given: Given | None = None) -> Distribution: ...


@runtime_checkable
class Posterior(Protocol):
    r"""A module whose forward returns q(z|x), batch shape (B,), for x of shape (B, \*X)."""

    def __call__(self, x: Tensor, given: Given | None = None) -> Distribution: ...


@runtime_checkable
class Likelihood(Protocol):
    """A module whose forward returns p(x|z), batch shape that of z without its last dimension."""

    def __call__(self, z: Tensor, given: Given | None = None) -> Distribution: ...


@dataclass(frozen=True)
class Group:
    r"""K samples of one group of latents; their log-densities are computed when first asked for.

    Arguments:
        z: The samples, shape (K, B, \*Z).
        prior: The distribution p(z).
        posterior: The distribution q(z|x).
    """

    z: Tensor
    prior: Distribution
    posterior: Distribution

    @cached_property
    def log_prior(self) -> Tensor:
        r""":math:`\log p(z)`, shape (K, B), nats."""
        return self.prior.log_prob(self.z)

    @cached_property
    def log_posterior(self) -> Tensor:
        r""":math:`\log q(z|x)`, shape (K, B), nats."""
        return self.posterior.log_prob(self.z)


@dataclass(frozen=True)
class Shared(Group):
    r"""One sample of the latents of a whole data set, shape (\*G); its log-densities have shape ().

    Each of the N rows carries its part of their KL: a bound on the log-likelihood of all rows, divided by N.

    Arguments:
        rows: The number of training rows N.
    """

    rows: int


@dataclass(frozen=True)
class Draw:
    r"""K draws of all latents for each example: the one thing that objectives, evaluation and diagnosis see.

    Arguments:
        groups: One entry for each group of latents.
        log_likelihood: :math:`\log p(x|z)`, shape (K, B), nats.
        drawn_weight: The log-weights, where the draws were not made by plain importance sampling.
        shared: The latents of the whole data set, drawn once for all rows and samples. Their KL is no part of the
            log-weights: inside a log-mean-exp over samples it would not give a bound.
    """

    groups: tuple[Group, ...]
    log_likelihood: Tensor
    drawn_weight: Tensor | None = None
    shared: tuple[Shared, ...] = ()

    @cached_property
    def log_weight(self) -> Tensor:
        r""":math:`\log w = \log p(x, z) - \log q(z|x)`, shape (K, B), nats."""
        if self.drawn_weight is not None:
            return self.drawn_weight
        log_weight = self.log_likelihood
        for group in self.groups:
            log_weight = log_weight + (group.log_prior - group.log_posterior)
        return log_weight


@dataclass(frozen=True)
class Estimate:
    """What an objective returns.

    Arguments:
        loss: What is minimised, shape (): the sum over terms of their means over examples.
        bound: The bound on log p(x) at β = 1, shape (B,), nats; None where the objective has none.
        terms: What the loss is made of, by name, each of shape (B,), nats.
    """

    loss: Tensor
    bound: Tensor | None
    terms: dict[str, Tensor]

    @classmethod
    def of(cls, terms: dict[str, Tensor], bound: Tensor | None) -> Estimate:
        """The estimate whose loss is the sum of the means of its terms.

        Example:
            >>> Estimate.of({"reconstruction": torch.tensor([1.0, 3.0]), "kl": torch.tensor([0.0, 1.0])}, None).loss
            tensor(2.5000)
        """
        first, *others = [term.mean() for term in terms.values()]
        return cls(sum(others, first), bound, terms)


class Model(Protocol):
    """A joint distribution with a way to draw its latents for given data.

    ``evidence`` says what the log-weights are worth, ``latent_size`` how many values describe an example.
    """

    @property
    def evidence(self) -> Evidence: ...

    @property
    def latent_size(self) -> int: ...

    def draw(self, x: Tensor, given: Given | None = None, k: int = 1) -> Draw: ...

    def log_joint(self, x: Tensor, z: Tensor, given: Given | None = None) -> Tensor: ...

    def decode(self, z: Tensor, given: Given | None = None) -> Distribution: ...

    def sample(self, n: int, given: Given | None = None, *, mean: bool = False) -> Tensor: ...

    def embed(self, x: Tensor, given: Given | None = None) -> Tensor: ...


class Objective(Protocol):
    """A function of a model and a batch; ``kind`` and ``k`` say what its bound is, ``period`` when it has shown all.

    ``period`` is the step from which on every schedule inside the objective has taken all its values. With an attribute
    ``selects`` that is true its own loss on validation rows selects weights, which otherwise a bound does.
    """

    kind: BoundKind
    k: int
    period: int

    def __call__(self, model: Model, x: Tensor, given: Given | None = None, step: int = 0) -> Estimate: ...
