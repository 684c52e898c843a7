"""Mixture priors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Categorical, MixtureSameFamily

from ..distributions import NormalMixture, bounded_scale, unbounded_scale
from ..errors import OptionError, ShapeError
from ..roles import Given, Posterior
from ..spec import declared

__all__ = ["Mixture", "VampPrior"]


@declared("priors.Mixture")
class Mixture(nn.Module):
    r"""A learned mixture of diagonal normals :math:`p(z) = \sum_c \pi_c \prod_d N(z_d; \mu_{cd}, \sigma_{cd}^2)`.

    It starts with equal weights, unit scales and locations drawn from a standard normal.

    References:
        Dilokthanakul et al. (2016), Deep unsupervised clustering with Gaussian mixture variational autoencoders.

    Arguments:
        size: The number of latents.
        components: The number of normals.

    Raises:
        OptionError: If an argument is not positive.

    Example:
        >>> Mixture(2, components=10)().sample((5,)).shape
        torch.Size([5, 2])
    """

    def __init__(self, size: int, components: int) -> None:
        super().__init__()
        if size < 1 or components < 1:
            raise OptionError(f"a mixture needs latents and components; got size={size}, components={components}.")
        self.logits = nn.Parameter(torch.zeros(components))
        self.loc = nn.Parameter(torch.randn(components, size))
        self.raw_scale = nn.Parameter(torch.zeros(components, size))

    @torch.no_grad()
    def start_at(self, codes: Tensor) -> None:
        """Sets the locations to codes drawn from those given, shape (N, Z), and the scales to their spread."""
        if codes.ndim != 2 or codes.shape[1] != self.loc.shape[1]:
            raise ShapeError(f"expected codes of shape (N, {self.loc.shape[1]}); got {tuple(codes.shape)}.")
        chosen = torch.randint(len(codes), (len(self.loc),))
        self.loc.copy_(codes[chosen.to(codes.device)])
        spread = codes.std(0, correction=0).clamp(1e-3, 1e3)
        self.raw_scale.copy_(unbounded_scale(spread).expand_as(self.raw_scale))

    def forward(self, given: Given | None = None) -> NormalMixture:
        return NormalMixture(self.logits, self.loc, bounded_scale(self.raw_scale), validate_args=False)


@declared("priors.VampPrior")
class VampPrior(nn.Module):
    r"""The mixture of the model's own posterior at learned pseudo-inputs u, :math:`p(z) = \sum_c \pi_c q(z|u_c)`.

    The posterior is the very module that the model uses: it is referred to, not owned, so its parameters are counted,
    trained and saved once, with the model. Pseudo-inputs stay within the range of the data by
    :math:`u = l + (h - l) \, \mathrm{sigmoid}(v)`; without a range they are free.

    References:
        Tomczak, Welling (2018), VAE with a VampPrior.

    Arguments:
        posterior: The posterior of the model, from rows to q(z|x).
        pseudo_inputs: Their number, or rows to start from, shape (C, \*X), kept 1% of the range from its ends.
        shape: The shape of one row, where ``pseudo_inputs`` is a number.
        low: The smallest value l of the data; None, with ``high``, where there is no range.
        high: The largest value h of the data.
        logits: The logarithms of weights to start from, shape (C,), which are learned; None for equal weights, fixed.

    Raises:
        OptionError: If an argument cannot be used.

    Example:
        >>> from jensen import Conditional, families, nets
        >>> posterior = Conditional(nets.mlp(6, 4), families.Normal(2, scale=families.PredictedScale()))
        >>> prior = VampPrior(posterior, 8, shape=[6])
        >>> prior().log_prob(torch.zeros(3, 5, 2)).shape
        torch.Size([3, 5])
    """

    logits: Tensor
    posterior: Posterior

    def __init__(
        self,
        posterior: Posterior,
        pseudo_inputs: Tensor | int,
        shape: Sequence[int] | None = None,
        low: float | None = 0.0,
        high: float | None = 1.0,
        logits: Tensor | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(posterior, nn.Module):
            raise OptionError(f"the posterior must be a torch module; got {type(posterior).__name__}.")
        if (low is None) != (high is None) or (low is not None and high is not None and not low < high):
            raise OptionError(f"expected low < high, or None for both; got low={low}, high={high}.")
        # As a part of this module its parameters would stand under two names in the model.
        object.__setattr__(self, "posterior", posterior)
        self.low, self.high = low, high
        self.raw = nn.Parameter(self._start(pseudo_inputs, shape))
        count = len(self.raw)
        if logits is not None and tuple(logits.shape) != (count,):
            raise OptionError(f"expected one logit for each of {count} pseudo-inputs; got {tuple(logits.shape)}.")
        if logits is None:
            self.register_buffer("logits", torch.zeros(count))
        else:
            self.logits = nn.Parameter(logits.detach().clone())

    def _start(self, pseudo_inputs: Tensor | int, shape: Sequence[int] | None) -> Tensor:
        if not isinstance(pseudo_inputs, Tensor):
            if pseudo_inputs < 1 or shape is None:
                raise OptionError(
                    f"expected rows, or their number and shape; got pseudo_inputs={pseudo_inputs}, shape={shape}."
                )
            return torch.randn(pseudo_inputs, *shape)
        if pseudo_inputs.ndim < 2 or len(pseudo_inputs) == 0 or not pseudo_inputs.is_floating_point():
            raise OptionError(
                f"pseudo-inputs are rows of floats, shape (C, *X); got {tuple(pseudo_inputs.shape)}, "
                f"{pseudo_inputs.dtype}."
            )
        if self.low is None or self.high is None:
            return pseudo_inputs.detach().clone()
        return torch.logit(((pseudo_inputs - self.low) / (self.high - self.low)).clamp(0.01, 0.99))

    @property
    def pseudo_inputs(self) -> Tensor:
        r"""The rows u, in the values that the model sees, shape (C, \*X)."""
        if self.low is None or self.high is None:
            return self.raw
        return self.low + (self.high - self.low) * torch.sigmoid(self.raw)

    def forward(self, given: Given | None = None) -> MixtureSameFamily:
        weights = Categorical(logits=self.logits, validate_args=False)
        return MixtureSameFamily(weights, self.posterior(self.pseudo_inputs), validate_args=False)
