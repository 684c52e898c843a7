"""What a model of features that are on or off has found: how many, how often, and what each looks like."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from ..errors import JensenError, OptionError
from ..evaluation import ACTIVE, check_data, device_of, evaluation_mode, in_chunks
from ..noise import seeded

__all__ = [
    "Frequencies",
    "dictionary",
    "expected_frequencies",
    "feature_frequencies",
    "features_in_use",
    "has_features",
]

_IN_USE = 0.02


@dataclass(frozen=True)
class Frequencies:
    """How often features are on, the most frequent first.

    Arguments:
        found: The share of rows in which each feature is on, shape (T,).
        in_use: The same with features that tell no rows apart counted as off, shape (T,): where a feature changes
            nothing in x, whether it is on is not determined by the data.
        mean: The expected share under the Indian buffet process, shape (T,).
        low: The lower end of the 95 % band of such shares, shape (T,).
        high: Its upper end.
    """

    found: Tensor
    in_use: Tensor
    mean: Tensor
    low: Tensor
    high: Tensor

    @property
    def used(self) -> int:
        """The number of features that tell rows apart."""
        return int((self.in_use > 0).sum())

    @property
    def inside(self) -> float:
        """The share of features whose frequency lies in the band."""
        return self._inside(self.found)

    @property
    def inside_in_use(self) -> float:
        """The share whose frequency lies in the band where features that tell no rows apart count as off."""
        return self._inside(self.in_use)

    def _inside(self, shares: Tensor) -> float:
        return float(((shares >= self.low) & (shares <= self.high)).double().mean())

    def to_json(self) -> dict[str, Any]:
        """The numbers as plain data."""
        shares = {part.name: getattr(self, part.name).tolist() for part in fields(self)}
        return {"used": self.used, "inside": self.inside, "inside_in_use": self.inside_in_use, **shares}


def has_features(model: Any) -> bool:
    """Whether a model has an Indian buffet process as prior."""
    return hasattr(getattr(model, "row_prior", None), "alpha")


def _prior(model: Any) -> Any:
    if not has_features(model):
        raise JensenError(
            f"{type(model).__name__} has no features that are on or off; this diagnosis is of models with an Indian "
            "buffet process as prior, such as ibp-vae."
        )
    return model.row_prior


def _means(model: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    """The posterior probability that each feature of each row is on, and the mean of its strength, each (N, T).

    Both are at the mean of the sticks; without strengths the second has no columns.
    """
    prior = _prior(model)
    check_data(model, x)

    def embedded(rows: Tensor) -> Tensor:
        means: Tensor = model.embed(rows.to(device_of(model))).double().cpu()
        return means

    with evaluation_mode(model):
        means = in_chunks(embedded, x).clone()
    return means[:, : prior.features], means[:, prior.features :]


def features_in_use(model: Any, x: Tensor) -> Tensor:
    r"""The numbers of the features that tell rows apart: on in at least 2 % of them and off in at least 2 %.

    A feature is on where its posterior probability is above one half. One that is on in every row is a constant, as the
    decoder has another in its bias, and says nothing about a row, unless its strength does: of features with strengths
    those count too that are on in at least 2 % of the rows, where the posterior mean of the strength has a variance
    above 0.01 over these rows (Burda et al. 2016).

    Arguments:
        model: A model with an Indian buffet process as prior.
        x: Rows in the values that the model sees.

    Returns:
        The numbers, shape (F,); their count is the posterior number of features.

    Raises:
        JensenError: If the model has no such features.
    """
    return _telling(*_means(model, x)).nonzero()[:, 0]


def _telling(probabilities: Tensor, strengths: Tensor) -> Tensor:
    """Whether each feature tells rows apart, shape (T,)."""
    on = (probabilities > 0.5).double()
    share = on.mean(0)
    telling = share <= 1 - _IN_USE
    if strengths.shape[1]:
        weight = on / on.sum(0).clamp(min=1)
        mean = (weight * strengths).sum(0)
        telling = telling | ((weight * (strengths - mean).square()).sum(0) > ACTIVE)
    return (share >= _IN_USE) & telling


def feature_frequencies(model: Any, x: Tensor) -> Frequencies:
    r"""How often each feature is on, beside what the Indian buffet process expects of as many rows.

    Arguments:
        model: A model with an Indian buffet process as prior.
        x: Rows in the values that the model sees.

    Raises:
        JensenError: If the model has no such features.
    """
    prior = _prior(model)
    probabilities, strengths = _means(model, x)
    shares = probabilities.mean(0)
    in_use = shares.where(_telling(probabilities, strengths), 0.0)
    found, telling = (part.sort(descending=True).values for part in (shares, in_use))
    return Frequencies(found, telling, *expected_frequencies(prior.alpha, len(x), prior.features))


def expected_frequencies(
    alpha: float, rows: int, features: int, *, draws: int = 4000, seed: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    r"""The shares of rows in which the features of an Indian buffet process are on, the most frequent first.

    .. math:: \pi_t = \prod_{s \le t} v_s, \quad v_s \sim \mathrm{Beta}(\alpha, 1), \quad E[\pi_t] = \Bigl(
              \frac{\alpha}{\alpha + 1}\Bigr)^t

    The band holds, for each place in the order, 95 % of the shares in simulated data sets; the sticks being shared, its
    width is theirs, and the number of rows adds little.

    References:
        Teh, Görür, Ghahramani (2007), Stick-breaking construction for the Indian buffet process.

    Arguments:
        alpha: The concentration α.
        rows: The number of rows.
        features: The number of features.
        draws: The number of simulated data sets.
        seed: Their seed.

    Returns:
        The mean, the lower and the upper end of the band, each of shape (T,).

    Raises:
        OptionError: If an argument is out of range.

    Example:
        >>> mean, low, high = expected_frequencies(2.0, rows=1000, features=3)
        >>> bool((low < mean).all() and (mean < high).all())
        True
    """
    if not alpha > 0 or min(rows, features, draws) < 1:
        raise OptionError(f"alpha and the counts are positive; got {alpha}, {rows}, {features}, {draws}.")
    with seeded(seed, "buffet"):
        sticks = torch.rand(draws, features, dtype=torch.float64) ** (1 / alpha)
        pi = sticks.cumprod(-1)
        counts = torch.binomial(torch.full_like(pi, rows), pi)
    shares = (counts / rows).sort(-1, descending=True).values
    low, high = torch.quantile(shares, torch.tensor([0.025, 0.975], dtype=torch.float64), dim=0)
    return shares.mean(0), low, high


def dictionary(model: Any) -> Tensor:
    r"""What each feature adds to the mean of p(x|z) when it alone is on, with strength 1, shape (T, \*X).

    Where the decoder is affine and x normal these are the columns of its matrix.

    Arguments:
        model: A model with an Indian buffet process as prior.

    Raises:
        JensenError: If the model has no such features.
    """
    features = _prior(model).features
    alone = torch.cat([torch.eye(features), torch.zeros(1, features)]).to(device_of(model))
    with evaluation_mode(model):
        means: Tensor = model.likelihood(alone).mean.cpu()
    return (means[:-1] - means[-1:]).clone()
