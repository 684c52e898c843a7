"""What a model says of itself, and whether rows can be scored by it."""

from __future__ import annotations

from typing import Any, Literal, cast

import torch
from torch import Tensor

from ..errors import DataError, ShapeError
from ..noise import seeded
from ..roles import Evidence, Given
from .chunks import device_of, evaluation_mode

__all__ = ["check_data", "check_values", "draws_alike", "evidence_of", "latent_size", "measure_of"]


def evidence_of(model: Any) -> Evidence:
    """What the log-weights of a model say about log p(x); lower bounds, where it does not say."""
    return cast(Evidence, getattr(model, "evidence", "lower"))


def draws_alike(model: Any) -> bool:
    """Whether all draws for a row are the same, so that no number depends on how many there are."""
    return evidence_of(model) == "exact" or getattr(getattr(model, "posterior", None), "deterministic", False)


def latent_size(model: Any) -> int:
    """The number of values that describe an example."""
    found = getattr(model, "latent_size", None)
    return int(model.prior().event_shape.numel() if found is None else found)


def measure_of(model: Any) -> Literal["mass", "density"]:
    """What p(x|z) is: a mass of discrete rows or a density of continuous ones."""
    return getattr(model.likelihood, "measure", "density")


def check_data(model: Any, x: Tensor, given: Given | None = None) -> None:
    """Checks that rows can be scored by a model: there are some, their shape fits, and they lie in its support.

    Arguments:
        model: A model.
        x: Rows in the values that the model sees.
        given: What is known beside the rows, or beside the first one.

    Raises:
        DataError: If there are no rows or a value is not finite.
        ShapeError: If the model's networks refuse rows of this shape.
        SupportError: If a value lies outside the support of the likelihood.
    """
    check_values(model, x)
    try:
        with evaluation_mode(model), seeded(0):
            model.draw(x[:1].to(device_of(model)), _first(given, x, device_of(model)))
    except RuntimeError as error:
        raise ShapeError(
            f"the model cannot draw latents for rows of shape {tuple(x.shape[1:])}, {x.dtype}: {error}. Check the "
            "input size of the posterior's network, the number of latents, and event_dims of Conditional (the number "
            "of dimensions of one input)."
        ) from error


def check_values(model: Any, x: Tensor) -> None:
    """What :func:`check_data` checks of the values alone.

    Raises:
        DataError: If there are no rows or a value is not finite.
        SupportError: If a value lies outside the support of the likelihood.
    """
    if not isinstance(x, Tensor) or x.ndim < 2 or len(x) == 0:
        shape = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
        raise DataError(f"expected a tensor of rows, shape (N, *X) with N >= 1; got {shape}.")
    if not x.is_floating_point():
        raise DataError(f"expected rows as floats, the values that the model sees; got {x.dtype}. Convert them first.")
    if not x.isfinite().all():
        where = (~x.isfinite()).nonzero()[0].tolist()
        raise DataError(
            f"row {where[0]} has {float(x[tuple(where)])!r} at position {where[1:]}; expected finite numbers."
        )
    if hasattr(model.likelihood, "check"):
        model.likelihood.check(x)


def _first(given: Given | None, x: Tensor, device: torch.device) -> Given | None:
    """What is given beside the first row.

    Raises:
        DataError: If it does not fit the rows.
    """
    if given is None:
        return None
    for name, value in (("conditions", given.condition), ("labels", given.labels), ("row numbers", given.index)):
        if value is not None and len(value) != len(x):
            raise DataError(f"got {name} for {len(value)} rows beside {len(x)} rows; give one for each.")
    return given.rows(slice(0, 1)).to(device)
