"""The options of ``jensen fit``: those of every training, and those of each model. Nothing here imports torch."""

from .labels import ConditionalVAEOptions, SemiSupervisedOptions
from .pixels import PixelCNNOptions, PixelOptions, PixelVAEOptions
from .plain import (
    AutoencoderOptions,
    BetaTCVAEOptions,
    BetaVAEOptions,
    FlowPriorOptions,
    FlowVAEOptions,
    HypersphericalOptions,
    IWAEOptions,
    VAEOptions,
    VampPriorOptions,
    WAEOptions,
)
from .shared import DenseOptions, DivergenceOptions, LikelihoodOptions, PosteriorOptions, WeightedOptions, WidthOptions
from .structured import BayesianDecoderOptions, IBPOptions, LadderOptions, StickBreakingOptions, VQVAEOptions
from .text import LanguageModelOptions, SentenceVAEOptions, TextOptions
from .training import FitOptions

__all__ = [
    "AutoencoderOptions",
    "BayesianDecoderOptions",
    "BetaTCVAEOptions",
    "BetaVAEOptions",
    "ConditionalVAEOptions",
    "DenseOptions",
    "DivergenceOptions",
    "FitOptions",
    "FlowPriorOptions",
    "FlowVAEOptions",
    "HypersphericalOptions",
    "IBPOptions",
    "IWAEOptions",
    "LadderOptions",
    "LanguageModelOptions",
    "LikelihoodOptions",
    "PixelCNNOptions",
    "PixelOptions",
    "PixelVAEOptions",
    "PosteriorOptions",
    "SemiSupervisedOptions",
    "SentenceVAEOptions",
    "StickBreakingOptions",
    "TextOptions",
    "VAEOptions",
    "VQVAEOptions",
    "VampPriorOptions",
    "WAEOptions",
    "WeightedOptions",
    "WidthOptions",
]
