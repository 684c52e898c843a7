"""Where the prior has mass that no row has a code at, samples are bad."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import DataError, OptionError
from ..evaluation import evaluation_mode
from ..noise import mix, seeded
from .aggregate import Aggregate
from .measured import Measured

__all__ = ["PriorGap", "prior_gap"]

_LEAST_DRAWS = 40
_LEAST_ROWS = 20
_TREES = 200


@dataclass(frozen=True)
class PriorGap:
    r"""How far draws from the prior can be told from codes of rows.

    Arguments:
        accuracy: The share of held-out draws that a classifier tells apart; 0.5 where there is no gap.
        mean: The mean of each latent over codes, shape (Z,).
        deviation: Their standard deviation, shape (Z,).
        draws: The number of draws of each kind.
    """

    accuracy: Measured
    mean: Tensor
    deviation: Tensor
    draws: int

    def to_json(self) -> dict[str, Any]:
        """The numbers as plain data."""
        return {
            "accuracy": self.accuracy.to_json(),
            "mean": self.mean.tolist(),
            "deviation": self.deviation.tolist(),
            "draws": self.draws,
        }


def prior_gap(model: Any, x: Tensor, *, draws: int = 1000, seed: int = 0) -> PriorGap:
    r"""A two-sample test by classifier: draws from p(z) against draws from the aggregate posterior q(z).

    A random forest learns from one half of the draws and is tested on the other. Its accuracy bounds the total
    variation distance from below: :math:`\mathrm{TV}(p, q) \ge 2 a - 1`.

    References:
        Lopez-Paz, Oquab (2017), Revisiting classifier two-sample tests. Rosca, Lakshminarayanan, Mohamed (2018),
        Distribution matching in variational inference.

    Arguments:
        model: A model with one prior and one posterior.
        x: Rows in the values that the model sees, shape (N, \*X).
        draws: The number of draws of each kind, at least 40; no more are taken than there are rows, of which each gives
            one code, or the accuracy would be taken for surer than it is.
        seed: The seed of draws and forest.

    Raises:
        OptionError: If there are too few draws.
        DataError: If there are fewer than 20 rows.

    Example:
        >>> from jensen import testing
        >>> oracle = testing.LinearGaussian(torch.eye(3)[:, :2], noise=0.5)
        >>> x = oracle.model.sample(400)
        >>> prior_gap(oracle.model, x, draws=400).accuracy.value < 0.6
        True
    """
    if draws < _LEAST_DRAWS:
        raise OptionError(f"a two-sample test needs at least {_LEAST_DRAWS} draws of each kind; got {draws}.")
    if len(x) < _LEAST_ROWS:
        raise DataError(f"codes of at least {_LEAST_ROWS} rows can be told from draws of the prior; got {len(x)}.")
    q = Aggregate(model, x)
    generator = torch.Generator().manual_seed(mix(seed, "prior gap"))
    draws = min(draws, q.n)
    index = torch.randperm(q.n, generator=generator)[:draws]
    codes = q.draw(index, seed, "prior gap", "codes")[0].flatten(1).double().cpu()
    with evaluation_mode(model), seeded(seed, "prior gap", "prior"):
        drawn = q.prior.sample(torch.Size((draws,))).flatten(1).double().cpu().clone()
    train = torch.arange(2 * draws) % 2 == 0
    values = torch.cat([codes, drawn])
    return PriorGap(
        accuracy=_told_apart(values, torch.arange(2 * draws) < draws, train, seed),
        mean=codes.mean(0),
        deviation=codes.std(0),
        draws=draws,
    )


def _told_apart(values: Tensor, is_code: Tensor, train: Tensor, seed: int) -> Measured:
    """The accuracy of a random forest on held-out draws, the mean of that on codes and that on draws of the prior."""
    from sklearn.ensemble import RandomForestClassifier

    inputs = torch.cat([values, values.square().sum(1, keepdim=True)], 1).numpy()
    forest = RandomForestClassifier(_TREES, min_samples_leaf=5, random_state=seed % 2**32)
    forest.fit(inputs[train.numpy()], is_code[train].numpy())
    right = torch.from_numpy(forest.predict(inputs[~train.numpy()])) == is_code[~train]
    parts = [right[is_code[~train] == kind].double() for kind in (True, False)]
    error = math.sqrt(sum(float(part.var()) / len(part) for part in parts)) / 2
    return Measured(sum(float(part.mean()) for part in parts) / 2, error, unit="of draws told apart")
