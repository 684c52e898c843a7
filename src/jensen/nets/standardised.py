"""Networks whose inputs are brought to the scale that their initial weights expect."""

from __future__ import annotations

from torch import Tensor, nn

from ..errors import OptionError, ShapeError
from ..spec import declared

__all__ = ["Standardised"]


@declared("nets.Standardised")
class Standardised(nn.Module):
    r"""A network that sees :math:`(x - m) / s` where it is given x.

    Initial weights, and steps of Adam, suit inputs of variance 1; of inputs that are much smaller a network learns
    late.

    References:
        LeCun, Bottou, Orr, Müller (1998), Efficient BackProp.

    Arguments:
        net: The network, from (N, D).
        mean: What is subtracted, shape (D,).
        scale: What the rest is divided by, shape (D,); positive.

    Raises:
        ShapeError: If mean and scale are not vectors of the same length.
        OptionError: If a scale is not positive, or a value not finite.

    Example:
        >>> import torch
        >>> net = Standardised(nn.Identity(), torch.tensor([1.0, 0.0]), torch.tensor([2.0, 0.1]))
        >>> net(torch.tensor([[3.0, 0.1]]))
        tensor([[1., 1.]])
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, net: nn.Module, mean: Tensor, scale: Tensor) -> None:
        super().__init__()
        if mean.ndim != 1 or mean.shape != scale.shape:
            raise ShapeError(
                "mean and scale are vectors with an entry for each input; "
                f"got shapes {tuple(mean.shape)} and {tuple(scale.shape)}."
            )
        if not (mean.isfinite().all() and scale.isfinite().all() and (scale > 0).all()):
            raise OptionError("inputs are divided by their scale, which must be positive and finite in every entry.")
        self.register_buffer("mean", mean.clone())
        self.register_buffer("scale", scale.clone())
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.net((x - self.mean) / self.scale)
        return y
