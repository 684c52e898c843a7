"""Objectives that look at all codes of a batch at once: total correlation, covariance, and maximum mean discrepancy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent

from ..distributions import closed_form_kl
from ..errors import CompositionError, OptionError
from ..roles import BoundKind, Draw, Estimate, Given, Group, Model
from ..spec import declared
from .elbo import auxiliary_losses, known_kl

__all__ = ["DIP", "MMD", "BetaTCVAE", "InverseMultiquadratic", "Kernel", "SquaredExponential"]


def _only_group(draw: Draw, name: str) -> Group:
    if len(draw.groups) != 1:
        raise CompositionError(
            f"{name} compares the codes of a batch with one another, which needs one group of latents; the model has "
            f"{len(draw.groups)}."
        )
    if draw.shared:
        raise CompositionError(
            f"{name} knows nothing of latents of the whole data set, whose KL is part of the bound. Use ELBO or IWAE."
        )
    group = draw.groups[0]
    if not group.posterior.has_rsample:
        raise CompositionError(
            f"{name} needs samples that depend smoothly on the parameters of q(z|x); "
            f"{type(group.posterior).__name__} has none."
        )
    return group


def _kl(group: Group) -> Tensor:
    kl = closed_form_kl(group.posterior, group.prior)
    return (group.log_posterior - group.log_prior).mean(0) if kl is None else kl


def _factors(distribution: Distribution, whose: str) -> Distribution:
    if not isinstance(distribution, Independent) or len(distribution.event_shape) != 1:
        raise CompositionError(
            f"the total correlation compares the joint distribution of the latents with the product of their own, "
            f"which needs a {whose} that factorises; got {type(distribution).__name__}. Use a diagonal one."
        )
    base: Distribution = distribution.base_dist
    return base


@declared("objectives.BetaTCVAE")
class BetaTCVAE:
    r"""The ELBO with its KL cut into three parts, each with a weight of its own:

    .. math:: E_q[\log p(x|z)] - \alpha\, I_q(x; z) - \beta\, \mathrm{KL}\Bigl(q(z) \Big\| \prod_j q(z_j)\Bigr)
              - \gamma \sum_j \mathrm{KL}(q(z_j) \| p(z_j))

    The aggregate posterior q(z) is estimated from the batch with minibatch-weighted sampling, which as published takes
    :math:`\log q(z)` too low: by about the logarithm of the batch size where codes lie apart, by about that of N where
    they overlap. This cancels where all weights are 1, and the loss is then the ELBO with a sampled KL; otherwise it
    is part of the objective, and a term alone does not measure its quantity: :func:`jensen.diagnose.elbo_surgery` does.
    The reported bound is that ELBO.

    References:
        Chen, Li, Grosse, Duvenaud (2018), Isolating sources of disentanglement in variational autoencoders.

    Arguments:
        rows: The number of training rows N.
        beta: The weight β of the total correlation.
        alpha: The weight α of the mutual information between code and row.
        gamma: The weight γ of the dimension-wise KL.

    Raises:
        OptionError: If an argument is out of range.
        CompositionError: When used, if prior or posterior does not factorise.

    Example:
        >>> BetaTCVAE(rows=1000, beta=6.0).kind
        'lower'
    """

    kind: BoundKind = "lower"
    k = 1
    period = 1
    least_batch = 2

    def __init__(self, rows: int, beta: float = 6.0, *, alpha: float = 1.0, gamma: float = 1.0) -> None:
        if rows < 1:
            raise OptionError(f"rows is the number of training rows, at least 1; got {rows}.")
        if not all(0 < weight < math.inf for weight in (alpha, beta, gamma)):
            raise OptionError(f"alpha, beta and gamma are positive; got {alpha}, {beta}, {gamma}.")
        self.rows = rows
        self.alpha, self.beta, self.gamma = float(alpha), float(beta), float(gamma)

    def __call__(self, model: Model, x: Tensor, given: Given | None = None, step: int = 0) -> Estimate:
        draw = model.draw(x, given, 1)
        group = _only_group(draw, "the total correlation")
        q, p = _factors(group.posterior, "posterior"), _factors(group.prior, "prior")
        z = group.z[0]
        if min(z.shape) < 2:
            raise CompositionError(
                f"the total correlation is between latents, over the rows of a batch; with {z.shape[1]} latents and "
                f"{len(z)} rows in a batch it is always zero. Use at least 2 of each, or ELBO."
            )
        # Row i, column j: the code of row i under the posterior of row j.
        each = q.log_prob(z[:, None])
        least = math.log(self.rows * len(x))
        log_aggregate = each.sum(-1).logsumexp(1) - least
        log_marginals = (each.logsumexp(1) - least).sum(-1)
        log_posterior, log_prior = group.log_posterior[0], p.log_prob(z).sum(-1)
        log_likelihood = draw.log_likelihood[0]
        terms = {
            "reconstruction": -log_likelihood,
            "mutual_information": self.alpha * (log_posterior - log_aggregate),
            "total_correlation": self.beta * (log_aggregate - log_marginals),
            "dimension_wise_kl": self.gamma * (log_marginals - log_prior),
        }
        return Estimate.of(terms, log_likelihood - known_kl(group, _kl(group)))


@declared("objectives.DIP")
class DIP:
    r"""The ELBO with a penalty on the covariance C of the codes over the batch:

    .. math:: \text{loss} = -\text{ELBO} + \lambda_o \sum_{i \ne j} C_{ij}^2 + \lambda_d \sum_i (C_{ii} - 1)^2

    References:
        Kumar, Sattigeri, Balakrishnan (2018), Variational inference of disentangled latent concepts from unlabeled
        observations.

    Arguments:
        off_diagonal: The weight :math:`\lambda_o` of the covariances.
        diagonal: The weight :math:`\lambda_d` of the variances.
        of_samples: Whether C is the covariance of the samples, mean covariance of q included (DIP-VAE-II), or that of
            the posterior means (DIP-VAE-I).

    Raises:
        OptionError: If a weight is not positive.

    Example:
        >>> DIP(off_diagonal=10.0).kind
        'none'
    """

    kind: BoundKind = "none"
    selects = True  # by the loss on validation rows, since no bound says how good weights are
    k = 1
    period = 1
    least_batch = 2

    def __init__(self, off_diagonal: float = 10.0, diagonal: float = 10.0, *, of_samples: bool = True) -> None:
        if not (0 < off_diagonal < math.inf and 0 < diagonal < math.inf):
            raise OptionError(f"the weights of a covariance penalty are positive; got {off_diagonal}, {diagonal}.")
        self.off_diagonal, self.diagonal = float(off_diagonal), float(diagonal)
        self.of_samples = of_samples

    def __call__(self, model: Model, x: Tensor, given: Given | None = None, step: int = 0) -> Estimate:
        if len(x) < self.least_batch:
            raise CompositionError("a covariance over the batch needs at least 2 rows in it; this batch has 1.")
        draw = model.draw(x, given, 1)
        group = _only_group(draw, "the covariance penalty")
        covariance = torch.atleast_2d(torch.cov(group.posterior.mean.flatten(1).T, correction=0))
        if self.of_samples:
            covariance = covariance + _mean_covariance(group.posterior)
        variances = covariance.diagonal()
        between = covariance.square().sum() - variances.square().sum()
        penalty = self.off_diagonal * between + self.diagonal * (variances - 1).square().sum()
        log_likelihood = draw.log_likelihood[0]
        terms = {"reconstruction": -log_likelihood, "kl": _kl(group), "covariance": penalty.expand(len(x))}
        terms |= auxiliary_losses(draw)
        return Estimate.of(terms, None)


def _mean_covariance(posterior: Distribution) -> Tensor:
    """The covariance of z given x, averaged over the batch, shape (Z, Z)."""
    full = getattr(posterior, "covariance_matrix", None)
    if isinstance(full, Tensor):
        return full.mean(0)
    try:
        return torch.diag(_factors(posterior, "posterior").variance.mean(0))
    except (NotImplementedError, CompositionError) as error:
        raise CompositionError(
            f"the covariance of samples needs that of q(z|x); {type(posterior).__name__} gives none. Use "
            "of_samples=False or a normal posterior."
        ) from error


class Kernel(Protocol):
    """A positive-definite kernel: from squared distances of any shape, and the size of z, to similarities."""

    def __call__(self, squares: Tensor, size: int) -> Tensor: ...


@declared("objectives.InverseMultiquadratic")
class InverseMultiquadratic:
    r"""The kernel :math:`\sum_s \frac{s C}{s C + \|a - b\|^2}` with :math:`C = 2 Z`, heavy-tailed.

    References:
        Tolstikhin, Bousquet, Gelly, Schölkopf (2018), Wasserstein auto-encoders.

    Arguments:
        scales: The multiples s of the expected squared distance of two standard normal codes.

    Example:
        >>> InverseMultiquadratic(scales=(1.0,))(torch.tensor(0.0), 8)
        tensor(1.)
    """

    def __init__(self, scales: Sequence[float] = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)) -> None:
        self.scales = _positive(scales)

    def __call__(self, squares: Tensor, size: int) -> Tensor:
        return sum((2 * size * s / (2 * size * s + squares) for s in self.scales), torch.zeros_like(squares))


@declared("objectives.SquaredExponential")
class SquaredExponential:
    r"""The kernel :math:`\sum_s \exp(-\|a - b\|^2 / (s Z))`.

    References:
        Gretton et al. (2012), A kernel two-sample test. Zhao, Song, Ermon (2019), InfoVAE.

    Arguments:
        scales: The multiples s of the number of latents Z.

    Example:
        >>> SquaredExponential(scales=(1.0,))(torch.tensor(0.0), 8)
        tensor(1.)
    """

    def __init__(self, scales: Sequence[float] = (1.0,)) -> None:
        self.scales = _positive(scales)

    def __call__(self, squares: Tensor, size: int) -> Tensor:
        return sum((torch.exp(-squares / (s * size)) for s in self.scales), torch.zeros_like(squares))


def _positive(scales: Sequence[float]) -> list[float]:
    if not scales or not all(0 < s < math.inf for s in scales):
        raise OptionError(f"a kernel needs positive scales; got {list(scales)}.")
    return [float(s) for s in scales]


@declared("objectives.MMD")
class MMD:
    r"""Reconstruction with the aggregate posterior held to the prior by a maximum mean discrepancy:

    .. math:: -E_q[\log p(x|z)] + \kappa\, \mathrm{KL}(q(z|x) \| p(z)) + \lambda\, \mathrm{MMD}^2(q(z), p(z))

    With :math:`\kappa = 0` it is a Wasserstein autoencoder, in between an InfoVAE. The discrepancy is the unbiased
    estimate from the codes of the batch and as many samples of the prior, so it may be negative.

    References:
        Tolstikhin, Bousquet, Gelly, Schölkopf (2018), Wasserstein auto-encoders. Zhao, Song, Ermon (2019), InfoVAE.

    Arguments:
        weight: The weight λ of the discrepancy, nats.
        kl: The weight κ of the KL.
        kernel: The kernel; by default :class:`InverseMultiquadratic`.

    Raises:
        OptionError: If a weight is out of range.

    Example:
        >>> MMD(weight=100.0).kind
        'none'
    """

    kind: BoundKind = "none"
    selects = True  # by the loss on validation rows, since no bound says how good weights are
    k = 1
    period = 1
    least_batch = 2

    def __init__(self, weight: float = 100.0, *, kl: float = 0.0, kernel: Kernel | None = None) -> None:
        if not (0 < weight < math.inf and 0 <= kl < math.inf):
            raise OptionError(
                f"the weight of the discrepancy is positive, that of the KL not negative; got {weight}, {kl}."
            )
        self.weight, self.kl = float(weight), float(kl)
        self.kernel: Kernel = InverseMultiquadratic() if kernel is None else kernel

    def __call__(self, model: Model, x: Tensor, given: Given | None = None, step: int = 0) -> Estimate:
        if len(x) < self.least_batch:
            raise CompositionError("a discrepancy within the batch needs at least 2 rows in it; this batch has 1.")
        draw = model.draw(x, given, 1)
        group = _only_group(draw, "the discrepancy")
        if not self.kl and group.prior.log_prob(group.z.detach()).requires_grad:
            raise CompositionError(
                "the discrepancy sees the prior through samples alone, which have no gradient by its parameters, so a "
                "learned prior would never learn. Use a fixed prior, or kl > 0."
            )
        with torch.no_grad():
            wanted = group.prior.sample(torch.Size(() if group.prior.batch_shape else (len(x),)))
        found = self.weight * squared_mmd(group.z[0].flatten(1), wanted.flatten(1), self.kernel)
        log_likelihood = draw.log_likelihood[0]
        terms = {"reconstruction": -log_likelihood, "discrepancy": found.expand(len(x)), **auxiliary_losses(draw)}
        if self.kl:
            terms["kl"] = self.kl * _kl(group)
        return Estimate.of(terms, None)


def squared_mmd(a: Tensor, b: Tensor, kernel: Kernel) -> Tensor:
    r"""The unbiased estimate of :math:`\mathrm{MMD}^2` between two samples of equal size, shapes (N, Z).

    References:
        Gretton et al. (2012), A kernel two-sample test.
    """
    n, size = a.shape
    squares = [_squares(u, v) for u, v in ((a, a), (b, b), (a, b))]
    within_a, within_b, across = (kernel(square, size) for square in squares)
    off = n * (n - 1)
    total: Tensor = (
        (within_a.sum() - within_a.diagonal().sum()) / off
        + (within_b.sum() - within_b.diagonal().sum()) / off
        - 2 * across.mean()
    )
    return total


def _squares(a: Tensor, b: Tensor) -> Tensor:
    """The squared distances of the rows of two samples, shape (N, N).

    They come from products of matrices, which lose all digits far from the origin; so that lies amid one sample.
    """
    origin = b.detach().mean(0)
    return torch.cdist(a - origin, b - origin).square()
