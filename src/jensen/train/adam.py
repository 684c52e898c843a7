"""Adam, with a state of plain tensors, so that an update may be a part of a compiled step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.optim.adam import adam

__all__ = ["Adam"]

_FIRST, _SECOND, _TINY = 0.9, 0.999, 1e-8
_NAMES = ("exp_avg", "exp_avg_sq", "step")


class Adam:
    r"""Adam with decoupled weight decay; an update may be refused by a tensor, without waiting for the device.

    .. math:: m \gets m + (1-β_1)(g-m), \quad v \gets v + (1-β_2)(g^2-v), \quad
        θ \gets (1-ηλ)\,θ - η\,\hat m/(\sqrt{\hat v}+ε)

    with :math:`\hat m = m/(1-β_1^t)`, :math:`\hat v = v/(1-β_2^t)`, :math:`β = (0.9, 0.999)` and
    :math:`ε = 10^{-8}`. A parameter without a gradient stays as it is.

    References: Kingma, Ba (2015), Adam. Loshchilov, Hutter (2019), Decoupled weight decay regularization.

    Arguments:
        parameters: What is updated in place.
        decay: The weight decay λ.

    Example:
        >>> weight = torch.zeros(2)
        >>> optimiser = Adam([weight], decay=0.0)
        >>> one = torch.ones(())
        >>> optimiser.update([torch.tensor([1.0, -2.0])], 0.1, divisor=one, good=one > 0)
        >>> weight
        tensor([-0.1000,  0.1000])
    """

    def __init__(self, parameters: Sequence[Tensor], decay: float) -> None:
        self.parameters, self.decay = list(parameters), decay
        self.means = [torch.zeros_like(parameter, requires_grad=False) for parameter in self.parameters]
        self.squares = [torch.zeros_like(parameter, requires_grad=False) for parameter in self.parameters]
        # Each parameter has a count of its own; together they are one tensor, so that they can be changed as one.
        self.counts = torch.zeros(len(self.parameters), device=self.parameters[0].device)
        self.each_count = list(self.counts.unbind())

    @torch.no_grad()
    def update(self, gradients: Sequence[Tensor | None], rate: float, *, divisor: Tensor, good: Tensor) -> None:
        """An update by torch's fused kernel.

        Arguments:
            gradients: One for each parameter.
            rate: The learning rate η.
            divisor: What gradients are divided by, a scalar.
            good: Whether anything changes, a boolean scalar.
        """
        some = [number for number, gradient in enumerate(gradients) if gradient is not None]
        adam(
            [self.parameters[number] for number in some],
            [gradient for gradient in gradients if gradient is not None],
            [self.means[number] for number in some],
            [self.squares[number] for number in some],
            [],
            [self.each_count[number] for number in some],
            fused=True,
            grad_scale=divisor,
            found_inf=(~good).float(),
            decoupled_weight_decay=True,
            amsgrad=False,
            beta1=_FIRST,
            beta2=_SECOND,
            lr=rate,
            weight_decay=self.decay,
            eps=_TINY,
            maximize=False,
        )

    @torch.no_grad()
    def trace(self, gradients: Sequence[Tensor | None], rate: Tensor, *, divisor: Tensor, good: Tensor) -> None:
        """The same update in operations that a compiler fuses with those around them; ``rate`` is a scalar too."""
        taken = good.float()
        self.counts.add_(taken * self._used(gradients))
        counts = self.counts.clamp(min=1.0)  # if the very first update is refused, there is none yet
        shape = torch.ones_like(counts)
        # What all elements share stands in one table: a compiler would compute it anew for each of them otherwise.
        table = torch.stack(
            [
                shape / divisor,
                shape * taken * (1 - _FIRST),
                shape * taken * (1 - _SECOND),
                taken * rate / (1 - _FIRST**counts),
                (1 - _SECOND**counts).rsqrt(),
                1 - shape * taken * rate * self.decay,
            ]
        )
        for number, gradient in enumerate(gradients):
            if gradient is not None:
                self._trace_one(number, gradient, table[:, number])

    def _trace_one(self, number: int, gradient: Tensor, shared: Tensor) -> None:
        parameter, mean, square = self.parameters[number], self.means[number], self.squares[number]
        scale, first, second, rate, correction, kept = shared.unbind()
        gradient = torch.where(first > 0, gradient * scale, 0.0)  # one that is not finite must not reach the sums
        mean.add_(first * (gradient - mean))
        square.add_(second * (gradient * gradient - square))
        step = rate * mean / (square.sqrt() * correction + _TINY)
        parameter.copy_((parameter * kept if self.decay else parameter) - step)

    def _used(self, gradients: Sequence[Tensor | None]) -> Tensor:
        return self.counts.new_tensor([float(gradient is not None) for gradient in gradients])

    def restart(self) -> None:
        """Forgets all that was learned of the gradients."""
        for tensor in (*self.means, *self.squares, self.counts):
            tensor.zero_()

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint keeps."""
        return {
            f"{number}.{name}": tensor
            for number, tensors in enumerate(zip(self.means, self.squares, self.each_count, strict=True))
            for name, tensor in zip(_NAMES, tensors, strict=True)
        }

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Goes back to what a checkpoint kept.

        Raises:
            KeyError: If something is missing.
            RuntimeError: If a shape is another one.
        """
        for name, tensor in self.state().items():
            tensor.copy_(tensors[name])
