"""Whether a prior and a posterior are over the same latents."""

from __future__ import annotations

from typing import Any

from ..distributions import same_space, space_of
from ..errors import CompositionError, ShapeError

__all__ = ["check_latents", "known_of"]


def known_of(prior: Any) -> Any:
    """The distribution p(z), or a conditioned prior itself, which has none without a condition but says where it is."""
    return prior if getattr(prior, "conditions", 0) else prior()


def check_latents(prior: Any, posterior: Any) -> None:
    """Compares the spaces of prior and posterior, where both say theirs.

    Arguments:
        prior: The distribution p(z), or what says where it is: a conditioned prior or the family of a distribution.
        posterior: The module that gives q(z|x), or one whose ``family`` does.

    Raises:
        CompositionError: If they are over different spaces.
        ShapeError: If they are over different numbers of latents.
    """
    family = getattr(posterior, "family", posterior)
    shape, support = getattr(family, "event_shape", None), getattr(family, "support", None)
    if shape is None or support is None:
        return
    wanted = prior.support
    if wanted is not None and not same_space(wanted, support):
        raise CompositionError(
            f"the prior is over {space_of(wanted)}, the posterior over {space_of(support)}: where q(z|x) > 0 the "
            "prior has no density, and the KL between them is infinite. Give both the same space, for instance by "
            "posteriors.Amortized(net, like=prior)."
        )
    latent = tuple(prior.event_shape)
    if tuple(shape) != latent:
        raise ShapeError(
            f"the prior is over latents of shape {latent}, the posterior over {tuple(shape)}; "
            "give both the same number of latents."
        )
