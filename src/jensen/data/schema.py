"""What one row is: its shape, its values and how they become what the model sees, and back."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, model_validator
from torch import Tensor

from ..errors import DataError
from ..noise import RowNoise, mix, row_keys
from .grid import MAX_LEVELS, PIXELS, grid_of, points_of
from .values import EXACT, SMALL, check_values, check_varied, sentences_of
from .vocabulary import Vocabulary

__all__ = ["Binarisation", "Schema", "infer"]

Binarisation = Literal["none", "static", "dynamic", "threshold"]
Array = NDArray[Any]

_FAR = 1e12  # standard deviations


class Schema(BaseModel):
    r"""What one row is. User values :math:`v` become model values :math:`x` and back without loss.

    Binary and binned data lie on a grid :math:`v = o + s l`, :math:`l \in \{0, \dots, L - 1\}`, and the model sees
    :math:`x = l / (L - 1)`. Grey data that are binarised become coins of that probability. Continuous data are
    standardised, :math:`x = (v - m) / c`, with statistics of the training rows. Of sentences the model sees the numbers
    of their tokens, as floats, which hold them exactly.

    Arguments:
        name: The name of the data.
        event_shape: The shape of a row.
        dtype: The type of the user's values.
        kind: What the user's values are.
        offset: The smallest value :math:`o` of the grid.
        step: The distance :math:`s` of its points.
        levels: The number L of its points; 0 for continuous data.
        points: The points themselves, where rounding keeps :math:`o + s l` from being exactly the user's values.
        mean: The mean :math:`m`, of each column for tables, one number for all values otherwise.
        scale: The standard deviation :math:`c`, likewise.
        binarisation: How grey values become zeros and ones.
        seed: The seed of splits and of frozen binarisation.
        vocabulary: The tokens of sentences; None for other data.
        chunks: Whether a row is a piece of a text that runs on, and not a line of it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    event_shape: tuple[int, ...]
    dtype: str
    kind: Literal["binary", "binned", "continuous", "tokens"]
    offset: float = 0.0
    step: float = 1.0
    levels: int = 0
    points: list[float] = []
    mean: list[float] = []
    scale: list[float] = []
    binarisation: Binarisation = "none"
    seed: int = 0
    vocabulary: Vocabulary | None = None
    chunks: bool = False

    @model_validator(mode="after")
    def _check(self) -> Schema:
        if (self.kind == "tokens") != (self.vocabulary is not None):
            raise ValueError("sentences, and nothing else, have a vocabulary")
        if self.vocabulary is not None:
            if self.dtype != "str" or len(self.event_shape) != 1 or self.levels != self.vocabulary.count:
                raise ValueError(f"rows of shape {self.event_shape} with {self.levels} tokens are no sentences")
            return self
        try:
            kind = np.dtype(self.dtype).kind
        except TypeError as error:
            raise ValueError(f"there is no type {self.dtype!r} of values") from error
        if kind not in "buif" or not self.event_shape or min(self.event_shape) < 1:
            raise ValueError(f"rows of shape {self.event_shape} and type {self.dtype} are not rows of real numbers")
        if self.kind == "continuous":
            if len(self.mean) != len(self.scale) or len(self.mean) not in (1, self.size):
                raise ValueError("mean and scale have neither one entry nor one for each value of a row")
            if not np.isfinite(self.mean).all() or not all(0 < scale < math.inf for scale in self.scale):
                raise ValueError("mean and scale must be finite, and scale positive")
        elif not (2 <= self.levels <= MAX_LEVELS and self.step > 0 and len(self.points) in (0, self.levels)):
            raise ValueError(f"{self.levels} levels at steps of {self.step:g} are no grid")
        return self

    @property
    def size(self) -> int:
        """The number of values in a row."""
        return math.prod(self.event_shape)

    @property
    def binary(self) -> bool:
        """Whether the model sees zeros and ones."""
        return self.kind == "binary" or self.binarisation != "none"

    @property
    def pixels(self) -> bool:
        """Whether 8-bit pixels, from 0 for black to 255 for white, are in the units of the rows."""
        if self.kind == "binned":
            return (self.offset, self.step, self.levels) == PIXELS
        if self.kind == "binary":
            return self.offset >= 0 and self.step > 1
        return self.dtype == "uint8"

    @property
    def limits(self) -> tuple[float, float] | None:
        """The smallest and the largest value that rows in the user's units can have; None for continuous values."""
        if self.binarisation != "none":
            return 0.0, 1.0
        return None if self.kind == "continuous" else (self.offset, self.offset + self.step * (self.levels - 1))

    @property
    def units(self) -> str:
        """The values of a row in words."""
        if self.kind == "continuous":
            return f"continuous values of type {self.dtype}"
        return f"{self.levels} levels from {self.offset:g} to {self.offset + self.step * (self.levels - 1):g}"

    @property
    def protocol(self) -> str:
        """How values become what the model sees, in words; part of every result."""
        if self.vocabulary is not None:
            rows = f"{self.size} in a piece" if self.chunks else f"at most {self.size} in a row"
            return f"{self.name}; {self.vocabulary.level} tokens, {self.levels} of them, {rows}"
        seeded = self.binarisation in ("static", "dynamic")
        return f"{self.name}; binarisation {self.binarisation}" + (f", seed {self.seed}" if seeded else "")

    @property
    def log_jacobian(self) -> float:
        """What turns a log-density of model values into one of the user's values, nats per example."""
        if self.kind != "continuous":
            return 0.0
        scales = self.scale if len(self.scale) == self.size else self.scale * self.size
        return -math.fsum(math.log(scale) for scale in scales)

    def store(self, values: Array) -> Tensor:
        """User rows in the smallest type that holds them: levels of a grid, or standardised floats.

        Raises:
            DataError: If the rows have another shape, type or range than the schema says.
        """
        if self.vocabulary is not None:
            return torch.from_numpy(self.vocabulary.encode(sentences_of(values, self.name), self.size))
        check_values(values, self.name)
        if values.shape[1:] != self.event_shape:
            raise DataError(f"{self.name} has rows of shape {self.event_shape}; got {values.shape[1:]}.")
        return self._standardise(values) if self.kind == "continuous" else self._levels_of(values)

    def _statistics(self) -> tuple[Array, Array]:
        shape = self.event_shape if len(self.mean) == self.size else (1,) * len(self.event_shape)
        return np.reshape(self.mean, shape), np.reshape(self.scale, shape)

    def _standardise(self, values: Array) -> Tensor:
        mean, scale = self._statistics()
        x = (values.astype(np.float64) - mean) / scale
        far = np.abs(x) > _FAR
        if far.any():
            where = np.argwhere(far)[0].tolist()
            raise DataError(
                f"row {where[0]} of {self.name} has {values[tuple(where)]:.6g} at position {where[1:]}, "
                f"{np.abs(x[tuple(where)]):.3g} standard deviations from the mean of the training rows. Remove that "
                "row or correct the value."
            )
        return torch.from_numpy(x.astype(np.float32))

    def _levels_of(self, values: Array) -> Tensor:
        if values.dtype == np.uint8 and (self.offset, self.step, self.levels) == PIXELS:
            return torch.from_numpy(values.copy())  # levels already; the general way takes 25 times the memory
        exact = (values.astype(np.float64) - self.offset) / self.step
        levels = np.rint(exact)
        bad = (np.abs(exact - levels) > 1e-3) | (levels < 0) | (levels > self.levels - 1)
        if bad.any():
            where = np.argwhere(bad)[0].tolist()
            raise DataError(
                f"row {where[0]} has {values[tuple(where)]!r} at position {where[1:]}; {self.name} has the "
                f"{self.levels} levels {self.offset:g}, {self.offset + self.step:g}, … "
                f"{self.offset + self.step * (self.levels - 1):g}. Remove that row or correct the value."
            )
        return torch.from_numpy(levels.astype(np.uint8 if self.levels <= 256 else np.int16))

    def grey(self, stored: Tensor) -> Tensor:
        """Stored rows as floats, before any binarisation."""
        plain = self.kind in ("continuous", "tokens")
        return stored.float() if plain else stored.float() / (self.levels - 1)

    def encode(self, stored: Tensor) -> Tensor:
        """Stored rows as the model sees them in training: dynamic binarisation draws anew at each call."""
        grey = self.grey(stored)
        if self.binarisation == "dynamic":
            return _coins(grey)
        return self.freeze(stored) if self.binarisation != "none" else grey

    def freeze(self, stored: Tensor) -> Tensor:
        """Stored rows as the model sees them in evaluation: a row is binarised once, by the seed and its content."""
        grey = self.grey(stored)
        if self.binarisation == "none":
            return grey
        if self.binarisation == "threshold":
            return (grey > 0.5).float()
        frozen = []
        for rows, levels in zip(grey.split(1024), stored.split(1024), strict=True):
            with RowNoise([mix(self.seed, "binarise", key) for key in row_keys(levels)]):
                frozen.append(torch.bernoulli(rows[None])[0])
        return torch.cat(frozen)

    def model_values(self, values: Array) -> Tensor:
        """User rows as the model sees them in evaluation."""
        return self.freeze(self.store(values))

    def user_values(self, x: Tensor, *, exact: bool) -> Array:
        """What the model returns, in the user's units.

        Arguments:
            x: Model values.
            exact: Whether they are data, to be returned in the user's type; means are returned as floats.
        """
        values = x.detach().cpu().double().numpy()
        if self.vocabulary is not None:
            return np.array(self.vocabulary.decode(values), dtype=object)
        if self.kind == "continuous":
            mean, scale = self._statistics()
            values = values * scale + mean
        elif self.binarisation == "none":
            levels = values * (self.levels - 1)
            if exact and self.points:
                values = np.asarray(self.points)[np.rint(levels).astype(np.int64)]
            else:
                values = self.offset + self.step * (np.rint(levels) if exact else levels)
        dtype = self._type
        if not exact:
            return self._floats(values)
        if dtype.kind in "iu":
            # A draw of a continuous model need not be of the type: the nearest one that is.
            values = np.clip(np.rint(values), max(np.iinfo(dtype).min, -EXACT), min(np.iinfo(dtype).max, EXACT))
        elif dtype.kind == "b":
            values = values > 0.5
        elif dtype.kind == "f":
            values = np.clip(values, np.finfo(dtype).min, np.finfo(dtype).max)
        return values.astype(dtype)

    def user_deviations(self, x: Tensor) -> Array:
        """Standard deviations of model values, in the user's units, as floats."""
        values = x.detach().cpu().double().numpy()
        if self.kind == "continuous":
            values = values * self._statistics()[1]
        elif self.binarisation == "none":
            values = values * self.step * (self.levels - 1)
        return self._floats(values)

    @property
    def _type(self) -> np.dtype[Any]:
        """The type of what is drawn."""
        return np.dtype(self.dtype if self.binarisation == "none" else "uint8")

    def _floats(self, values: Array) -> Array:
        """Numbers between values, in a type that keeps as many digits as theirs."""
        return values.astype(np.result_type(self._type, np.float32))


def _coins(grey: Tensor) -> Tensor:
    """Zeros and ones with the given probabilities, which are rounded up to multiples of 2**-16.

    Four coins share one 64-bit draw, since drawing is what limits this; zero and one stay certain.
    """
    draws = torch.empty(-(-grey.numel() // 4), dtype=torch.int64, device=grey.device).random_(-(2**63), None)
    uniform = draws.view(torch.int16)[: grey.numel()].view(grey.shape)
    return (uniform < grey * 2**16 - 2**15).to(grey.dtype)


def infer(
    values: Array,
    train: Array,
    *,
    name: str,
    binarisation: Binarisation,
    seed: int,
    density: bool = False,
    pixels: bool = False,
) -> Schema:
    """Finds out what the rows of a data set are.

    Arguments:
        values: All rows; their grid, like their type, is part of what the data are.
        train: The training rows, from which statistics are taken.
        name: The name of the data.
        binarisation: How grey values become zeros and ones.
        seed: The seed of frozen binarisation.
        density: Take the values as continuous even where they lie on a grid, for a model that is a density.
        pixels: Take 8-bit values as pixels of 256 levels even where all are dark, unless they are black and white.

    Raises:
        DataError: If nothing can be learned from the rows, or they cannot be binarised.
    """
    check_values(values, name)
    check_varied(values, name)
    low, high = float(values.min()), float(values.max())
    common: dict[str, Any] = {
        "name": name,
        "event_shape": values.shape[1:],
        "dtype": values.dtype.name,
        "binarisation": binarisation,
        "seed": seed,
    }
    grid = None if density and binarisation == "none" else grid_of(values, low, high, pixels=pixels)
    if grid is not None:
        offset, step, levels = grid
        kind: Literal["binary", "binned"] = "binary" if levels == 2 else "binned"
        if kind == "binary" and binarisation != "none":
            raise DataError(f"{name} is binary already; use --binarisation none.")
        points = [] if grid == PIXELS else points_of(values, offset, step, levels)
        return Schema(**common, kind=kind, offset=offset, step=step, levels=levels, points=points)
    if binarisation != "none":
        raise DataError(f"--binarisation {binarisation} needs grey levels; {name} is continuous ({low:g} to {high:g}).")
    mean, scale = _moments(train, name)
    return Schema(**common, kind="continuous", mean=mean.tolist(), scale=scale.tolist())


def _moments(train: Array, name: str) -> tuple[Array, Array]:
    """Mean and standard deviation of the training rows: of each column of a table, of all values otherwise."""
    wide = train.astype(np.float64) if train.ndim == 2 else train.astype(np.float64).reshape(-1, 1)
    spread = wide.max(0) - wide.min(0)
    constant = np.flatnonzero(spread < SMALL)
    if len(constant):
        some = ", ".join(map(str, constant[:10])) + (", …" if len(constant) > 10 else "")
        raise DataError(
            f"{len(constant)} of the {wide.shape[1]} columns of {name} hold one value in all {len(train)} training "
            f"rows (column {some}; the first is {wide[0, constant[0]]:g}): their scale cannot be learned, and a "
            "density on a constant has no bound. Remove those columns, or give more rows."
        )
    return wide.mean(0), wide.std(0)
