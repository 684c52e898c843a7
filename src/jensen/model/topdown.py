"""Many groups of latents, one above the other."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from ..distributions import code_of
from ..errors import OptionError, ShapeError
from ..precision import LowPrecision
from ..roles import Draw, Evidence, Given, Group, Likelihood
from ..spec import declared
from .latents import check_latents, known_of

__all__ = ["Rung", "TopDown"]


@declared("Rung")
class Rung(nn.Module):
    r"""One group of latents of a :class:`TopDown`: its prior, its posterior, and what it does to the state.

    The first rung has no state above it: there ``prior(given)``, ``posterior(features, given)`` and ``update(z)`` are
    called. Below it, they are ``prior(state, given)``, ``posterior(both, given)`` and ``update(state, z)``, where
    ``both`` is state and features side by side, along the first dimension of one state.

    Arguments:
        prior: A module to the prior of the group, such as ``Conditional(net, family)``.
        posterior: A module to its posterior, such as ``Conditional(net, family)``.
        update: A module from the samples, shape (N, \*Z), to the state below, shape (N, \*S); where there is a state
            above, from both.

    Raises:
        OptionError: If a part is not a module, or the posterior does not say what it is over.
        ShapeError: If prior and posterior are over different event shapes, where both say theirs.
        CompositionError: If they are over different spaces.

    Example:
        >>> from jensen import Conditional, families, nets, priors
        >>> encoder = Conditional(nets.mlp(6, 4), families.Normal(2, scale=families.PredictedScale()))
        >>> Rung(priors.StandardNormal(2), encoder, nets.ResidualUpdate(2, 8)).event_shape
        (2,)
    """

    def __init__(self, prior: nn.Module, posterior: nn.Module, update: nn.Module) -> None:
        super().__init__()
        for role, module in (("prior", prior), ("posterior", posterior), ("update", update)):
            if not isinstance(module, nn.Module):
                raise OptionError(f"the {role} of a rung must be a torch module; got {type(module).__name__}.")
        self.prior, self.posterior, self.update = prior, posterior, update
        shape = getattr(getattr(posterior, "family", posterior), "event_shape", None)
        if shape is None:
            raise OptionError(
                "the posterior of a rung must say the shape of its latents by a family or an attribute event_shape; "
                f"{type(posterior).__name__} does not."
            )
        self.event_shape: tuple[int, ...] = tuple(shape)
        if hasattr(prior, "family"):
            check_latents(prior.family, posterior)

    def prior_at(self, state: Tensor | None, given: Given | None) -> Distribution:
        """The prior of the group below a state."""
        distribution: Distribution = self.prior(given) if state is None else self.prior(state, given)
        return distribution

    def posterior_at(self, state: Tensor | None, features: Tensor, given: Given | None) -> Distribution:
        """Its posterior, batch shape (B,) at the top and that of the state below it."""
        seen = features if state is None else _side_by_side(state, features)
        distribution: Distribution = self.posterior(seen, given)
        return distribution


def _side_by_side(state: Tensor, features: Tensor) -> Tensor:
    event = features.shape[1:]
    lead = state.shape[: state.ndim - len(event)]
    return torch.cat([state, features.expand(*lead, *event)], dim=-len(event))


@declared("TopDown")
class TopDown(LowPrecision):
    r"""A model with L groups of latents, whose priors and posteriors are made in one sweep from the top:

    .. math:: p(x, z) = p(x | h_L) \prod_l p(z_l | h_{l-1}), \quad
              q(z | x) = \prod_l q(z_l | h_{l-1}, f_l(x)), \quad h_l = u_l(h_{l-1}, z_l)

    The features :math:`f_l` of x are made once, from the bottom up. With one rung it is a :class:`VAE`.

    References:
        Sønderby et al. (2016), Ladder variational autoencoders. Kingma et al. (2016), Improving variational inference
        with inverse autoregressive flow. Child (2021), Very deep VAEs generalize autoregressive models.

    Arguments:
        encoder: A module from x, shape (B, \*X), to the features of each rung, from the top; or to features for all.
        rungs: The groups of latents, from the top.
        likelihood: A module from the last state to p(x|z), such as ``Conditional(net, family)``.

    Raises:
        OptionError: If there is no rung, or a part is of the wrong kind.
        ShapeError: If prior and posterior of the first rung are over different event shapes, where both say theirs;
            when used, if the encoder returns another number of features than there are rungs.
        CompositionError: If prior and posterior of the first rung are over different spaces.

    Example:
        >>> from jensen import Conditional, families, nets, priors
        >>> def normal(inputs):
        ...     return Conditional(nets.mlp(inputs, 4), families.Normal(2, scale=families.PredictedScale()))
        >>> top = Rung(priors.StandardNormal(2), normal(6), nets.ResidualUpdate(2, 8))
        >>> below = Rung(normal(8), normal(8 + 6), nets.ResidualUpdate(2, 8))
        >>> model = TopDown(nn.Flatten(), [top, below], Conditional(nets.mlp(8, 6), families.Bernoulli(6)))
        >>> [group.z.shape for group in model.draw(torch.ones(5, 6), k=3).groups]
        [torch.Size([3, 5, 2]), torch.Size([3, 5, 2])]
    """

    evidence: Evidence = "lower"

    def __init__(self, encoder: nn.Module, rungs: Sequence[nn.Module], likelihood: Likelihood) -> None:
        super().__init__()
        for role, module in (("encoder", encoder), ("likelihood", likelihood)):
            if not isinstance(module, nn.Module):
                raise OptionError(f"the {role} must be a torch module; got {type(module).__name__}.")
        if not rungs or not all(isinstance(rung, Rung) for rung in rungs):
            kinds = [type(rung).__name__ for rung in rungs]
            raise OptionError(f"a TopDown needs at least one Rung and nothing else; got {kinds}.")
        check_latents(known_of(rungs[0].prior), rungs[0].posterior)
        self.encoder = encoder
        self.rungs: Any = nn.ModuleList(rungs)
        self.likelihood: Any = likelihood

    @property
    def latent_size(self) -> int:
        """The number of values in all groups of z."""
        return sum(self._sizes)

    @property
    def _sizes(self) -> list[int]:
        return [math.prod(rung.event_shape) for rung in self.rungs]

    def draw(self, x: Tensor, given: Given | None = None, k: int = 1) -> Draw:
        r"""K samples of all groups for each example, with their log-weights.

        Arguments:
            x: The data, shape (B, \*X).
            given: What is known beside the data.
            k: The number of samples K.
        """
        groups: list[Group] = []

        def sampled(prior: Distribution, posterior: Distribution) -> Tensor:
            # Below the top the distributions know of the K samples already.
            shape = torch.Size() if groups else torch.Size((k,))
            z = (posterior.rsample if posterior.has_rsample else posterior.sample)(shape)
            groups.append(Group(z, prior, posterior))
            return z

        state = self._inferred(x, given, sampled)
        return Draw(tuple(groups), self.likelihood(state, given).log_prob(x))

    def log_joint(self, x: Tensor, z: Tensor | Sequence[Tensor], given: Given | None = None) -> Tensor:
        r""":math:`\log p(x, z)`, shape (K, B), nats.

        Arguments:
            x: The data, shape (B, \*X).
            z: The groups from the top, each of shape (K, B, \*Z), or all in one, flattened, shape (K, B, Z).
            given: What is known beside the data.
        """
        terms: list[Tensor] = []
        state = self._generated(self._split(z), given, lambda prior, part: terms.append(prior.log_prob(part)))
        total: Tensor = self.likelihood(state, given).log_prob(x)
        return total + torch.stack(terms).sum(0)

    def decode(self, z: Tensor | Sequence[Tensor], given: Given | None = None) -> Distribution:
        """The distribution p(x|z), for z as in :meth:`log_joint` with any batch dimensions."""
        distribution: Distribution = self.likelihood(self._generated(self._split(z), given), given)
        return distribution

    def sample(self, n: int, given: Given | None = None, *, mean: bool = False) -> Tensor:
        r"""Draws n examples from the model, shape (n, \*X).

        Arguments:
            n: How many.
            given: What the model is conditioned on.
            mean: Return the mean of p(x|z) for each drawn z instead of a draw of x.
        """
        state: Tensor | None = None
        with torch.no_grad():
            for rung in self.rungs:
                prior = rung.prior_at(state, given)
                # A prior that depends on a state or the condition has a batch dimension already.
                z = prior.sample(torch.Size(() if prior.batch_shape else (n,)))
                state = self._below(rung, state, z)
            decoded = self.likelihood(state, given)
            found: Tensor = decoded.mean if mean else decoded.sample()
        return found

    def embed(self, x: Tensor, given: Given | None = None) -> Tensor:
        """The codes of all groups, each given those above it, flattened, shape (B, Z)."""
        codes: list[Tensor] = []

        def middle(_: Distribution, posterior: Distribution) -> Tensor:
            codes.append(code_of(posterior).flatten(1))
            return code_of(posterior)

        self._inferred(x, given, middle)
        return torch.cat(codes, 1)

    def _inferred(self, x: Tensor, given: Given | None, choose: Callable[[Distribution, Distribution], Tensor]) -> Any:
        """Goes down with z chosen from prior and posterior of each group; the last state."""
        features = self.computed(self.encoder, x)
        features = [features] * len(self.rungs) if isinstance(features, Tensor) else features
        if len(features) != len(self.rungs):
            raise ShapeError(f"the encoder returns {len(features)} features for {len(self.rungs)} rungs.")
        state: Tensor | None = None
        for rung, seen in zip(self.rungs, features, strict=True):
            z = choose(rung.prior_at(state, given), rung.posterior_at(state, seen, given))
            state = self._below(rung, state, z)
        return state

    def _generated(
        self, parts: Iterable[Tensor], given: Given | None, told: Callable[[Distribution, Tensor], None] | None = None
    ) -> Any:
        """Goes down with given z; the last state. Priors are made only for those who want to hear of them."""
        state: Tensor | None = None
        for rung, z in zip(self.rungs, parts, strict=True):
            if told is not None:
                told(rung.prior_at(state, given), z)
            state = self._below(rung, state, z)
        return state

    def _below(self, rung: Rung, state: Tensor | None, z: Tensor) -> Tensor:
        """The state below a rung; networks see all batch dimensions as one."""
        lead = z.shape[: z.ndim - len(rung.event_shape)]
        flat = [] if state is None else [state.reshape(-1, *state.shape[len(lead) :])]
        below: Tensor = self.computed(rung.update, *flat, z.reshape(-1, *rung.event_shape))
        return below.reshape(*lead, *below.shape[1:])

    def _split(self, z: Tensor | Sequence[Tensor]) -> Sequence[Tensor]:
        if not isinstance(z, Tensor):
            if len(z) != len(self.rungs):
                raise ShapeError(f"expected z of {len(self.rungs)} groups; got {len(z)}.")
            return z
        if z.shape[-1] != self.latent_size:
            raise ShapeError(f"expected z with {self.latent_size} values in its last dimension; got {tuple(z.shape)}.")
        shapes = [rung.event_shape for rung in self.rungs]
        return [part.unflatten(-1, shape) for part, shape in zip(z.split(self._sizes, -1), shapes, strict=True)]
