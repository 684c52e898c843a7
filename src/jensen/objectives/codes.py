"""The objective of models with discrete codes and one answer for each example."""

from __future__ import annotations

from typing import Any

from ..errors import CompositionError
from ..roles import Estimate, Given
from ..spec import declared
from .elbo import ELBO

__all__ = ["CodedELBO"]


@declared("objectives.CodedELBO")
class CodedELBO(ELBO):
    r"""The bound of a model whose posterior is a point, in nats per example: what x costs after its code, and the code.

    .. math:: \log p(x) \ge \log p(x|z) + \log p(z), \quad z = e(f(x))

    The posterior's auxiliary losses, such as the commitment to a codebook, are in the loss and not in the bound. A
    prior without parameters has a code length that nothing changes: it is in the bound, and no term of the loss.

    References:
        Van den Oord, Vinyals, Kavukcuoglu (2017), Neural discrete representation learning.

    Raises:
        CompositionError: When used, if the posterior is no point.

    Example:
        >>> CodedELBO().k
        1
    """

    def __init__(self) -> None:
        super().__init__()

    def __call__(self, model: Any, x: Any, given: Given | None = None, step: int = 0) -> Estimate:
        if not getattr(getattr(model, "posterior", None), "deterministic", False):
            raise CompositionError(
                f"a coded ELBO is of a posterior that is a point, such as posteriors.Quantised; that of "
                f"{type(model).__name__} spreads over z, and its KL would be left out. Use ELBO()."
            )
        found = super().__call__(model, x, given, step)
        if any(p.requires_grad for p in model.prior.parameters()):
            return found
        terms = {name: term for name, term in found.terms.items() if name != "kl"}
        return Estimate.of(terms, found.bound)
