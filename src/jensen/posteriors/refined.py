"""Semi-amortised posteriors: an encoder, then steps for the row at hand."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from ..conditional import distribution_at
from ..errors import CompositionError, OptionError
from ..families import Family
from ..modes import evaluating
from ..roles import Given, Posterior
from ..spec import declared
from .search import Raw, Search, Target, climb, coordinates_for
from .start import raw_from, raw_of

__all__ = ["Refined"]


@declared("posteriors.Refined")
class Refined(nn.Module):
    r"""A posterior that starts from an encoder's and climbs the ELBO of each row for a number of steps.

    .. math:: \lambda_0 = f_\phi(x), \quad \lambda_{t+1} = \lambda_t + \eta \, \nabla_\lambda
        E_{q(z; \lambda)}[\log p(x, z) - \log q(z; \lambda)]

    The result is never worse than its start on held-out noise: the encoder's posterior, or in another family what has
    its mean and covariance, of which a diagonal one takes the variances alone. It is a function of x, the model and
    the seed: the steps' noise belongs to the row, and none of it comes from the generators around them; they climb the
    model as it is in evaluation mode, without dropout. In training mode the encoder learns by the gradient at the
    refined parameters, as if the steps were a constant that is added to its output.

    It belongs to the model that it is built into, whose p(x, z) it climbs.

    References:
        Kim, Wiseman, Miller, Sontag, Rush (2018), Semi-amortized variational autoencoders. Cremer, Li, Duvenaud
        (2018), Inference suboptimality in variational autoencoders.

    Arguments:
        amortized: The encoder, such as :class:`Amortized` or ``Conditional(net, family)``.
        steps: The number of steps.
        rate: The size of a step; for normal families in standard deviations of the encoder's posterior.
        family: Another normal family to climb in, which starts at the encoder's mean and covariance.
        samples: The samples of a step.
        held_out: The samples that refined and encoder's posteriors are compared by.
        seed: The seed of the steps' noise.

    Raises:
        OptionError: If an option is out of range, or the encoder's family is not known.

    Example:
        >>> from jensen import VAE, Conditional, families, nets, priors
        >>> encoder = Conditional(nets.mlp(6, 4), families.Normal(2, scale=families.PredictedScale()))
        >>> decoder = Conditional(nets.mlp(2, 6), families.Bernoulli(6))
        >>> refined = Refined(encoder, steps=5, family=families.FullNormal(2))
        >>> vae = VAE(priors.StandardNormal(2), decoder, refined)
        >>> vae.draw(torch.ones(5, 6), k=3).log_weight.shape
        torch.Size([3, 5])
    """

    def __init__(
        self,
        amortized: Posterior,
        steps: int = 20,
        rate: float = 0.1,
        family: Family | None = None,
        samples: int = 8,
        held_out: int = 32,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if min(steps, samples, held_out) < 1 or not rate > 0:
            raise OptionError(
                f"refining needs at least 1 step, 1 sample and a positive rate; got steps={steps}, samples={samples}, "
                f"held_out={held_out}, rate={rate}."
            )
        found = getattr(amortized, "family", None) if family is None else family
        if found is None:
            raise OptionError(f"{type(amortized).__name__} does not say its family; pass family= to refine in.")
        self.amortized = amortized
        self.family: Family = found
        self.how = Search(steps, rate, samples, held_out, every=min(10, steps), patience=None, seed=seed)
        self._model: tuple[Any, ...] = ()
        self._last: tuple[Any, ...] | None = None

    def bind(self, model: Any) -> None:
        """Takes the model whose p(x, z) is climbed; it is held without becoming a part of this module.

        Raises:
            CompositionError: If it is in another model already, whose posterior would climb this one from here on.
        """
        if self._model and self._model[0] is not model:
            raise CompositionError(
                "this Refined is part of another model, whose p(x, z) it climbs, and cannot climb two. Build a new one "
                "around its encoder: posteriors.Refined(refined.amortized)."
            )
        self._model = (model,)

    def forward(self, x: Tensor, given: Given | None = None) -> Distribution:
        if not self._model:
            raise OptionError("Refined climbs the ELBO of a model; build it into one: VAE(prior, likelihood, refined).")
        start = raw_from(self.amortized, self.family, x, given)
        refined = self._refine(x, given, start.detach())
        # A detour by zero, which hands the gradient at the refined parameters on to the encoder.
        return distribution_at(self.family, refined + (start - start.detach()) if start.requires_grad else refined)

    def _refine(self, x: Tensor, given: Given | None, start: Tensor) -> Tensor:
        """The refined parameters, kept while rows and model are the same: evaluation draws in several blocks."""
        (model,) = self._model
        seen = {"x": x, "start": start, **({} if given is None else vars(given))}
        with torch.inference_mode(False), torch.no_grad():
            state = [(p.data_ptr(), p._version) for p in model.parameters()]
            last = self._last
            if last is not None and last[0] == state and _same(last[1], seen):
                kept: Tensor = last[2]
                return kept
            seen = {name: None if part is None else part.detach().clone() for name, part in seen.items()}
            known = None if given is None else Given(**{name: seen[name] for name in vars(given)})
            target = Target(model.log_joint, seen["x"], known)
            coordinates = coordinates_for(self.family, seen["start"])
            with evaluating(model):
                parameters, _ = climb(target, coordinates, self.how)
            rows = torch.arange(len(x), device=x.device)
            found = parameters if isinstance(coordinates, Raw) else raw_of(self.family, coordinates(parameters, rows))
            self._last = None if self.training else (state, seen, found)
        return found


def _same(first: dict[str, Tensor | None], second: dict[str, Tensor | None]) -> bool:
    """Whether the same names hold equal tensors."""
    return first.keys() == second.keys() and all(
        torch.equal(a, b) if a is not None and b is not None else a is b
        for a, b in ((part, second[name]) for name, part in first.items())
    )
