"""Posterior draws of observed rows, and how each row's were made."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import JensenError

__all__ = ["Checked", "PosteriorDraws"]

_SENTENCES = {
    "encoder": "draws of the encoder's posterior as they are",
    "refined": "draws of an approximate posterior that was refined for this row",
    "resampled": "draws of the encoder's or the refined posterior, resampled by their smoothed importance weights",
    "hmc": "four chains of Hamiltonian Monte Carlo, since no approximate posterior was good enough",
}


@dataclass(frozen=True)
class Checked:
    r"""How the draws of a row were made and what checked them.

    Arguments:
        method: ``"encoder"``, ``"refined"``, ``"resampled"`` or ``"hmc"``.
        passed: Whether its checks passed.
        k_hat: Pareto :math:`\hat k` of the best approximate posterior that was tried, the larger of that of its own
            draws and that of them beside draws of the prior; nan where it is a single code.
        r_hat: The largest :math:`\hat R` of a coordinate of z; nan where there were no chains.
        ess: The effective sample size of the draws; for chains the smallest of a coordinate of z, bulk or tail.
        moved: By how many standard deviations weights moved a moment of the approximate posterior.
    """

    method: str
    passed: bool
    k_hat: float
    r_hat: float
    ess: float
    moved: float

    @property
    def sentence(self) -> str:
        """What was done, in a sentence."""
        numbers = [f"k-hat {self.k_hat:.2f}"]
        if math.isfinite(self.r_hat):
            numbers = [f"R-hat {self.r_hat:.3f}", f"k-hat of the approximation {self.k_hat:.2f}"]
        numbers.append(f"effective sample size {self.ess:.0f}")
        verdict = "" if self.passed else " These did not pass: do not rely on them."
        done = _SENTENCES[self.method]
        return f"{done[0].upper()}{done[1:]} ({', '.join(numbers)}).{verdict}"


@dataclass(frozen=True)
class PosteriorDraws:
    r"""Draws from the posterior of each of N rows.

    Arguments:
        draws: By name, values in their own units, shape (S, N, \*V); for priors without names ``{"z": …}``.
        z: The latents that the model draws and scores, shape (S, N, \*Z).
        rows: How the draws of each row were made.
        chains: In how many parts the draws fall, one after the other; for rows drawn by chains these are the chains.
    """

    draws: dict[str, Tensor]
    z: Tensor
    rows: tuple[Checked, ...]
    chains: int = 1

    @property
    def methods(self) -> tuple[str, ...]:
        """The method of each row."""
        return tuple(row.method for row in self.rows)

    @property
    def k_hat(self) -> Tensor:
        r"""Pareto :math:`\hat k` of each row, shape (N,)."""
        return torch.tensor([row.k_hat for row in self.rows], dtype=torch.float64)

    @property
    def passed(self) -> Tensor:
        """Whether the draws of each row passed their checks, shape (N,)."""
        return torch.tensor([row.passed for row in self.rows])

    @property
    def sentences(self) -> tuple[str, ...]:
        """What was done for each row, in a sentence."""
        return tuple(row.sentence for row in self.rows)

    def summary(self) -> dict[str, dict[str, Tensor]]:
        r"""Mean, standard deviation and the 5% and 95% quantiles of each value, each of shape (N, \*V)."""
        return {name: _summary(values.double()) for name, values in self.draws.items()}

    def to_arviz(self) -> Any:
        """The draws as arviz's data tree, with dimensions chain, draw and row, and the checks of each row.

        Raises:
            JensenError: If arviz-base is not installed.
        """
        try:
            from arviz_base import from_dict
        except ImportError as error:
            raise JensenError(
                "to_arviz needs arviz-base, which is not installed: pip install 'jensen[arviz]'."
            ) from error
        values = {name: self._by_chain(value).cpu().numpy() for name, value in self.draws.items()}
        dims = {name: ["row", *(f"{name}_dim_{i}" for i in range(v.ndim - 3))] for name, v in values.items()}
        checks = {"k_hat": self.k_hat.numpy(), "passed": self.passed.numpy()}
        return from_dict(
            {"posterior": values, "constant_data": checks}, dims={**dims, "k_hat": ["row"], "passed": ["row"]}
        )

    def _by_chain(self, value: Tensor) -> Tensor:
        return value.reshape((self.chains, len(value) // self.chains, *value.shape[1:]))

    def __str__(self) -> str:
        counts = Counter(self.methods)
        lines = [f"{count} of {len(self.rows)} rows: {_SENTENCES[name]}" for name, count in counts.items()]
        failed = int((~self.passed).sum())
        lines += [f"{failed} of {len(self.rows)} rows did not pass: do not rely on them"] if failed else []
        for name, parts in self.summary().items():
            pairs = zip(parts["mean"][0].flatten().tolist(), parts["sd"][0].flatten().tolist(), strict=True)
            first = ", ".join(f"{mean:.4g} ± {sd:.2g}" for mean, sd in pairs)
            lines.append(f"{name}, row 0: {first}")
        return "\n".join(lines)


def _summary(values: Tensor) -> dict[str, Tensor]:
    low, high = values.quantile(torch.tensor([0.05, 0.95], dtype=values.dtype, device=values.device), 0)
    return {"mean": values.mean(0), "sd": values.std(0), "q5": low, "q95": high}
