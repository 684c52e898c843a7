"""Networks: plain functions that return a module from (N, *in) to (N, out)."""

from .conv import conv_decoder, conv_encoder
from .linear import Linear
from .mlp import gated_mlp, mlp, residual_mlp
from .sequence import LSTMDecoder, LSTMEncoder

__all__ = ["LSTMDecoder", "LSTMEncoder", "Linear", "conv_decoder", "conv_encoder", "gated_mlp", "mlp", "residual_mlp"]
