"""A model with latents that all rows share."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from ..distributions import EqualMixture, Joint, code_of
from ..errors import OptionError
from ..noise import seeded, shared_noise
from ..roles import Draw, Evidence, Given, Group, Likelihood, Posterior, Prior, Shared
from ..spec import declared
from .latents import check_latents

__all__ = ["SharedVAE"]

_PREDICTIONS = 16
_WORLDS = 32


@declared("SharedVAE")
class SharedVAE(nn.Module):
    r"""A model with latents g of the whole data set beside those of each row:

    .. math:: p(x_{1:N}) = \int p(g) \prod_n \int p(x_n | z, g) \, p(z | g) \, dz \, dg

    In training one g is drawn from q(g) in each step, and every row carries its part of the KL, so that the bound per
    row is

    .. math:: E_{q(g)}\Bigl[\frac1N \sum_n \log \frac1K \sum_k w_{nk}\Bigr] - \frac1N \mathrm{KL}(q(g) \| p(g))

    In evaluation mode every one of the K samples has a g of its own, the same for all rows, and there is no such KL:
    what is bounded is :math:`\log E_{q(g)}[p(x|g)]`, how well a row that was not seen is predicted. Noise for g comes
    from what rows share (:func:`jensen.noise.shared_noise`).

    References:
        Kingma, Welling (2013), Auto-encoding variational Bayes, appendix F. Hoffman, Blei (2015), Structured stochastic
        variational inference.

    Arguments:
        prior: The prior p(z|g).
        likelihood: The likelihood p(x|z, g). With an attribute ``uses_shared`` that is true its predictions are
            averaged over draws of g wherever none is given.
        encoder: The posterior q(z|x, g).
        shared_prior: The prior p(g).
        shared_posterior: The posterior q(g).
        rows: The number N of training rows.

    All roles find g in ``given.shared``.

    Raises:
        OptionError: If a role is filled by something that is not a module, or there are no rows.
        CompositionError: If prior and encoder are over different spaces.
        ShapeError: If they are over different numbers of latents.

    Example:
        >>> from jensen import Conditional, families, nets, posteriors, priors
        >>> model = SharedVAE(
        ...     prior=priors.IndianBuffet(3, alpha=2.0),
        ...     likelihood=Conditional(nets.mlp(3, 6), families.Bernoulli(6)),
        ...     encoder=posteriors.OnSticks(nets.mlp(6, 9), families.FeatureLoadings(3)),
        ...     shared_prior=priors.Sticks(3, alpha=2.0),
        ...     shared_posterior=posteriors.Sticks(3, alpha=2.0),
        ...     rows=100,
        ... )
        >>> draw = model.draw(torch.ones(5, 6), k=4)
        >>> draw.log_weight.shape, draw.shared[0].log_prior.shape
        (torch.Size([4, 5]), torch.Size([]))
    """

    evidence: Evidence = "predictive"

    def __init__(
        self,
        prior: Prior,
        likelihood: Likelihood,
        encoder: Posterior,
        shared_prior: Prior,
        shared_posterior: nn.Module,
        rows: int,
    ) -> None:
        super().__init__()
        roles = {"prior": prior, "likelihood": likelihood, "encoder": encoder, "shared prior": shared_prior}
        for role, module in {**roles, "shared posterior": shared_posterior}.items():
            if not isinstance(module, nn.Module):
                raise OptionError(
                    f"the {role} must be a torch module whose forward returns a distribution; "
                    f"got {type(module).__name__}."
                )
        if rows < 1:
            raise OptionError(f"rows is the number of training rows, at least 1; got {rows}.")
        self.likelihood, self.encoder, self.row_prior = likelihood, encoder, prior
        self.shared_prior, self.shared_posterior = shared_prior, shared_posterior
        self.rows = rows
        check_latents(self.prior(), encoder)

    @property
    def latent_size(self) -> int:
        """The number of values in z."""
        return self.prior().event_shape.numel()

    def prior(self, given: Given | None = None) -> Distribution:
        """The distribution p(z|g), at the mean of q(g) where no g is given."""
        distribution: Distribution = self.row_prior(self._known(given))
        return distribution

    def posterior(self, x: Tensor, given: Given | None = None) -> Distribution:
        """The distribution q(z|x, g), at the mean of q(g) where no g is given."""
        distribution: Distribution = self.encoder(x, self._known(given))
        return distribution

    def _known(self, given: Given | None, shared: Tensor | None = None) -> Given:
        given = Given() if given is None else given
        if shared is None and given.shared is not None:
            return given
        return replace(given, shared=self.shared_posterior().mean if shared is None else shared)

    def draw(self, x: Tensor, given: Given | None = None, k: int = 1) -> Draw:
        r"""K samples of z for each example; in training with one g, in evaluation mode each with a g of its own.

        Arguments:
            x: The data, shape (B, \*X).
            given: What is known beside the data.
            k: The number of samples K.
        """
        about = self.shared_posterior()
        with shared_noise():
            g = about.rsample() if self.training else about.sample(torch.Size((k, 1)))
        given = self._known(given, g)
        prior, posterior = self.row_prior(given), self.encoder(x, given)
        shape = torch.Size(() if len(posterior.batch_shape) > 1 else (k,))
        if len(posterior.batch_shape) > 1 and self.training:
            raise OptionError("in training one g is drawn for all samples, so q(z|x, g) has one batch dimension.")
        z = (posterior.rsample if posterior.has_rsample else posterior.sample)(shape)
        log_likelihood = self._likelihood(z, given).log_prob(x)
        shared = (Shared(g, self.shared_prior(), about, self.rows),) if self.training else ()
        return Draw(_groups(z, prior, posterior, apart=self.training), log_likelihood, shared=shared)

    def _likelihood(self, z: Tensor, given: Given) -> Distribution:
        unpack = getattr(self.row_prior, "unpack", None)
        return self.likelihood(z if unpack is None else unpack(z), given)

    def log_joint(self, x: Tensor, z: Tensor, given: Given | None = None) -> Tensor:
        r""":math:`\log p(x|z) + \log p(z)` for z of shape (K, B, \*Z), shape (K, B), nats, as in :meth:`decode`."""
        return self.decode(z, given).log_prob(x) + self.prior(given).log_prob(z)

    def decode(self, z: Tensor, given: Given | None = None) -> Distribution:
        r"""The distribution p(x|z, g), or without a g its average over draws from q(g), always the same ones.

        The variance of that average is the uncertainty of a prediction, that about g included.
        """
        averaged = getattr(self.likelihood, "uses_shared", False) and (given is None or given.shared is None)
        if not averaged:
            return self._likelihood(z, self._known(given))
        with seeded("predictions"), shared_noise():
            drawn = self.shared_posterior().sample(torch.Size((_PREDICTIONS,)))
        return EqualMixture([self._likelihood(z, self._known(given, g)) for g in drawn], validate_args=False)

    def sample(self, n: int, given: Given | None = None, *, mean: bool = False) -> Tensor:
        r"""Draws n examples, shape (n, \*X), from up to 32 draws of g.

        Arguments:
            n: How many.
            given: What the model is conditioned on.
            mean: Return the mean of p(x|z, g) for each drawn z and g instead of a draw of x.
        """
        worlds = min(n, _WORLDS)
        sampled = []
        with torch.no_grad():
            for world, g in enumerate(self.shared_posterior().sample(torch.Size((worlds,)))):
                known = self._known(given, g)
                z = self.row_prior(known).sample(torch.Size((len(range(world, n, worlds)),)))
                decoded = self._likelihood(z, known)
                sampled.append(decoded.mean if mean else decoded.sample())
        return torch.cat(sampled)

    def embed(self, x: Tensor, given: Given | None = None) -> Tensor:
        r"""The code of each example at the mean of q(g), shape (B, \*Z)."""
        return code_of(self.posterior(x, given))


def _groups(z: Tensor, prior: Distribution, posterior: Distribution, *, apart: bool) -> tuple[Group, ...]:
    """One group, or one for each part of a joint distribution, of which some may have a KL in closed form."""
    if not (apart and isinstance(prior, Joint) and isinstance(posterior, Joint)):
        return (Group(z, prior, posterior),)
    pieces = zip(z.split(posterior.sizes, -1), prior.parts, posterior.parts, strict=True)
    return tuple(Group(*piece) for piece in pieces)
