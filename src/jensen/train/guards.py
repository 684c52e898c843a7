"""Guards: what must be true of a training, checked while it runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import DeadTermError
from ..roles import Estimate

__all__ = ["LiveTerms", "StepGuard"]

_PATIENCE = 1024
_LOOKS = 128
_LATE = 64
_IN_A_ROW = 10
_MEMORY = 0.02
_USUAL = 2.0
_WORSE = 10.0
_ENCODERS = ("posterior.", "encoder.")


class LiveTerms:
    """Checks that what an objective says reaches the parameters that are to learn from it.

    It looks at steps 0, 1, 2, 4, 8, …: a term whose weight is still zero, or whose floor hides it, may come alive
    later, within one period of the objective's schedules. A term that was never seen alive is looked for at each of the
    last 64 steps of that time, since one that lies at its floor is hidden at every other step. By step 128 the decoder
    must have passed a gradient to the encoder, and every parameter is expected to have had one.

    Arguments:
        period: The step from which on all schedules have shown their values.
        steps: The number of steps of the training.
        decodes: Whether the encoder learns through the decoder, and not only from samples of which it is told the z.
    """

    def __init__(self, period: int, steps: int, *, decodes: bool = True) -> None:
        self.decodes = decodes
        self.deadline = min(max(period, _PATIENCE), steps - 1)
        self.verdict = min(_LOOKS, steps - 1)
        self.terms: set[str] = set()
        self.parameters: set[str] = set()
        self.decoded: bool | None = None
        self.missing = True

    def due(self, number: int) -> bool:
        """Whether there is something to look at in a step."""
        if number > self.deadline:
            return False
        late = self.missing and number > self.deadline - _LATE
        return late or number & (number - 1) == 0 or number in (self.deadline, self.verdict)

    def watch(self, estimate: Estimate, model: nn.Module, number: int) -> list[str]:
        """Looks at the terms of one step, and says what has become certain.

        Raises:
            DeadTermError: If a deadline has passed and a term never had a gradient, or the decoder never passed one on.
        """
        named = {name: p for name, p in model.named_parameters() if p.requires_grad}
        for term, value in estimate.terms.items():
            reached = _reached(value, named)
            if reached:
                self.terms.add(term)
            self.parameters |= reached
            if self.decodes and any(name.startswith("likelihood.") for name in reached):
                self.decoded = bool(self.decoded) or any(name.startswith(_ENCODERS) for name in reached)
        self.missing = any(name not in self.terms for name in estimate.terms)
        if number >= self.deadline:
            self._check_terms(estimate, number)
        return self._verdict(named) if number == self.verdict and number >= _LOOKS else []

    def _check_terms(self, estimate: Estimate, number: int) -> None:
        for name in estimate.terms:
            if name not in self.terms:
                raise DeadTermError(
                    f"the term {name!r} of the objective has had no gradient with respect to any parameter in "
                    f"{number + 1} steps: it is clamped, detached or weighted with zero. Remove it, or mend what "
                    "hides it."
                )

    def _verdict(self, named: Mapping[str, nn.Parameter]) -> list[str]:
        if self.decoded is False and any(name.startswith(_ENCODERS) for name in named):
            raise DeadTermError(
                f"the decoder is dead: in {self.verdict + 1} steps p(x|z) has passed no gradient to the posterior, so "
                "x does not depend on z and nothing can be encoded. Look for units that are always zero, a detached z, "
                "or a decoder that ignores its input."
            )
        dead = [name for name in named if name not in self.parameters]
        if not dead:
            return []
        some = ", ".join(dead[:5]) + (", …" if len(dead) > 5 else "")
        return [
            f"{len(dead)} of {len(named)} parameter tensors have had no gradient in {self.verdict + 1} steps ({some}): "
            "they are not used, or behind units that are always zero"
        ]

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {
            "terms": sorted(self.terms),
            "parameters": sorted(self.parameters),
            "decoded": self.decoded,
            "missing": self.missing,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes back to what a checkpoint kept."""
        self.terms, self.parameters = set(state["terms"]), set(state["parameters"])
        self.decoded, self.missing = state["decoded"], bool(state.get("missing", True))


def _reached(term: Tensor, named: Mapping[str, nn.Parameter]) -> set[str]:
    """The names of the parameters to which a term has a gradient that is not zero."""
    if not term.requires_grad:
        return set()
    gradients = torch.autograd.grad(term.mean(), list(named.values()), retain_graph=True, allow_unused=True)
    return {name for name, g in zip(named, gradients, strict=True) if g is not None and bool(g.count_nonzero())}


class StepGuard:
    r"""Decides of each step whether it is taken, and how long its gradient may be.

    A step is skipped if its loss or gradient is not finite, or if the loss is worse than the first by ten times its
    size. A gradient longer than ``clip`` times the running mean of lengths is shortened to it (Pascanu et al., 2013,
    with a threshold that adapts). The numbers stay on the device; the decision reaches a fused optimiser as tensors.

    Arguments:
        clip: The multiple of the usual length; 0 never shortens.
        device: Where the loss is.
    """

    def __init__(self, clip: float, device: torch.device) -> None:
        self.clip = clip
        self.length = torch.zeros((), device=device)
        self.first = torch.full((), float("nan"), device=device)
        # skipped, skipped in a row, most in a row, taken
        self.counts = torch.zeros(4, device=device)

    def judge(self, loss: Tensor, norm: Tensor) -> tuple[Tensor, Tensor]:
        """Whether to take a step, a boolean tensor, and the number by which to divide its gradient of a given norm."""
        norm, loss = norm.float(), loss.float()
        self.first = torch.where(self.first.isfinite(), self.first, loss)
        limit = self.first + _WORSE * self.first.abs().clamp(min=1.0)
        good = norm.isfinite() & ~(loss > limit) & loss.isfinite()
        skipped, in_a_row, most, taken = self.counts.unbind()
        ceiling = torch.where(self.length > 0, self.length * self.clip, norm) if self.clip else norm
        shortened = torch.minimum(norm, ceiling)
        # One explosion must not become usual, but what is shortened to less than usual must not become shorter still.
        usual = torch.where(self.length > 0, torch.minimum(norm, self.length * max(self.clip, _USUAL)), norm)
        pace = torch.clamp(1 / (taken + 1), min=_MEMORY)
        self.length = torch.where(good, self.length + pace * (usual - self.length), self.length)
        bad = (~good).float()
        in_a_row = (in_a_row + bad) * bad
        self.counts = torch.stack([skipped + bad, in_a_row, torch.maximum(most, in_a_row), taken + 1 - bad])
        divisor = torch.where(good & (norm > 0), norm / shortened, torch.ones_like(norm))
        return good, divisor

    def read(self) -> tuple[int, bool]:
        """How many steps have been skipped, and whether ten in a row were; waits for the device."""
        skipped, _, most, _ = self.counts.tolist()
        return int(skipped), most >= _IN_A_ROW

    def forgive(self) -> None:
        """Begins to count anew, after the weights went back to older ones."""
        self.counts = self.counts * self.counts.new_tensor([1.0, 0.0, 0.0, 0.0])

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        first = float(self.first)
        return {
            "first": first if first == first and abs(first) < float("inf") else None,
            "length": float(self.length),
            "counts": self.counts.tolist(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes back to what a checkpoint kept."""
        first = state["first"]
        self.first = torch.full_like(self.first, float("nan") if first is None else first)
        self.length = torch.full_like(self.length, state["length"])
        self.counts = self.counts.new_tensor(state["counts"])
