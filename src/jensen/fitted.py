"""A fitted model: it takes and returns the user's rows, and says what it is worth."""

from __future__ import annotations

import logging
import math
import os
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, overload

import numpy as np
import torch
from torch import Tensor

from .data import Schema, Source, open_source, tell_skipped
from .errors import DataError, OptionError
from .evaluation import (
    Bounds,
    Latents,
    Number,
    bounds,
    check_data,
    device_of,
    evaluation_mode,
    in_chunks,
    kind_of,
    latents,
    summarise,
)
from .noise import seeded

__all__ = ["Evaluation", "Fitted", "evaluate", "score"]

Array = np.ndarray[Any, Any]
PathLike = str | os.PathLike[str]
Rows = TypeVar("Rows", Array, Tensor)

_logger = logging.getLogger("jensen")


@dataclass(frozen=True)
class Evaluation:
    """What a model is worth on some rows.

    Arguments:
        elbo: The evidence lower bound.
        log_likelihood: The lower bound on log p(x) from K samples.
        bits_per_dim: ``log_likelihood`` as bits per dimension, for a mass; None for a density.
        latents: How much each latent is used.
        scores: The bounds of each row.
    """

    elbo: Number
    log_likelihood: Number
    bits_per_dim: float | None
    latents: Latents
    scores: Bounds

    def __str__(self) -> str:
        bits = "" if self.bits_per_dim is None else f" · {self.bits_per_dim:.4f} bits/dim"
        return (
            f"ELBO {self.elbo} · log p(x) {self.log_likelihood}{bits} · {self.elbo.n} examples, "
            f"{self.elbo.split} rows, {self.latents.active} active latents"
        )

    def to_json(self) -> dict[str, Any]:
        """The result as plain data."""
        each = self.latents.kl_per_latent
        exact = self.log_likelihood.kind == "exact"  # both numbers are the same then
        return {
            "test": {
                **({} if exact else {"elbo": self.elbo.to_json()}),
                "log_likelihood": self.log_likelihood.to_json(),
                "bits_per_dim": self.bits_per_dim,
            },
            "kl": self.latents.kl,
            "kl_per_latent": None if each is None else each.tolist(),
            "active_latents": None if exact else self.latents.active,
        }


class Fitted:
    """A trained model with the schema of its data: it takes and returns the user's rows.

    Arguments:
        vae: The model.
        schema: What a row is; None for a model of raw model values.
        protocol: How the data were split and binarised.

    Example:
        >>> from jensen import testing
        >>> fitted = Fitted(testing.LinearGaussian(torch.eye(3)[:, :2], noise=0.5).model)
        >>> fitted.embed(torch.zeros(4, 3, dtype=torch.float64)).shape
        torch.Size([4, 2])
    """

    def __init__(self, vae: Any, schema: Schema | None = None, protocol: str = "") -> None:
        self.vae = vae.eval()
        self.schema = schema
        self.protocol = protocol or (schema.protocol if schema else "")

    def read(self, path: PathLike) -> Source:
        """Opens a file, a folder or a name as rows for this model: images are made to the size and colours of its own.

        Arguments:
            path: As for :func:`jensen.fit`; also one image. The ``rows`` of what is returned are those of ``files``, in
                this order; those in ``skipped`` could not be read.

        Raises:
            DataError: If there is no such data, or no images can be rows of this model.
        """
        if self.schema is None:
            raise DataError(f"a model without a schema does not know how {os.fspath(path)} is to be read; pass rows.")
        return open_source(path, image_size=self.schema.event_shape)

    def _read(self, path: PathLike) -> Array:
        """The rows of a path, telling of files that were left out, since those shift the rows after them."""
        source = self.read(path)
        for note in tell_skipped(source.skipped, "; read(path).skipped lists all"):
            _logger.warning("%s", note)
        return source.rows

    def model_values(self, x: Any) -> Tensor:
        """User rows, or those of a path, as the model sees them.

        Raises:
            DataError: If they are not rows of this data.
        """
        x = self._read(x) if isinstance(x, str | os.PathLike) else x
        if self.schema is None:
            if isinstance(x, Tensor):
                return x
            dtype = next((p.dtype for p in self.vae.parameters()), torch.float32)
            return torch.from_numpy(np.asarray(x)).to(dtype)
        values = x.detach().cpu().numpy() if isinstance(x, Tensor) else np.asarray(x)
        event = self.schema.event_shape
        if values.shape == event:
            raise DataError(f"got one row of shape {event}; expected a batch of rows, shape (N, …): pass x[None].")
        if values.ndim == 1 and event == (1,):
            values = values[:, None]
        return self.schema.model_values(values)

    def _like(self, result: np.ndarray[Any, Any] | Tensor, x: object) -> Any:
        if isinstance(x, Tensor):
            return result if isinstance(result, Tensor) else torch.from_numpy(result)
        return result.numpy() if isinstance(result, Tensor) else result

    @overload
    def embed(self, x: Rows) -> Rows: ...

    @overload
    def embed(self, x: PathLike) -> Array: ...

    def embed(self, x: Any) -> Any:
        r"""The posterior mean of each row, shape (N, Z): deterministic, and the same in any batch, bit for bit.

        Arguments:
            x: Rows in the user's units, shape (N, \*X), as an array or a tensor; the result is of the same type. Or a
                path as in :meth:`read`.
        """
        rows = self._checked(x)
        with evaluation_mode(self.vae):
            codes = in_chunks(lambda part: self.vae.embed(part.to(device_of(self.vae))).cpu(), rows)
        return self._like(codes.clone(), x)

    def _checked(self, x: Any) -> Tensor:
        rows = self.model_values(x)
        check_data(self.vae, rows)
        return rows

    @overload
    def reconstruct(self, x: Rows) -> Rows: ...

    @overload
    def reconstruct(self, x: PathLike) -> Array: ...

    def reconstruct(self, x: Any) -> Any:
        r"""The mean of :math:`p(x|z)` at the posterior mean of z, in the user's units, as floats.

        Arguments:
            x: Rows in the user's units, shape (N, \*X), or a path as in :meth:`read`.
        """
        rows = self._checked(x)

        def mean(part: Tensor) -> Tensor:
            z = self.vae.embed(part.to(device_of(self.vae)))
            decoded: Tensor = self.vae.decode(z).mean.cpu()
            return decoded

        with evaluation_mode(self.vae):
            means = in_chunks(mean, rows).clone()
        return self._like(means if self.schema is None else self.schema.user_values(means, exact=False), x)

    def sample(self, n: int, *, seed: int | None = None, mean: bool = False) -> np.ndarray[Any, Any]:
        r"""Rows drawn from the model, in the user's units.

        Arguments:
            n: How many.
            seed: The seed; without it the draw is a new one each time.
            mean: Return the mean of :math:`p(x|z)` for each drawn z instead of a draw of x.

        Raises:
            OptionError: If ``n`` is not positive.
        """
        if n < 1:
            raise OptionError(f"sample needs a positive number of rows; got n={n}.")
        chosen = int(torch.randint(2**62, ())) if seed is None else seed
        with evaluation_mode(self.vae), seeded(chosen, "sample"):
            x = self.vae.sample(n, mean=mean).clone()
        return x.cpu().numpy() if self.schema is None else self.schema.user_values(x, exact=not mean)

    @overload
    def log_likelihood(self, x: Rows, *, k: int = 1000, seed: int = 0) -> Rows: ...

    @overload
    def log_likelihood(self, x: PathLike, *, k: int = 1000, seed: int = 0) -> Array: ...

    def log_likelihood(self, x: Any, *, k: int = 1000, seed: int = 0) -> Any:
        r"""A lower bound on log p(x) of each row from K samples, nats, shape (N,), for the user's units.

        Arguments:
            x: Rows in the user's units, shape (N, \*X), or a path as in :meth:`read`.
            k: The number of samples K.
            seed: The seed of the noise.
        """
        jacobian = 0.0 if self.schema is None else self.schema.log_jacobian
        return self._like(bounds(self.vae, self.model_values(x), k=k, seed=seed).log_likelihood + jacobian, x)


def evaluate(model: Any, x: Any, *, k: int = 1000, seed: int = 0, split: str = "test") -> Evaluation:
    r"""Bounds on log p(x) of held-out rows, with their errors.

    Arguments:
        model: A :class:`Fitted`, with rows in the user's units, or a model, with rows as it sees them.
        x: The rows, shape (N, \*X); for a :class:`Fitted` also a path, as in :meth:`Fitted.read`.
        k: The number of samples K of the log-mean-exp bound.
        seed: The seed of the noise.
        split: What the rows are, for the result.

    Example:
        >>> from jensen import testing
        >>> oracle = testing.LinearGaussian(torch.eye(3)[:, :2], noise=0.5)
        >>> evaluate(oracle.model, torch.zeros(4, 3, dtype=torch.float64), k=10).log_likelihood.kind
        'lower'
    """
    fitted = model if isinstance(model, Fitted) else Fitted(model)
    return score(fitted, fitted.model_values(x), k=k, seed=seed, split=split)


def score(fitted: Fitted, rows: Tensor, *, k: int, seed: int, split: str) -> Evaluation:
    """The evaluation of rows that are model values already."""
    scores = bounds(fitted.vae, rows, k=k, seed=seed)
    measure: Literal["mass", "density"] = getattr(fitted.vae.likelihood, "measure", "density")
    jacobian = 0.0 if fitted.schema is None else fitted.schema.log_jacobian
    labels = {"measure": measure, "split": split, "protocol": fitted.protocol, **kind_of(fitted.vae, scores)}
    elbo = summarise(scores.elbo + jacobian, scores.elbo_variance, scores, **labels)
    log_likelihood = summarise(scores.log_likelihood + jacobian, scores.log_likelihood_variance, scores, **labels)
    bits = -log_likelihood.mean / (rows[0].numel() * math.log(2)) if measure == "mass" else None
    return Evaluation(elbo, log_likelihood, bits, latents(fitted.vae, rows), scores)
