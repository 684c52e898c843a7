"""The options of ``jensen fit``: those of every training, and those of each model. Nothing here imports torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

__all__ = [
    "DenseOptions",
    "DivergenceOptions",
    "FitOptions",
    "LikelihoodOptions",
    "PosteriorOptions",
    "TextOptions",
    "WeightedOptions",
    "WidthOptions",
]

LikelihoodName = Literal["auto", "bernoulli", "categorical", "discretized-logistic", "normal"]
PosteriorName = Literal["auto", "diagonal", "full", "low-rank", "mixture", "flow"]
LevelName = Literal["word", "char", "byte", "bpe"]
PriorName = Literal["standard", "mixture", "vamp", "flow"]
EstimatorName = Literal["auto", "reparameterised", "sticking-the-landing", "doubly-reparameterised"]
NetworkName = Literal["auto", "mlp", "gated", "residual", "conv"]
BinarisationName = Literal["none", "static", "dynamic", "threshold"]

Positive = Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)]


class FitOptions(BaseModel):
    """The options of every training; None means that the data decide."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = Field(default="vae", description="Which model; jensen models lists them.")
    epochs: float | None = Field(
        default=None, gt=0, le=10**7, allow_inf_nan=False, description="How often each training row is seen."
    )
    steps: int | None = Field(default=None, ge=1, le=10**9, description="The number of steps, instead of --epochs.")
    time_budget: float | None = Field(
        default=None,
        gt=0,
        le=10**8,
        allow_inf_nan=False,
        description="The time to train, validations included, instead of --epochs: such as 90s, 10m or 1.5h. It is "
        "turned into a number of steps before the first one, and no clock decides anything after that.",
    )
    batch_size: int | None = Field(default=None, ge=1, le=10**7, description="The largest number of rows in a batch.")
    learning_rate: float | None = Field(
        default=None, gt=0, le=10, allow_inf_nan=False, description="The peak of the learning rate."
    )
    constant_rate: bool = Field(
        default=False, description="Keep the learning rate at its peak, rather than let it fall along half a cosine."
    )
    weight_decay: float = Field(
        default=0.0, ge=0, le=10, allow_inf_nan=False, description="The decoupled weight decay (AdamW)."
    )
    clip: float = Field(
        default=5.0,
        ge=0,
        le=1e6,
        allow_inf_nan=False,
        description="Shorten gradients that are longer than this multiple of their usual length; 0 for never.",
    )
    average: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="The decay of a moving average of the weights, which is then validated and kept, such as 0.999.",
    )
    patience: int | None = Field(
        default=None, ge=1, le=10**9, description="Stop after this many validations in a row without a better bound."
    )
    validate_every: int | None = Field(
        default=None, ge=1, le=10**9, description="The number of steps between two validations."
    )
    checkpoint_every: int | None = Field(
        default=None, ge=1, le=10**9, description="The number of steps between two checkpoints."
    )
    seed: int = Field(default=0, ge=0, lt=2**62, description="The seed of initial weights, order and noise.")
    data_seed: int = Field(default=0, ge=0, lt=2**62, description="The seed of splits and of frozen binarisation.")
    binarisation: BinarisationName | None = Field(default=None, description="How grey values become zeros and ones.")
    key: str | None = Field(default=None, description="Which array of an .npz file to take.")
    image_size: int | None = Field(
        default=None,
        ge=4,
        le=1024,
        description="The height and width that the images of a folder are made to, from 4 to 1024 pixels; by default "
        "64, or the median short side where that is smaller.",
    )
    samples: int | None = Field(
        default=None,
        ge=1,
        le=10**6,
        description="The number of samples K of the final bound on log p(x); by default up to 1000, fewer for many or "
        "large rows.",
    )
    device: str = Field(
        default="auto", description="Where to compute: auto, cpu, cuda or another name that torch knows."
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        default="auto",
        description="What the networks compute in while training; densities, weights and all reported numbers are fp32 "
        "or better.",
    )
    compile: Literal["auto", "on", "off"] = Field(default="auto", description="Compile the step with torch.compile.")


class WidthOptions(FitOptions):
    """The sizes of the networks."""

    hidden: tuple[int, ...] | None = Field(
        default=None, description="The widths of the hidden layers of the encoder, such as 500,500; 0 for none."
    )
    latents: int | None = Field(default=None, ge=1, le=4096, description="The number of latents.")

    @field_validator("hidden")
    @classmethod
    def _check_hidden(cls, value: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if value is not None and not all(1 <= width <= 65536 for width in value):
            raise ValueError("each width lies between 1 and 65536")
        return value


class DenseOptions(WidthOptions):
    """The kind of the networks."""

    network: NetworkName = Field(default="auto", description="Dense, gated dense, residual dense or convolutional.")


class LikelihoodOptions(FitOptions):
    """The distribution p(x|z)."""

    likelihood: LikelihoodName = Field(
        default="auto", description="The distribution p(x|z); by default from the values."
    )
    noise: float | None = Field(
        default=None,
        ge=1e-6,
        le=1e6,
        allow_inf_nan=False,
        description="A fixed standard deviation of a normal likelihood, in units of standardised data; by default it "
        "is learned.",
    )


class PosteriorOptions(FitOptions):
    """The distribution q(z|x)."""

    posterior: PosteriorName = Field(default="auto", description="The family of q(z|x).")


class DivergenceOptions(FitOptions):
    """How the KL is weighted and computed."""

    k: int = Field(default=1, ge=1, le=1000, description="The number of samples of each row in training.")
    beta: float = Field(default=1.0, gt=0, le=1e6, allow_inf_nan=False, description="The weight of the KL in the loss.")
    kl_warmup: int | None = Field(
        default=None,
        ge=0,
        le=10**9,
        description="The number of steps in which the weight of the KL rises from zero; by default a quarter of all, 0 "
        "for none.",
    )
    free_bits: float = Field(
        default=0.0,
        ge=0,
        le=1e6,
        allow_inf_nan=False,
        description="The nats per latent below which the KL costs nothing.",
    )
    sampled_kl: bool = Field(default=False, description="Estimate the KL from samples instead of its formula.")
    estimator: EstimatorName = Field(default="auto", description="The estimator of the encoder's gradient.")


class WeightedOptions(FitOptions):
    """How several weighted samples are used."""

    k: int = Field(default=8, ge=2, le=1000, description="The number of samples of each row in training.")
    estimator: EstimatorName = Field(default="auto", description="The estimator of the encoder's gradient.")


class TextOptions(FitOptions):
    """How sentences become rows, and the sizes of the networks that read and write them."""

    level: LevelName = Field(default="word", description="What a token is: a word, a character, a byte or a piece.")
    vocabulary: int | None = Field(
        default=None, ge=1, le=999_000, description="The largest number of words, characters or pieces that are known."
    )
    max_length: int | None = Field(
        default=None,
        ge=2,
        le=4096,
        description="The largest number of tokens in a row, the end included; longer sentences are cut.",
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


class VAEOptions(DenseOptions, LikelihoodOptions, PosteriorOptions, DivergenceOptions):
    """Options of ``vae``."""

    prior: PriorName = Field(default="standard", description="The prior p(z).")


class BetaVAEOptions(DenseOptions, LikelihoodOptions, PosteriorOptions, DivergenceOptions):
    """Options of ``beta-vae``."""

    model: str = "beta-vae"
    beta: float = Field(
        default=4.0, gt=0, le=1e6, allow_inf_nan=False, description="The weight β of the KL in the loss."
    )


class IWAEOptions(DenseOptions, LikelihoodOptions, PosteriorOptions, WeightedOptions):
    """Options of ``iwae``."""

    model: str = "iwae"
    prior: PriorName = Field(default="standard", description="The prior p(z).")


class BetaTCVAEOptions(DenseOptions, LikelihoodOptions):
    """Options of ``beta-tcvae``."""

    model: str = "beta-tcvae"
    beta: Positive = Field(default=6.0, description="The weight β of the total correlation.")
    alpha: Positive = Field(default=1.0, description="The weight α of the information between code and row.")
    gamma: Positive = Field(default=1.0, description="The weight γ of the dimension-wise KL.")


class VampPriorOptions(DenseOptions, LikelihoodOptions, DivergenceOptions):
    """Options of ``vampprior-vae``."""

    model: str = "vampprior-vae"
    posterior: Literal["diagonal", "full"] = Field(default="diagonal", description="The family of q(z|x).")
    pseudo_inputs: int | None = Field(
        default=None, ge=1, le=10_000, description="The number of learned rows in the prior."
    )


class FlowVAEOptions(DenseOptions, LikelihoodOptions, DivergenceOptions):
    """Options of ``flow-vae``."""

    model: str = "flow-vae"
    prior: PriorName = Field(default="standard", description="The prior p(z).")


class FlowPriorOptions(DenseOptions, LikelihoodOptions, PosteriorOptions, DivergenceOptions):
    """Options of ``flow-prior-vae``."""

    model: str = "flow-prior-vae"


class HypersphericalOptions(DenseOptions, LikelihoodOptions, DivergenceOptions):
    """Options of ``hyperspherical-vae``."""

    model: str = "hyperspherical-vae"


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


class LanguageModelOptions(TextOptions):
    """Options of ``language-model``."""

    model: str = "language-model"


class PixelOptions(FitOptions):
    """The network that predicts a pixel from those before it."""

    variant: Literal["gated", "rnn"] = Field(
        default="gated", description="Gated masked convolutions, or LSTMs from row to row."
    )
    width: int | None = Field(default=None, ge=1, le=4096, description="The number of features of each pixel.")
    layers: int | None = Field(default=None, ge=1, le=100, description="The number of layers over pixels.")
    kernel: int = Field(default=3, ge=3, le=31, description="The width of the convolutions after the first; odd.")

    @field_validator("kernel")
    @classmethod
    def _check_kernel(cls, value: int) -> int:
        if value % 2 == 0:
            raise ValueError("a kernel is odd, so that it has a middle")
        return value


class PixelCNNOptions(LikelihoodOptions, PixelOptions):
    """Options of ``pixelcnn``."""

    model: str = "pixelcnn"


class PixelVAEOptions(DenseOptions, LikelihoodOptions, PosteriorOptions, DivergenceOptions, PixelOptions):
    """Options of ``pixel-vae``."""

    model: str = "pixel-vae"
    prior: PriorName = Field(default="standard", description="The prior p(z).")
    samples: int | None = Field(
        default=20,
        ge=1,
        le=10**6,
        description="The number of samples K of the final bound on log p(x); each costs a pass over all pixels.",
    )


class ConditionalVAEOptions(DenseOptions, LikelihoodOptions, DivergenceOptions):
    """Options of ``conditional-vae``."""

    model: str = "conditional-vae"
    posterior: Literal["auto", "diagonal", "full", "low-rank", "mixture"] = Field(
        default="auto", description="The family of q(z|x, y)."
    )
    prior: Literal["standard", "conditioned"] = Field(
        default="standard", description="The prior p(z), or one for each label."
    )


class SemiSupervisedOptions(DenseOptions, LikelihoodOptions):
    """Options of ``semi-supervised-vae``."""

    model: str = "semi-supervised-vae"
    labelled: int = Field(default=100, ge=2, le=10**9, description="The number of training rows whose label is used.")
    alpha: Positive = Field(default=10.0, description="The weight α of the classifier's loss on labelled rows, nats.")
    beta: Positive = Field(default=1.0, description="The weight of the KL in the loss.")
    kl_warmup: int | None = Field(
        default=None,
        ge=0,
        le=10**9,
        description="The number of steps in which the weight of the KL rises from zero; by default a quarter of all, 0 "
        "for none.",
    )
    posterior: Literal["auto", "diagonal", "full", "low-rank", "mixture"] = Field(
        default="auto", description="The family of q(z|x, y)."
    )


class LadderOptions(LikelihoodOptions, DivergenceOptions):
    """Options of ``ladder-vae``."""

    model: str = "ladder-vae"
    groups: tuple[int, ...] | None = Field(
        default=None,
        description="The latents of each group, from the top, such as 8,16,16; of convolutions, those at each place.",
    )
    network: Literal["auto", "mlp", "conv"] = Field(
        default="auto", description="Dense, or convolutions, which images of 32 x 32 pixels and more have."
    )
    width: int | None = Field(default=None, ge=2, le=65536, description="The width of the networks, or their channels.")
    blocks: int = Field(default=1, ge=1, le=100, description="The residual blocks of each group and resolution.")

    @field_validator("groups")
    @classmethod
    def _check_groups(cls, value: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if value is not None and not (value and all(1 <= latents <= 4096 for latents in value)):
            raise ValueError("each group has between 1 and 4096 latents")
        return value


class IBPOptions(DenseOptions, LikelihoodOptions):
    """Options of ``ibp-vae``."""

    model: str = "ibp-vae"
    alpha: float = Field(
        default=5.0, gt=0.1, le=1e6, allow_inf_nan=False, description="The number of features that are on, expected."
    )
    structured: bool = Field(default=True, description="Whether q of a row's features depends on the sticks.")
    loadings: bool = Field(default=True, description="Whether a feature that is on has a strength.")
    relaxation: Literal["straight-through", "relaxed"] = Field(
        default="straight-through",
        description="What training sees: features that are 0 or 1 with the gradient of relaxed ones, or those, as "
        "published, whose bound is that of another model.",
    )
    temperature: Positive = Field(default=0.3, description="The temperature of the relaxation.")
    prior_temperature: Positive = Field(default=0.25, description="That of the prior of relaxed features.")
    k: int = Field(default=1, ge=1, le=1000, description="The number of samples of each row in training.")
    start_beta: Positive = Field(
        default=1.0,
        description="The weight of the KL in the first step, from which it goes to 1, three times: above 1, such as "
        "12, features appear one after the other, and those that say the same twice are given up.",
    )
    sampled_kl: bool = Field(default=False, description="Estimate the KL from samples instead of its formula.")


class BayesianDecoderOptions(DenseOptions, LikelihoodOptions, PosteriorOptions, DivergenceOptions):
    """Options of ``bayesian-decoder``."""

    model: str = "bayesian-decoder"
    weight_scale: Positive = Field(
        default=1.0,
        description="The standard deviation of a weight under the prior, times the root of the number of inputs; "
        "where it starts, if it is learned.",
    )
    weight_kl: Positive = Field(
        default=0.1,
        description="The weight of the KL of the decoder's weights in the loss: below 1 their posterior is a cold one, "
        "narrower than the model implies. Bounds that are reported have weight 1.",
    )
    fixed_scale: bool = Field(default=False, description="Keep these standard deviations instead of learning them.")


class StickBreakingOptions(DenseOptions, LikelihoodOptions, DivergenceOptions):
    """Options of ``stick-breaking-vae``."""

    model: str = "stick-breaking-vae"
    alpha: Positive = Field(default=5.0, description="The concentration α: the larger, the more pieces matter.")
    kl_terms: int | None = Field(
        default=None,
        ge=1,
        le=10_000,
        description="The number of terms of the series in the KL, as published 10, which leaves some of it out; by "
        "default it is computed whole.",
    )


class VQVAEOptions(LikelihoodOptions):
    """Options of ``vq-vae``."""

    model: str = "vq-vae"
    network: Literal["auto", "mlp", "conv"] = Field(
        default="auto", description="Dense or convolutional; by default convolutional for images."
    )
    width: int | None = Field(default=None, ge=1, le=4096, description="The number of features of the networks.")
    codes: int | None = Field(
        default=None, ge=2, le=65536, description="The number of vectors in the codebook; by default 512 or 64."
    )
    code_size: int = Field(default=64, ge=1, le=4096, description="The number of values in each vector.")
    positions: int | None = Field(
        default=None, ge=1, le=4096, description="The number of codes of a row, for dense networks."
    )
    commitment: float = Field(
        default=0.25,
        ge=0,
        le=1e6,
        allow_inf_nan=False,
        description="The weight of the encoder's squared distance from its codes, nats.",
    )
    decay: float = Field(default=0.99, ge=0, lt=1, description="The decay of the moving averages of the codebook.")
    code_prior: Literal["pixelcnn", "transformer", "uniform"] = Field(
        default="pixelcnn", description="The prior over codes: learned, each code from those before it, or uniform."
    )
    samples: int | None = Field(
        default=1, ge=1, le=10**6, description="The number of samples of the final bound, which does not move with it."
    )


class WAEOptions(DenseOptions, LikelihoodOptions):
    """Options of ``wae-mmd``."""

    model: str = "wae-mmd"
    weight: Positive = Field(default=100.0, description="The weight λ of the discrepancy, nats.")
    kl: float = Field(
        default=0.0, ge=0, le=1e6, allow_inf_nan=False, description="The weight of the KL, for an InfoVAE."
    )


class AutoencoderOptions(DenseOptions, LikelihoodOptions):
    """Options of ``autoencoder``."""

    model: str = "autoencoder"
