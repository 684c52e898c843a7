"""Oracles with known answers and contract checks, for this library's tests and for those of a user's own pieces."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, MultivariateNormal

from .conditional import Conditional
from .distributions import closed_form_kl
from .errors import JensenError
from .families import FixedScale, Normal
from .model import VAE
from .nets import mlp
from .noise import seeded
from .priors import StandardNormal
from .roles import Given

_HALF, _LARGEST, _OUTSIDE = 1e-2, 0.45, 1e-6

__all__ = ["LinearGaussian", "kl_z_score", "ppca_log_likelihood", "quadrature"]


class _ExactPosterior(nn.Module):
    r"""The posterior :math:`N(\Sigma W^\top (x-\mu)/\sigma^2, \Sigma)`, :math:`\Sigma^{-1} = I + W^\top W/\sigma^2`."""

    def __init__(self, weight: Tensor, mean: Tensor, noise: float) -> None:
        super().__init__()
        precision = torch.eye(weight.shape[1], dtype=weight.dtype) + weight.T @ weight / noise**2
        covariance = torch.linalg.inv(precision)
        self.gain = nn.Buffer(covariance @ weight.T / noise**2)
        self.mean = nn.Buffer(mean)
        self.factor = nn.Buffer(torch.linalg.cholesky(covariance))

    def forward(self, x: Tensor, given: Given | None = None) -> MultivariateNormal:
        loc = (x - self.mean) @ self.gain.T
        return MultivariateNormal(loc, scale_tril=self.factor.expand(len(x), -1, -1), validate_args=False)


class LinearGaussian:
    r"""The model :math:`z \sim N(0, I)`, :math:`x|z \sim N(W z + \mu, \sigma^2 I)` and its exact posterior, in float64.

    Every single log-weight of :attr:`model` equals :math:`\log N(x; \mu, W W^\top + \sigma^2 I)`.

    References:
        Tipping, Bishop (1999), Probabilistic principal component analysis.

    Arguments:
        weight: The matrix W, shape (D, Z).
        noise: The standard deviation σ.
        mean: The mean μ, shape (D,); zero by default.

    Example:
        >>> oracle = LinearGaussian(torch.tensor([[1.0], [2.0]]), noise=0.1)
        >>> x = torch.tensor([[0.5, 1.0]], dtype=torch.float64)
        >>> error = oracle.model.draw(x, k=7).log_weight - oracle.log_evidence(x)
        >>> bool(error.abs().max() < 1e-12 * (1 + 1 / 0.1**2))
        True
    """

    def __init__(self, weight: Tensor, noise: float, mean: Tensor | None = None) -> None:
        weight = weight.double()
        size, latents = weight.shape
        mean = torch.zeros(size, dtype=torch.float64) if mean is None else mean.double()
        net = mlp(latents, size, hidden=()).double()
        affine = net[-1]
        with torch.no_grad():
            affine.weight.copy_(weight)  # type: ignore[operator]
            affine.bias.copy_(mean)  # type: ignore[operator]
        scale = FixedScale(noise).double()
        # A scale that was rounded to float32 on the way would not be the one of the evidence.
        scale.value.fill_(noise)
        likelihood = Conditional(net, Normal(size, scale=scale))
        self.model = VAE(StandardNormal(latents).double(), likelihood, _ExactPosterior(weight, mean, noise))
        covariance = weight @ weight.T + noise**2 * torch.eye(size, dtype=torch.float64)
        self.evidence = MultivariateNormal(mean, covariance)

    def log_evidence(self, x: Tensor) -> Tensor:
        """The exact log p(x), shape (B,), nats."""
        log_prob: Tensor = self.evidence.log_prob(x)
        return log_prob


def ppca_log_likelihood(x: Tensor, latents: int) -> float:
    r"""The highest mean log-likelihood of rows under :math:`N(\mu, W W^\top + \sigma^2 I)`, nats per example.

    With the eigenvalues :math:`\lambda_1 \ge \dots \ge \lambda_D` of the covariance of the rows and
    :math:`\sigma^2 = \frac{1}{D - Z} \sum_{j > Z} \lambda_j`, it is
    :math:`-\frac12 (D \log 2 \pi + \sum_{j \le Z} \log \lambda_j + (D - Z) \log \sigma^2 + D)`.

    References:
        Tipping, Bishop (1999), Probabilistic principal component analysis.

    Arguments:
        x: The rows, shape (N, D).
        latents: The number of latents Z < D.

    Example:
        >>> x = torch.randn(2000, 4, generator=torch.Generator().manual_seed(0)) * torch.tensor([3.0, 1.0, 1.0, 1.0])
        >>> round(ppca_log_likelihood(x, 1), 1)
        -6.8
    """
    x = x.double()
    size = x.shape[1]
    values = torch.linalg.eigvalsh(torch.cov(x.T, correction=0)).flip(0)
    noise = values[latents:].mean()
    log_det = values[:latents].log().sum() + (size - latents) * noise.log()
    return float(-0.5 * (size * math.log(2 * math.pi) + log_det + size))


def quadrature(model: Any, x: Tensor, *, width: float = 8.0, points: int = 401) -> Tensor:
    r"""The log-likelihood of a model with one or two latents, by the trapezium rule on a grid over :math:`[-w, w]^Z`.

    Arguments:
        model: A model whose prior has one or two latents.
        x: Rows in the values that the model sees, shape (B, \*X).
        width: The half-width w of the grid.
        points: The number of grid points in each dimension.

    Raises:
        JensenError: If the model has more than two latents, or the grid is too coarse or too narrow for a row's
            posterior.

    Example:
        >>> oracle = LinearGaussian(torch.tensor([[1.0], [2.0]]), noise=0.5)
        >>> x = torch.tensor([[0.5, 1.0]], dtype=torch.float64)
        >>> bool((quadrature(oracle.model, x) - oracle.log_evidence(x)).abs() < 1e-9)
        True
    """
    latents = model.prior().event_shape.numel()
    if latents > 2:
        raise JensenError(f"quadrature needs one or two latents; the model has {latents}.")
    axis = torch.linspace(-width, width, points, dtype=torch.float64)
    grid = torch.cartesian_prod(*[axis] * latents).reshape(-1, 1, latents).to(x.dtype)
    with torch.no_grad():
        log_joint = model.log_joint(x, grid.expand(-1, len(x), -1)).double()
    _check_resolved(log_joint.softmax(0).reshape(*[points] * latents, len(x)), width, points)
    cell = float(axis[1] - axis[0]) ** latents
    total: Tensor = log_joint.logsumexp(0) + math.log(cell)
    return total


def _check_resolved(mass: Tensor, width: float, points: int) -> None:
    """Checks for each dimension of a grid that half the mass of a row is on every second point, and none at the ends.

    Raises:
        JensenError: If it is not so.
    """
    for axis in range(mass.ndim - 1):
        along = mass.movedim(axis, 0).reshape(points, -1, mass.shape[-1]).sum(1)
        even = (2 * along[::2].sum(0) - 1).abs()
        # Two points on either side of a narrow peak have half the mass each.
        fine = (even <= _HALF) & (along.amax(0) <= _LARGEST)
        inside = along[0] + along[-1] <= _OUTSIDE
        if not (fine & inside).all():
            row = int((~(fine & inside)).nonzero()[0])
            largest, ends = float(along[:, row].amax()), float(along[0, row] + along[-1, row])
            why, use = ("coarse", f"more points than {points}") if inside[row] else ("narrow", f"a width above {width}")
            raise JensenError(
                f"the grid is too {why} for the posterior of row {row}: of its mass {largest:.2g} is on one point of "
                f"latent {axis}, {ends:.2g} on the two outermost points. Use {use}."
            )


def kl_z_score(q: Distribution, p: Distribution, *, samples: int = 100_000, seed: int = 0) -> float:
    """How many standard errors the closed-form KL lies from its Monte Carlo estimate.

    Arguments:
        q: The first distribution, batch shape ().
        p: The second distribution.
        samples: The number of draws.
        seed: Their seed.

    Raises:
        JensenError: If no closed form is known for the pair.

    Example:
        >>> from jensen import priors
        >>> q = MultivariateNormal(torch.ones(2), torch.eye(2))
        >>> abs(kl_z_score(q, priors.StandardNormal(2)())) < 4
        True
    """
    exact = closed_form_kl(q, p)
    if exact is None:
        raise JensenError(f"no closed-form KL is known for {q} and {p}.")
    with seeded(seed):
        z = q.sample(torch.Size((samples,)))
    ratio = (q.log_prob(z) - p.log_prob(z)).double()
    return float((exact - ratio.mean()) / (ratio.std() / math.sqrt(samples)))
