"""Numbers that say what they are."""

from __future__ import annotations

import math
import operator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from .errors import OptionError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["QUANTITIES", "SCHEMA_VERSION", "Number", "Precision", "finite", "mean_and_se", "whole"]

Precision = Literal["fp32", "bf16"]
"""What networks compute in: fp32 is the type of their parameters, bf16 one that hardware may be faster at."""

SCHEMA_VERSION = 1
"""The version of the JSON documents that numbers stand in."""

QUANTITIES = {"elbo": "ELBO", "log_likelihood": "log p(x)", "reconstruction": "log p(x|z) at the code"}
"""What may be measured of a model, by the names that files use."""


@dataclass(frozen=True)
class Number:
    r"""A mean over examples that says what it is.

    Arguments:
        mean: The mean over examples.
        se: Its standard error over examples.
        mc_se: Its Monte Carlo standard error, from the sampling of latents alone.
        n: The number of examples.
        k: The number of samples of the latents for each example; None where the value does not depend on it.
        ess: The median over examples of the effective sample size :math:`(\sum w)^2 / \sum w^2`.
        unit: The unit.
        kind: What it is with respect to log p(x).
        measure: Whether p is a mass or a density.
        split: The rows that were scored.
        protocol: How data, splits and binarisation were made; numbers compare only under equal protocols.
        precision: What networks computed in: fp32, or better, or bf16.

    Example:
        >>> print(Number(-92.31, 0.04, 0.01, 10000, 1000, 61.0, kind="lower", measure="mass"))
        ≥ -92.31 ± 0.04 nats/example (K=1000, MC se 0.01, ESS 61)
    """

    mean: float
    se: float
    mc_se: float
    n: int
    k: int | None
    ess: float
    unit: str = "nats/example"
    kind: Literal["exact", "lower", "upper", "estimate", "predictive", "none"] = "lower"
    measure: Literal["mass", "density"] = "density"
    split: str = "test"
    protocol: str = ""
    precision: Precision = "fp32"

    def to_json(self) -> dict[str, Any]:
        """The fields as plain data; what is not finite is None."""
        return {key: finite(value) for key, value in asdict(self).items()}

    def __str__(self) -> str:
        sign = {"lower": "≥ ", "upper": "≤ ", "estimate": "≈ "}.get(self.kind, "")
        details = [] if self.precision == "fp32" else [f"networks in {self.precision}"]
        details += [] if self.k is None else [f"K={self.k}"]
        details += [f"MC se {self.mc_se:.2g}"] if math.isfinite(self.mc_se) and self.k is not None else []
        details += [f"ESS {self.ess:.3g}"] if math.isfinite(self.ess) and self.k not in (None, 1) else []
        return f"{sign}{self.mean:.2f} ± {self.se:.2f} {self.unit}" + (f" ({', '.join(details)})" if details else "")


def finite(value: Any) -> Any:
    """The value, or None for a float that is not finite."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def mean_and_se(values: Tensor) -> tuple[float, float]:
    """The mean and its standard error over examples, independent of their order to the last bit."""
    items = values.double().tolist()
    n = len(items)
    mean = math.fsum(items) / n
    if n == 1:
        return mean, math.nan
    return mean, math.sqrt(math.fsum((item - mean) ** 2 for item in items) / (n - 1) / n)


def whole(value: Any, least: int, what: str) -> int:
    """A whole number that is large enough.

    Raises:
        OptionError: If it is neither; it begins with ``what``.

    Example:
        >>> whole(3, 1, "a table has at least 1 row")
        3
    """
    try:
        number = operator.index(value)
    except TypeError as error:
        raise OptionError(f"{what}, in whole numbers; got {value!r}. Give a whole number.") from error
    if number < least:
        raise OptionError(f"{what}; got {number}.")
    return number
