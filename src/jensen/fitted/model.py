"""A fitted model: it takes and returns the user's rows."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeVar, cast, overload

import numpy as np
import torch
from torch import Tensor

from ..data import Schema, Source, TextOptions, open_source, tell_skipped
from ..data.arrays import key_in
from ..data.labels import condition_on, label_numbers
from ..data.sources import from_memory
from ..data.text import chunks_of, is_sentences
from ..data.values import check_values
from ..errors import DataError, JensenError, OptionError
from ..evaluation import bounds, check_data, device_of, dtype_of, evaluation_mode, in_chunks, latent_size
from ..files import at_home
from ..noise import seeded
from ..numbers import whole
from ..roles import Given

__all__ = ["Fitted"]

Array = np.ndarray[Any, Any]
PathLike = str | os.PathLike[str]
Rows = TypeVar("Rows", Array, Tensor)

_DRAWN = 4096  # rows at once

_logger = logging.getLogger("jensen")


class Fitted:
    """A trained model with the schema of its data: it takes and returns the user's rows.

    Arguments:
        vae: The model.
        schema: What a row is; None for a model of raw model values.
        protocol: How the data were split and binarised.
        label_names: The names of the labels of the data.
        key: Which array of an .npz file the data were, where that had to be said.

    Example:
        >>> from jensen import testing
        >>> fitted = Fitted(testing.LinearGaussian(torch.eye(3)[:, :2], noise=0.5).model)
        >>> fitted.embed(torch.zeros(4, 3, dtype=torch.float64)).shape
        torch.Size([4, 2])
    """

    def __init__(
        self,
        vae: Any,
        schema: Schema | None = None,
        protocol: str = "",
        label_names: Sequence[str] = (),
        *,
        key: str | None = None,
    ) -> None:
        self.vae = vae.eval()
        self.schema = schema
        self.protocol = protocol or (schema.protocol if schema else "")
        self.label_names = tuple(label_names)
        self.key = key

    def read(self, path: PathLike) -> Source:
        """Opens a file, a folder or a name as rows for this model: images are made to the size and colours of its own,
        a text is cut into pieces where those of the fit were, and of several arrays in an .npz file the one of the name
        that was fitted is taken.

        Arguments:
            path: As for :func:`jensen.fit`; also one image. The ``rows`` of what is returned are those of ``files``, in
                this order; those in ``skipped`` could not be read.

        Raises:
            DataError: If there is no such data, or no images can be rows of this model, or pixels are in other units,
                or none of several arrays has the name that was fitted.
        """
        if self.schema is None:
            raise DataError(f"a model without a schema does not know how {os.fspath(path)} is to be read; pass rows.")
        key = key_in(at_home(path), self.key)
        source, text = open_source(path, key=key, image_size=self.schema.event_shape), TextOptions.of(self.schema)
        if source.pixels and not self.schema.pixels:
            raise DataError(
                f"{os.fspath(path)} holds pixels from 0 to 255, and the rows of {self.schema.name} are in other units: "
                f"{self.schema.units}. Turn the pixels into these, and give them as an array or a .npy file."
            )
        if text is None or not text.chunks or not all(map(is_sentences, source.arrays.values())):
            return source
        return replace(source, arrays={split: chunks_of(lines, text) for split, lines in source.arrays.items()})

    def _read(self, path: PathLike) -> Array:
        """The rows of a path, telling what was taken for them, and of files left out: those shift rows after them."""
        source = self.read(path)
        notes = [*source.notes, *tell_skipped(source.skipped, "; read(path).skipped lists all")]
        for note in notes:
            _logger.warning("%s", note)
        return source.rows

    def model_values(self, x: Any) -> Tensor:
        """User rows, or those of a path, as the model sees them.

        Raises:
            DataError: If they are not rows of this data.
        """
        x = self._read(x) if isinstance(x, str | os.PathLike) else x
        if self.schema is not None and self.schema.kind == "tokens":
            return self.schema.model_values(x)
        values = from_memory(x)
        if self.schema is None:
            if isinstance(x, Tensor):
                return x
            check_values(values, "the array")
            return torch.tensor(values.astype(np.float64), dtype=dtype_of(self.vae))
        event = self.schema.event_shape
        if values.shape == event:
            raise DataError(f"got one row of shape {event}; expected a batch of rows, shape (N, …): pass x[None].")
        if values.ndim == 1 and event == (1,):
            values = values[:, None]
        return self.schema.model_values(values)

    def given(self, labels: Any, count: int) -> Given | None:
        """What a model that is conditioned on labels is given beside rows.

        Arguments:
            labels: The label of each row, or one for all: numbers from 0, or names.
            count: The number of rows.

        Raises:
            JensenError: If the model needs labels and there are none, or needs none and there are some.
            DataError: If one is no label, or there are not as many as rows.
        """
        classes = int(getattr(self.vae, "conditions", 0))
        if labels is None:
            return None
        if not classes:
            raise JensenError("this model is not conditioned on labels. Leave them out.")
        several = [labels] * count if np.ndim(labels) == 0 else labels
        numbers = label_numbers(several, self.label_names, classes)
        if len(numbers) != count:
            raise DataError(f"got {len(numbers)} labels for {count} rows; give one for each.")
        return condition_on(numbers, classes)

    def _like(self, result: np.ndarray[Any, Any] | Tensor, x: object) -> Any:
        if isinstance(x, Tensor):
            return result if isinstance(result, Tensor) else torch.from_numpy(result)
        return result.numpy() if isinstance(result, Tensor) else result

    @overload
    def embed(self, x: Rows, *, labels: Any = None) -> Rows: ...

    @overload
    def embed(self, x: PathLike | list[str], *, labels: Any = None) -> Array: ...

    def embed(self, x: Any, *, labels: Any = None) -> Any:
        r"""The posterior mean of each row, shape (N, Z): deterministic, and the same in any batch, bit for bit.

        Arguments:
            x: Rows in the user's units, shape (N, \*X), as an array or a tensor; the result is of the same type. Or a
                path as in :meth:`read`.
            labels: The label of each row, for a model that is conditioned on them.
        """
        rows, given = self._checked(x, labels)
        device = device_of(self.vae)

        def means(part: Tensor, known: Given | None = None) -> Tensor:
            codes: Tensor = self.vae.embed(part.to(device), None if known is None else known.to(device))
            return codes.cpu()

        with evaluation_mode(self.vae):
            codes = in_chunks(means, rows, given)
        return self._like(codes.clone(), x)

    def _checked(self, x: Any, labels: Any) -> tuple[Tensor, Given | None]:
        rows = self.model_values(x)
        given = self.given(labels, len(rows))
        check_data(self.vae, rows, given)
        return rows, given

    @overload
    def reconstruct(self, x: Rows, *, labels: Any = None, deviation: bool = False) -> Rows: ...

    @overload
    def reconstruct(self, x: PathLike, *, labels: Any = None, deviation: bool = False) -> Array: ...

    @overload
    def reconstruct(self, x: list[str]) -> list[str]: ...

    def reconstruct(self, x: Any, *, labels: Any = None, deviation: bool = False) -> Any:
        r"""The mean of :math:`p(x|z)` at the posterior mean of z, in the user's units, as floats.

        Arguments:
            x: Rows in the user's units, shape (N, \*X), or a path as in :meth:`read`.
            labels: The label of each row, for a model that is conditioned on them.
            deviation: Return the standard deviation of each value instead: how uncertain the prediction is, where the
                decoder's weights are uncertain that included.

        Raises:
            OptionError: If a deviation is asked for and p(x|z) has none.
        """
        rows, given = self._checked(x, labels)
        if deviation:
            return self._like(self._deviations(rows, given), x)
        return self._like(self._means(rows, given, embedded=False), x)

    def _deviations(self, rows: Tensor, given: Given | None) -> Any:
        """The standard deviations of p(x|z) of rows, in the user's units."""
        device = device_of(self.vae)

        def deviation(part: Tensor, known: Given | None = None) -> Tensor:
            known = None if known is None else known.to(device)
            found: Tensor = self.vae.decode(self.vae.embed(part.to(device), known), known).variance.sqrt().cpu()
            return found

        try:
            with evaluation_mode(self.vae):
                found = in_chunks(deviation, rows, given).clone()
        except NotImplementedError as error:
            raise OptionError(
                "p(x|z) of this model has no standard deviations: it is of sentences, or predicts values one from "
                "another. Leave deviation out."
            ) from error
        return found if self.schema is None else self.schema.user_deviations(found)

    def decode(self, z: Any, *, labels: Any = None) -> Any:
        r"""The mean of :math:`p(x|z)` at given codes, in the user's units, as floats; of sentences the greedy ones.

        Arguments:
            z: Codes as :meth:`embed` gives them, shape (N, \*Z), as an array or a tensor.
            labels: The label of each row, for a model that is conditioned on them.

        Raises:
            DataError: If they are not codes of this model.
        """
        codes, shape = from_memory(z), _code_shape(self.vae)
        numbers = codes.dtype.kind in "fiub"
        if not numbers or not codes.ndim or not len(codes) or codes.shape[1:] != shape or not math.prod(shape):
            expected = ", ".join(map(str, ("N", *shape)))
            raise DataError(
                f"codes of this model have {math.prod(shape)} values each, shape ({expected}); got an array of "
                f"{codes.dtype}, shape {codes.shape}. Give them as embed does."
            )
        check_values(codes, "the array of codes")
        rows = torch.tensor(codes.astype(np.float64), dtype=dtype_of(self.vae))
        check_values(rows.double().numpy(), f"the array of codes as {dtype_of(self.vae)}")
        found = self._means(rows, self.given(labels, len(codes)), embedded=True)
        return found if isinstance(found, list) else self._like(found, z)

    def _means(self, rows: Tensor, given: Given | None, *, embedded: bool) -> Any:
        """The means of p(x|z) of rows or of codes, in the user's units."""
        device = device_of(self.vae)

        def mean(part: Tensor, known: Given | None = None) -> Tensor:
            known = None if known is None else known.to(device)
            z = part.to(device) if embedded else self.vae.embed(part.to(device), known)
            decoded: Tensor = self.vae.decode(z, known).mean.cpu()
            return decoded

        with evaluation_mode(self.vae):
            means = in_chunks(mean, rows, given).clone()
        return means if self.schema is None else self._user_values(means, exact=False)

    def _user_values(self, x: Tensor, *, exact: bool) -> Any:
        """Model values in the user's units; sentences as a list."""
        schema = cast(Schema, self.schema)
        values = schema.user_values(x, exact=exact)
        return values.tolist() if schema.kind == "tokens" else values

    def interpolate(self, first: Any, second: Any, *, steps: int = 8, label: Any = None) -> Any:
        """What the model makes of codes on the straight line between those of two rows, in the user's units.

        Arguments:
            first: A row, or a sentence.
            second: Another.
            steps: How many rows, those of both ends included.
            label: The label of both, and of all between, for a model that is conditioned on labels.

        Raises:
            OptionError: If there are fewer than two steps, or no whole number of them.
            DataError: If they are not rows of this data.
        """
        steps = whole(steps, 2, "an interpolation has two ends, so at least 2 steps")
        text = self.schema is not None and self.schema.kind == "tokens"
        pair: Any = [first, second]
        if not text:
            ends = [from_memory(row) for row in pair]
            if ends[0].shape != ends[1].shape:
                raise DataError(
                    f"an interpolation is between rows of one shape; got {ends[0].shape} and {ends[1].shape}. Give two "
                    "rows as the model knows them."
                )
            pair = np.stack(ends)
        z = torch.as_tensor(self.embed(pair, labels=label))
        share = torch.linspace(0, 1, steps, dtype=z.dtype).reshape(-1, *[1] * (z.ndim - 1))
        return self.decode((z[0] + share * (z[1] - z[0])).numpy(), labels=label)

    def sample(
        self,
        n: int,
        *,
        seed: int | None = None,
        mean: bool = False,
        temperature: float = 1.0,
        label: Any = None,
    ) -> Any:
        r"""Rows drawn from the model, in the user's units; sentences as a list.

        Arguments:
            n: How many.
            seed: The seed; without it the draw is a new one each time.
            mean: Return the mean of :math:`p(x|z)` for each drawn z instead of a draw of x; for sentences, the greedy
                one.
            temperature: For sentences, what the logits of each token are divided by; below 1 for sharper choices.
            label: The label of the rows, or one for each, for a model that is conditioned on labels; without it each
                label is as likely as any other.

        Raises:
            OptionError: If ``n`` is no positive whole number, the temperature is not positive, or the model has no use
                for one.
        """
        n = whole(n, 1, "a sample has at least 1 row")
        if temperature != 1 and (mean or self.schema is None or self.schema.kind != "tokens"):
            raise OptionError(
                "a temperature is for draws of sentences, which are chosen token by token; rows of other kinds and "
                "means have none. Leave it out."
            )
        chosen = int(torch.randint(2**62, ())) if seed is None else seed
        classes = int(getattr(self.vae, "conditions", 0))
        with evaluation_mode(self.vae), seeded(chosen, "sample"):
            given = self.given(torch.randint(classes, (n,)) if classes and label is None else label, n)
            parts = []
            for start in range(0, n, _DRAWN):  # what a decoder holds at once is many times its rows
                size = min(_DRAWN, n - start)
                known = () if given is None else (given.rows(slice(start, start + size)).to(device_of(self.vae)),)
                x = self.vae.sample(size, *known, mean=mean) if temperature == 1 else self._tempered(size, temperature)
                parts.append(x.cpu().numpy() if self.schema is None else self._user_values(x, exact=not mean))
        if isinstance(parts[0], list):
            return [sentence for part in parts for sentence in part]
        return np.concatenate(parts)

    def _tempered(self, n: int, temperature: float) -> Tensor:
        if not 0 < temperature < math.inf:
            raise OptionError(f"a temperature is a positive number; got {temperature}.")
        z = self.vae.prior().sample(torch.Size((n,))) if self.vae.latent_size else None
        found = self.vae.decode(z)
        if not hasattr(found, "at_temperature"):
            raise OptionError("a temperature is for models of sentences, which choose token by token. Leave it out.")
        drawn: Tensor = found.at_temperature(temperature).sample(torch.Size((n,) if z is None else ()))
        return drawn

    @overload
    def log_likelihood(self, x: Rows, *, k: int = 1000, seed: int = 0, labels: Any = None) -> Rows: ...

    @overload
    def log_likelihood(self, x: PathLike | list[str], *, k: int = 1000, seed: int = 0, labels: Any = None) -> Array: ...

    def log_likelihood(self, x: Any, *, k: int = 1000, seed: int = 0, labels: Any = None) -> Any:
        r"""A lower bound on log p(x) of each row from K samples, nats, shape (N,), for the user's units.

        Arguments:
            x: Rows in the user's units, shape (N, \*X), or a path as in :meth:`read`.
            k: The number of samples K.
            seed: The seed of the noise.
            labels: The label of each row, for a model that is conditioned on them: the bound is then on log p(x|label).
        """
        jacobian = 0.0 if self.schema is None else self.schema.log_jacobian
        rows, given = self._checked(x, labels)
        return self._like(bounds(self.vae, rows, k=k, seed=seed, given=given).log_likelihood + jacobian, x)


def _code_shape(model: Any) -> tuple[int, ...]:
    """The shape of the code of a row."""
    size, prior = latent_size(model), getattr(model, "prior", None)
    if prior is None:
        return (size,)
    # A prior that depends on the condition knows its shape without one.
    shape = tuple((prior if hasattr(prior, "event_shape") else prior()).event_shape)
    return shape if math.prod(shape) == size else (size,)  # a class may stand before the latents
