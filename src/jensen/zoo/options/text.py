"""The options of models of sentences."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from .shared import DivergenceOptions
from .training import FitOptions

__all__ = ["LanguageModelOptions", "SentenceVAEOptions", "TextOptions"]

LevelName = Literal["word", "char", "byte", "bpe"]


class TextOptions(FitOptions):
    """How sentences become rows, and the sizes of the networks that read and write them."""

    level: LevelName = Field(default="word", description="What a token is: a word, a character, a byte or a piece.")
    vocabulary: int | None = Field(
        default=None,
        ge=1,
        le=999_000,
        description="The largest number of words, characters or pieces that are known; what occurs once is not.",
    )
    max_length: int | None = Field(
        default=None,
        ge=2,
        le=4096,
        description="The largest number of tokens in a row, the end included; longer sentences are cut.",
    )
    chunks: bool = Field(
        default=False,
        description="Take the text as running on from line to line, and cut it into rows of --max-length tokens.",
    )
    embedding: int = Field(default=128, ge=1, le=65536, description="The width of the vector of each token.")
    units: int = Field(default=256, ge=1, le=65536, description="The width of the state of the LSTMs.")
    dropout: float = Field(
        default=0.3, ge=0, lt=1, description="The share of vectors and states that is left out in training."
    )
    word_dropout: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="The share of words that the decoder is not shown in training, so that it has to ask z.",
    )


class SentenceVAEOptions(TextOptions, DivergenceOptions):
    """Options of ``sentence-vae``."""

    model: str = "sentence-vae"
    latents: int = Field(default=32, ge=1, le=4096, description="The number of latents.")
    annealing: Literal["linear", "sigmoid"] = Field(
        default="linear", description="How the weight of the KL rises over --kl-warmup."
    )
    free_bits_total: float | None = Field(
        default=None,
        ge=0,
        le=1e6,
        allow_inf_nan=False,
        description="The nats of all latents together below which the KL costs nothing; by default 5, or half the "
        "logarithm of the number of training rows if that is less, and 0 with --free-bits.",
    )
    aggressive: int = Field(
        default=0,
        ge=0,
        le=10**9,
        description="The number of steps, from the first on, of which nine in ten train the encoder alone.",
    )
    skip: bool = Field(
        default=True, description="Whether tokens are predicted from z itself beside the decoder's state."
    )


class LanguageModelOptions(TextOptions):
    """Options of ``language-model``."""

    model: str = "language-model"
