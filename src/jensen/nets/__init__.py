"""Networks: plain functions that return a module from (N, *in) to (N, out)."""

from .causal import CausalTransformer
from .codebook import Codebook
from .conv import conv_decoder, conv_encoder
from .grid import grid_decoder, grid_encoder, grid_of
from .ladder import ResidualUpdate, residual_features
from .ladder_conv import ConvFeatures, ConvUpdate, conv_head, conv_likelihood, resolutions
from .linear import Linear
from .mlp import gated_mlp, mlp, residual_mlp
from .pixelcnn import GatedPixelCNN
from .row_lstm import RowLSTM
from .sequence import LSTMDecoder, LSTMEncoder
from .standardised import Standardised

__all__ = [
    "CausalTransformer",
    "Codebook",
    "GatedPixelCNN",
    "RowLSTM",
    "LSTMDecoder",
    "LSTMEncoder",
    "Linear",
    "ResidualUpdate",
    "Standardised",
    "conv_decoder",
    "conv_encoder",
    "gated_mlp",
    "grid_decoder",
    "grid_encoder",
    "grid_of",
    "mlp",
    "residual_features",
    "residual_mlp",
    "ConvFeatures",
    "ConvUpdate",
    "conv_head",
    "conv_likelihood",
    "resolutions",
]
