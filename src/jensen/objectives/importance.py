"""Bounds from several weighted samples of each example."""

from __future__ import annotations

from torch import Tensor

from ..errors import OptionError
from ..roles import BoundKind, Estimate, Given, Model
from ..schedules import Schedule, as_weight
from ..spec import declared
from .elbo import auxiliary_losses, draw_for_bound, shared_kl
from .gradients import Estimator, Reparameterised
from .means import MixedMean, PowerMean, WeightMean

__all__ = ["CIWAE", "IWAE", "MIWAE", "PIWAE", "Renyi"]


_NEAR_ONE = 1e-3


class _Weighted:
    """A mean of log-weights as objective: the loss is its negative, and its value at β = 1 the bound."""

    kind: BoundKind = "lower"

    def __init__(
        self, k: int, target: WeightMean, estimator: Estimator | None, *, encoder_target: WeightMean | None = None
    ) -> None:
        if k < 1:
            raise OptionError(f"{type(self).__name__} needs at least 1 sample; got k={k}.")
        self.k = k
        self.target = target
        self.encoder_target = target if encoder_target is None else encoder_target
        self.estimator: Estimator = Reparameterised() if estimator is None else estimator
        self.estimator.check(k)
        self.compiles = isinstance(self.estimator, Reparameterised) and encoder_target is None
        self.beta: Schedule = as_weight(1.0)
        self.period = 1

    def _warmed(self, beta: float | Schedule) -> None:
        self.beta = as_weight(beta)
        self.period = self.beta.period

    def __call__(self, model: Model, x: Tensor, given: Given | None = None, step: int = 0) -> Estimate:
        draw = draw_for_bound(model, x, given, self.k)
        beta = self.beta(step)
        weighted = -self.estimator(draw, self.target, self.encoder_target, beta)
        bound = self.target.value(draw.log_weight.detach()) if self.kind != "none" else None
        shared = shared_kl(draw, self.estimator, closed_form=self.estimator.admits_closed_form)
        terms = {"negative_bound": weighted, **auxiliary_losses(draw)}
        if shared is not None:
            charged, known = shared
            terms["global_kl"] = beta * charged
            bound = None if bound is None else bound - known.detach()
        return Estimate.of(terms, bound)


@declared("objectives.IWAE")
class IWAE(_Weighted):
    r"""The importance-weighted bound, in nats per example:

    .. math:: \log p(x) \ge E\Bigl[\log \frac1K \sum_k w_k\Bigr], \quad w_k = \frac{p(x, z_k)}{q(z_k|x)}

    It rises with K. The gradient of the encoder gets noisier with K under :class:`Reparameterised` and less noisy under
    :class:`DoublyReparameterised`.

    References:
        Burda, Grosse, Salakhutdinov (2016), Importance weighted autoencoders.

    Arguments:
        k: The number of samples K.
        beta: The weight of :math:`\log p(z) - \log q(z|x)` in the loss: a number or a schedule of the step. The
            reported bound has weight 1.
        estimator: The estimator of the gradient.

    Raises:
        OptionError: If an argument is out of range.
        CompositionError: If the arguments do not go together, or when used, if the model has no bound on log p(x).

    Example:
        >>> import torch
        >>> from jensen import testing
        >>> oracle = testing.LinearGaussian(torch.eye(3)[:, :2], noise=0.5)
        >>> x = torch.zeros(4, 3, dtype=torch.float64)
        >>> torch.allclose(IWAE(k=5)(oracle.model, x).bound, oracle.log_evidence(x))
        True
    """

    def __init__(self, k: int = 5, *, beta: float | Schedule = 1.0, estimator: Estimator | None = None) -> None:
        super().__init__(k, PowerMean(0.0), estimator)
        self._warmed(beta)


@declared("objectives.MIWAE")
class MIWAE(_Weighted):
    r"""The mean of M importance-weighted bounds with K samples each, from M K samples in all.

    .. math:: \log p(x) \ge E\Bigl[\frac1M \sum_m \log \frac1K \sum_k w_{mk}\Bigr]

    References:
        Rainforth et al. (2018), Tighter variational bounds are not necessarily better.

    Arguments:
        groups: The number of groups M.
        k: The number of samples K in a group.
        estimator: The estimator of the gradient.

    Example:
        >>> MIWAE(groups=4, k=8).k
        32
    """

    def __init__(self, groups: int = 8, k: int = 8, *, estimator: Estimator | None = None) -> None:
        _check_groups(groups, k)
        super().__init__(groups * k, PowerMean(0.0, groups), estimator)


@declared("objectives.PIWAE")
class PIWAE(_Weighted):
    r"""The bound with all M K samples for the decoder and prior, and the mean of M bounds for the encoder.

    The decoder gets the tighter target, the encoder the one whose gradient is less noisy. The reported bound is the
    tighter one.

    References:
        Rainforth et al. (2018), Tighter variational bounds are not necessarily better.

    Arguments:
        groups: The number of groups M of the encoder's target.
        k: The number of samples K in a group.
        estimator: The estimator of the gradient.

    Example:
        >>> PIWAE(groups=4, k=8).k
        32
    """

    def __init__(self, groups: int = 8, k: int = 8, *, estimator: Estimator | None = None) -> None:
        _check_groups(groups, k)
        super().__init__(groups * k, PowerMean(0.0), estimator, encoder_target=PowerMean(0.0, groups))


@declared("objectives.CIWAE")
class CIWAE(_Weighted):
    r"""A convex combination of the ELBO and the importance-weighted bound:
    :math:`s \cdot \text{ELBO} + (1 - s) \cdot \text{IWAE}_K`.

    References:
        Rainforth et al. (2018), Tighter variational bounds are not necessarily better.

    Arguments:
        k: The number of samples K.
        share: The share s of the ELBO, between 0 and 1.
        estimator: The estimator of the gradient.

    Example:
        >>> CIWAE(k=8, share=0.5).kind
        'lower'
    """

    def __init__(self, k: int = 8, share: float = 0.5, *, estimator: Estimator | None = None) -> None:
        if not 0 <= share <= 1:
            raise OptionError(f"the share of the ELBO lies between 0 and 1; got share={share}.")
        super().__init__(k, MixedMean(PowerMean(1.0), PowerMean(0.0), float(share)), estimator)


@declared("objectives.Renyi")
class Renyi(_Weighted):
    r"""The variational Rényi bound of order α, in nats per example:

    .. math:: \frac{1}{1 - \alpha} \log \frac1K \sum_k w_k^{1 - \alpha}

    For :math:`\alpha \ge 0` its expectation is a lower bound of log p(x) for every K; for :math:`\alpha < 0` it is an
    estimate that may lie on either side. α = 0 is the IWAE bound, α → 1 the ELBO.

    References:
        Li, Turner (2016), Rényi divergence variational inference.

    Arguments:
        k: The number of samples K.
        alpha: The order α.
        estimator: The estimator of the gradient.

    Raises:
        OptionError: If α is 1 or all but 1, where the formula divides by zero.

    Example:
        >>> Renyi(k=8, alpha=0.5).kind, Renyi(k=8, alpha=-1.0).kind
        ('lower', 'estimate')
    """

    def __init__(self, k: int = 8, alpha: float = 0.5, *, estimator: Estimator | None = None) -> None:
        if abs(alpha - 1) < _NEAR_ONE or not -1e3 < alpha < 1e3:
            raise OptionError(
                f"alpha must be a number that is not within {_NEAR_ONE} of 1, where the bound is that of ELBO(k={k}) "
                f"and the formula loses all digits; got {alpha}."
            )
        super().__init__(k, PowerMean(float(alpha)), estimator)
        self.kind = "lower" if alpha >= 0 else "estimate"


def _check_groups(groups: int, k: int) -> None:
    if groups < 1 or k < 1:
        raise OptionError(f"groups and k are at least 1; got groups={groups}, k={k}.")
